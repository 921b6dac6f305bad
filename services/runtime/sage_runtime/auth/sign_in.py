"""Identifies callers, checks what they may call, and whether a server may start without sign-in."""

import ipaddress
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from google.protobuf import descriptor_pool
from google.protobuf.descriptor_pb2 import MethodOptions

from sage_runtime.auth.tokens import Scope, Token, TokenFiles, TokensError
from sage_runtime.errors import Reason, SageError
from sage_runtime.process.settings import ServerSettings

AUTHORIZATION_KEY = "authorization"
GATEWAY_TOKEN_KEY = "x-sage-gateway-token"  # noqa: S105 -- the name of a header
USER_KEY = "x-sage-user"
USER_SCOPE_KEY = "x-sage-scope"

Metadata = Sequence[tuple[str, str | bytes]]
Credential = tuple[tuple[str, str], ...]

_KEYS = (AUTHORIZATION_KEY, GATEWAY_TOKEN_KEY, USER_KEY, USER_SCOPE_KEY)
# The names of the scopes at an OIDC provider, among others that are not SAGE's.
_USER_SCOPES = {"sage:write": Scope.WRITE, "sage:read": Scope.READ}
_MAX_USER = 128
_HEALTH = "/grpc.health.v1.Health/"
_REFLECTION = "/grpc.reflection."


@dataclass(frozen=True)
class Caller:
    """The caller.

    Attributes:
        name: For the log: a token's name, or `user:` and the user's name at an OIDC provider. Empty without sign-in.
        scope: What the caller may do, or `None` for nothing.
        credential: The metadata that the caller signed in with, for calls on the caller's behalf.
    """

    name: str = ""
    scope: Scope | None = None
    credential: Credential = field(default=(), repr=False)


ANONYMOUS = Caller()


class ReadMethods:
    """The RPCs that need only the scope `read`.

    These are the ones with `idempotency_level = NO_SIDE_EFFECTS`, the additional ones that a service names, and
    reflection.

    Args:
        services: For each full service name the names of its additional RPCs. A service without generated code in this
            process has no others.

    Raises:
        LookupError: A service does not have an RPC that is named for it.
    """

    def __init__(self, services: Mapping[str, Collection[str]]) -> None:
        self._paths = frozenset(path for name, additional in services.items() for path in _read_paths(name, additional))

    def __contains__(self, path: str) -> bool:
        """Return whether `/package.Service/Method` is one of them. Unknown methods are not."""
        return path in self._paths or path.startswith(_REFLECTION)


class SignIn:
    """Accepts calls with a valid token whose scope covers their method.

    Args:
        tokens: The valid tokens.
        reads: The methods that need only the scope `read`.
    """

    def __init__(self, tokens: TokenFiles, reads: ReadMethods) -> None:
        self._tokens = tokens
        self._reads = reads

    def identify(self, metadata: Metadata) -> Caller:
        """Return who makes a call.

        Raises:
            SageError: UNAUTHENTICATED.
        """
        sent = _sent(metadata)
        if AUTHORIZATION_KEY in sent:
            # A user's name beside it is ignored: the gateway sends one or the other.
            token = self._check(_bearer(sent[AUTHORIZATION_KEY]))
            if token.scope is Scope.GATEWAY:
                raise _unauthenticated("The gateway's own token cannot be used to sign in.", detail=token.name)
            credential = ((AUTHORIZATION_KEY, sent[AUTHORIZATION_KEY]),)
            return Caller(token.name, token.scope, credential)
        if sent.get(USER_KEY) and GATEWAY_TOKEN_KEY in sent:
            token = self._check(sent[GATEWAY_TOKEN_KEY])
            if token.scope is not Scope.GATEWAY:
                raise _unauthenticated("The token sent with the user's name is not a gateway's.", detail=token.name)
            return Caller(f"user:{sent[USER_KEY][:_MAX_USER]}", _user_scope(sent), tuple(sent.items()))
        raise _unauthenticated("The call has no token.")

    def authorize(self, caller: Caller, method: str) -> None:
        """Check that the caller may call the method.

        Raises:
            SageError: FORBIDDEN.
        """
        needs = Scope.READ if method in self._reads else Scope.WRITE
        if caller.scope is Scope.WRITE or caller.scope is needs:
            return
        raise SageError(Reason.FORBIDDEN, needs=needs, has=caller.scope or "nothing")

    def _check(self, secret: str) -> Token:
        try:
            self._tokens.check_not_stale()
        except TokensError as error:
            why = "This server cannot check tokens, because its tokens file cannot be read. Its operator must fix it."
            raise _unauthenticated(why, detail=str(error)) from error
        token = self._tokens.find(secret)
        if token is None:
            raise _unauthenticated("The token is not known here.")
        if token.expired():
            raise _unauthenticated("The token has expired.", detail=f"{token.name}, {token.expires}")
        return token


def needs_token(method: str) -> bool:
    """Return whether callers of the method must sign in. Health is open: probes have no tokens."""
    return not method.startswith(_HEALTH)


def _read_paths(service_name: str, additional: Collection[str]) -> Iterator[str]:
    try:
        service = descriptor_pool.Default().FindServiceByName(service_name)
    except KeyError:
        marked, unknown = set(), set()
    else:
        marked = {
            method.name
            for method in service.methods
            if method.GetOptions().idempotency_level == MethodOptions.NO_SIDE_EFFECTS
        }
        unknown = set(additional) - set(service.methods_by_name)
    if unknown:
        raise LookupError(f"{service_name} has no RPC {', '.join(sorted(unknown))}")
    for method in marked.union(additional):
        yield f"/{service_name}/{method}"


def _sent(metadata: Metadata) -> dict[str, str]:
    sent: dict[str, str] = {}
    for key, value in metadata:
        if key in _KEYS:
            # Proxies and servers disagree on which of two counts.
            if key in sent or not isinstance(value, str):
                raise _unauthenticated(f"The call has more than one {key}.")
            sent[key] = value
    return sent


def _bearer(authorization: str) -> str:
    scheme, _, secret = authorization.partition(" ")
    if scheme.lower() != "bearer" or not secret.strip():
        raise _unauthenticated("The authorization does not have the form `Bearer TOKEN`.")
    return secret.strip()


def _user_scope(sent: dict[str, str]) -> Scope | None:
    words = sent.get(USER_SCOPE_KEY, "").split()
    return next((scope for word, scope in _USER_SCOPES.items() if word in words), None)


def _unauthenticated(why: str, *, detail: str = "") -> SageError:
    return SageError(Reason.UNAUTHENTICATED, why=why, detail=detail)


HOW_TO_MAKE_A_TOKEN = "`python -m sage_runtime.auth new NAME --scope write --file FILE` makes a token"  # noqa: S105


class StartError(Exception):
    """A server cannot start with its settings. The message is for its operator."""


class ListenError(StartError):
    """The listen address is in use, does not belong to this machine, or is open to others without sign-in."""


def is_loopback(host: str) -> bool:
    """Return whether a host is reachable from this machine only. A name other than localhost may be any address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _host_of(listen: str) -> str:
    return listen.rpartition(":")[0].removeprefix("[").removesuffix("]")


def open_tokens(settings: ServerSettings, *, variable: str) -> TokenFiles | None:
    """Return the tokens that callers of a server sign in with, or `None` if it accepts every call.

    Args:
        settings: The server's settings.
        variable: The environment variable that sets its listen address.

    Raises:
        ListenError: It would listen beyond this machine without sign-in, and SAGE_SIGN_IN is not `off`.
        StartError: The settings contradict each other, or the tokens cannot be read.
    """
    paths = token_paths(settings.tokens_file)
    if settings.sign_in == "off":
        if paths:
            raise StartError("SAGE_SIGN_IN is off, but SAGE_TOKENS_FILE is set: unset one of them.")
        return None
    if not paths:
        if settings.sign_in == "on":
            raise StartError(f"SAGE_SIGN_IN is on, but SAGE_TOKENS_FILE is not set. {HOW_TO_MAKE_A_TOKEN}.")
        if not is_loopback(_host_of(settings.listen)):
            raise ListenError(
                f"{variable} is {settings.listen}, which other machines can reach, and callers need not sign in. Set "
                f"SAGE_TOKENS_FILE ({HOW_TO_MAKE_A_TOKEN}), listen on 127.0.0.1, or accept every call with "
                "SAGE_SIGN_IN=off."
            )
        return None
    try:
        return TokenFiles(paths, max_stale_s=settings.tokens_max_stale_s)
    except TokensError as error:
        raise StartError(f"SAGE_TOKENS_FILE: {error}.") from error


def check_metrics_address(settings: ServerSettings) -> None:
    """Check that metrics, for which no one signs in, are served to other machines only if the settings say so.

    Raises:
        ListenError: They must not be served there.
    """
    if not settings.metrics_public and not is_loopback(_host_of(settings.metrics_listen)):
        raise ListenError(
            f"SAGE_METRICS_LISTEN is {settings.metrics_listen}, which other machines can reach, and metrics need no "
            "token. Listen on 127.0.0.1, or allow it with SAGE_METRICS_PUBLIC=true."
        )


def token_paths(tokens_file: str) -> list[Path]:
    """Return the files that a value of SAGE_TOKENS_FILE names."""
    return [Path(path.strip()) for path in tokens_file.split(",") if path.strip()]
