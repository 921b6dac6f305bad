"""Who makes a call, and whether the call is theirs to make."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from sage_runtime.access import ReadMethods, is_open
from sage_runtime.errors import Reason, SageError
from sage_runtime.tokens.files import TokenFiles
from sage_runtime.tokens.model import Scope, Token

AUTHORIZATION_KEY = "authorization"
GATEWAY_TOKEN_KEY = "x-sage-gateway-token"  # noqa: S105 -- the name of a header
USER_KEY = "x-sage-user"
USER_SCOPE_KEY = "x-sage-scope"

Metadata = Sequence[tuple[str, str | bytes]]
Credential = tuple[tuple[str, str], ...]

_KEYS = (AUTHORIZATION_KEY, GATEWAY_TOKEN_KEY, USER_KEY, USER_SCOPE_KEY)
# What an OIDC provider calls the scopes; it has others of its own.
_USER_SCOPES = {"sage:write": Scope.WRITE, "sage:read": Scope.READ}
_MAX_USER = 128


@dataclass(frozen=True)
class Caller:
    """Who makes a call.

    Attributes:
        name: For the log: a token's name, or `user:` and who it is at an OIDC provider. Empty where nobody was asked.
        scope: What they may do; None for nothing.
        credential: The metadata that they signed in with, for the calls that are made for them.
    """

    name: str = ""
    scope: Scope | None = None
    credential: Credential = field(default=(), repr=False)


ANYBODY = Caller()


class SignIn:
    """Lets calls pass that come with a valid token of the scope that their method needs.

    Args:
        tokens: The tokens that are good.
        reads: The methods for which the scope `read` is enough.
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
            # A user's name beside it is not looked at: the gateway sends one or the other.
            token = self._check(_bearer(sent[AUTHORIZATION_KEY]))
            if token.scope is Scope.GATEWAY:
                raise _unauthenticated("The gateway's own token is nobody's to sign in with.", detail=token.name)
            credential = ((AUTHORIZATION_KEY, sent[AUTHORIZATION_KEY]),)
            return Caller(token.name, token.scope, credential)
        if sent.get(USER_KEY) and GATEWAY_TOKEN_KEY in sent:
            token = self._check(sent[GATEWAY_TOKEN_KEY])
            if token.scope is not Scope.GATEWAY:
                raise _unauthenticated("The token beside the user's name is not a gateway's.", detail=token.name)
            return Caller(f"user:{sent[USER_KEY][:_MAX_USER]}", _user_scope(sent), tuple(sent.items()))
        raise _unauthenticated("The call has no token.")

    def authorize(self, caller: Caller, method: str) -> None:
        """Return where the caller may call the method.

        Raises:
            SageError: FORBIDDEN.
        """
        needs = Scope.READ if method in self._reads else Scope.WRITE
        if caller.scope is Scope.WRITE or caller.scope is needs:
            return
        raise SageError(Reason.FORBIDDEN, needs=needs, has=caller.scope or "nothing")

    def asks_for(self, method: str) -> bool:
        """Say whether the method is one for which callers have to sign in."""
        return not is_open(method)

    def _check(self, secret: str) -> Token:
        token = self._tokens.find(secret)
        if token is None:
            raise _unauthenticated("The token is not known here.")
        if token.expired():
            raise _unauthenticated("The token has expired.", detail=f"{token.name}, {token.expires}")
        return token


def _sent(metadata: Metadata) -> dict[str, str]:
    sent: dict[str, str] = {}
    for key, value in metadata:
        if key in _KEYS:
            # Which of two would count is a question that proxies and servers answer differently.
            if key in sent or not isinstance(value, str):
                raise _unauthenticated(f"The call has more than one {key}.")
            sent[key] = value
    return sent


def _bearer(authorization: str) -> str:
    scheme, _, secret = authorization.partition(" ")
    if scheme.lower() != "bearer" or not secret.strip():
        raise _unauthenticated("The authorization is not of the form `Bearer TOKEN`.")
    return secret.strip()


def _user_scope(sent: dict[str, str]) -> Scope | None:
    words = sent.get(USER_SCOPE_KEY, "").split()
    return next((scope for word, scope in _USER_SCOPES.items() if word in words), None)


def _unauthenticated(why: str, *, detail: str = "") -> SageError:
    return SageError(Reason.UNAUTHENTICATED, why=why, detail=detail)
