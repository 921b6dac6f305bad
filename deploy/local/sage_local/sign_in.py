"""Sign-in to a stack: whose tokens count, and the tokens that its own parts show each other."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from sage_gateway.config import GatewaySettings
from sage_runtime.exposure import token_paths
from sage_runtime.tokens.model import PREFIX, Scope, Token, digest_of

from sage_local.state import State

_TOKENS_FILE = "SAGE_TOKENS_FILE"
_SERVICE_TOKEN = "SAGE_SERVICE_TOKEN"  # noqa: S105 -- the name of a variable
_GATEWAY_TOKEN = "SAGE_GATEWAY_TOKEN"  # noqa: S105 -- the name of a variable
# Either makes callers sign in; without both everybody on this machine is let in, and nobody else reaches it.
_ASKING = (_TOKENS_FILE, "SAGE_GATEWAY_OIDC_ISSUER")

# For a stack that asks nobody and that nobody else reaches, whatever the environment says: without TLS, limits, names.
_GATEWAY = tuple(str(field.validation_alias) for field in GatewaySettings.model_fields.values())
OPEN_AND_LOCAL = dict.fromkeys((*_ASKING, "SAGE_SIGN_IN", *(one for one in _GATEWAY if "_GATEWAY_" in one)), "")


@dataclass(frozen=True)
class SignInSettings:
    """Variables for the parts of a stack. Empty ones take away what they would inherit.

    Attributes:
        services: For every service and worker.
        workers: For workers besides.
        gateway: For the gateway.
    """

    services: dict[str, str] = field(default_factory=dict)
    workers: dict[str, str] = field(default_factory=dict)
    gateway: dict[str, str] = field(default_factory=dict)


def prepare_sign_in(state: State, environment: Mapping[str, str]) -> SignInSettings:
    """Return how a stack's parts are to be set, making the tokens that they show each other.

    The files that SAGE_TOKENS_FILE names are people's and stay as they are; a file of the stack's own stands beside
    them.

    Args:
        state: Where that file and the tokens are kept.
        environment: Settings on top of those of this process.
    """
    given = {**os.environ, **environment}
    if given.get("SAGE_SIGN_IN") == "off" or not any(given.get(name) for name in _ASKING):
        return SignInSettings()
    service, gateway = (PREFIX + state.secret(name) for name in ("service-token", "gateway-token"))
    own = state.write_tokens(
        Token("service", Scope.READ, digest_of(service)).line(),
        Token("gateway", Scope.GATEWAY, digest_of(gateway)).line(),
    )
    files = [*(path.absolute() for path in token_paths(given.get(_TOKENS_FILE, ""))), own]
    return SignInSettings(
        services={_TOKENS_FILE: ",".join(map(str, files)), _SERVICE_TOKEN: "", _GATEWAY_TOKEN: "", "SAGE_TOKEN": ""},
        workers={_SERVICE_TOKEN: given.get(_SERVICE_TOKEN) or service},
        gateway={_GATEWAY_TOKEN: given.get(_GATEWAY_TOKEN) or gateway},
    )
