"""Whether a server may listen where it is told to: beyond this machine only where its callers have to sign in."""

import ipaddress
from pathlib import Path

from sage_runtime.settings import ServerSettings
from sage_runtime.tokens.files import TokenFiles
from sage_runtime.tokens.model import TokensError

HOW_TO_SIGN_IN = "`python -m sage_runtime.tokens new NAME --scope write --file FILE` makes a token"


class StartError(Exception):
    """A server cannot start as it is set. Its text is for the person who has set it."""


class ListenError(StartError):
    """The address to listen on is taken, not this machine's, or open to others without sign-in."""


def is_loopback(listen: str) -> bool:
    """Say whether only this machine reaches HOST:PORT. A name other than localhost may be any address."""
    host = listen.rpartition(":")[0].removeprefix("[").removesuffix("]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def open_tokens(settings: ServerSettings, *, variable: str) -> TokenFiles | None:
    """Return the tokens that a server asks its callers for, None where it takes every call.

    Args:
        settings: How the server is set.
        variable: The variable that its address to listen on comes from.

    Raises:
        ListenError: It would listen beyond this machine without sign-in, and nobody has said that it may.
        StartError: The settings contradict each other, or the tokens cannot be read.
    """
    paths = token_paths(settings.tokens_file)
    if settings.sign_in == "off":
        if paths:
            raise StartError("SAGE_SIGN_IN is off, but SAGE_TOKENS_FILE is set: unset one of the two.")
        return None
    if not paths:
        if settings.sign_in == "on":
            raise StartError(f"SAGE_SIGN_IN is on, but SAGE_TOKENS_FILE is not set. {HOW_TO_SIGN_IN}.")
        if not is_loopback(settings.listen):
            raise ListenError(
                f"{variable} is {settings.listen}, which others reach, and callers need not sign in. Set "
                f"SAGE_TOKENS_FILE ({HOW_TO_SIGN_IN}), listen on 127.0.0.1, or let everybody in with SAGE_SIGN_IN=off."
            )
        return None
    try:
        return TokenFiles(paths)
    except TokensError as error:
        raise StartError(f"SAGE_TOKENS_FILE: {error}.") from error


def token_paths(tokens_file: str) -> list[Path]:
    """Return the files that a value of SAGE_TOKENS_FILE names."""
    return [Path(path.strip()) for path in tokens_file.split(",") if path.strip()]
