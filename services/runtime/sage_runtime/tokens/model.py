"""API tokens, of which nothing is kept but hashes.

A file holds a line for each, `name:scope:sha256[:expires]`; empty lines and those that begin with `#` say nothing. Two
lines may have one name: that is how a token is replaced while its clients move.
"""

import hashlib
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from enum import StrEnum

# Told from other secrets by people, and by the scanners that look for secrets in what is published.
PREFIX = "sage_"
# Every call is compared with every token.
MAX_TOKENS = 1000

_RANDOM_BYTES = 32
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


class TokensError(Exception):
    """A file of tokens cannot be used. Its text names the file and the line, never what the line holds."""


class Scope(StrEnum):
    """What a token allows."""

    READ = "read"
    """Methods that change nothing."""
    WRITE = "write"
    """Every method."""
    GATEWAY = "gateway"
    """Nothing by itself; what the gateway says of a user is believed with it."""


@dataclass(frozen=True)
class Token:
    """A token as its line describes it.

    Attributes:
        name: Who or what it was given to; the log has it.
        scope: What it allows.
        digest: The SHA-256 of the token, 32 bytes.
        expires: The last day on which it is good, in UTC; None for no end.
    """

    name: str
    scope: Scope
    digest: bytes = field(repr=False)
    expires: date | None = None

    def expired(self) -> bool:
        """Say whether its last day is over."""
        return self.expires is not None and datetime.now(UTC).date() > self.expires

    def line(self) -> str:
        """Return its line for the file."""
        parts = [self.name, self.scope, self.digest.hex(), *([self.expires.isoformat()] if self.expires else [])]
        return ":".join(parts)


def digest_of(token: str) -> bytes:
    """Return what is kept of a token.

    One round of SHA-256 is enough: a slow hash is there to protect what people choose, and 256 random bits are guessed
    by nobody, however fast they try.
    """
    return hashlib.sha256(token.encode()).digest()


def new_token(name: str, scope: Scope, *, expires: date | None = None) -> tuple[str, Token]:
    """Return a new token, to be shown once, and what is kept of it.

    Raises:
        ValueError: `name` is not a name.
    """
    check_name(name)
    secret = PREFIX + secrets.token_urlsafe(_RANDOM_BYTES)
    return secret, Token(name, scope, digest_of(secret), expires)


def check_name(name: str) -> str:
    """Return a token's name.

    Raises:
        ValueError: It is not 1 to 64 letters, digits, dots, hyphens or underscores, beginning with a letter or digit.
    """
    if not _NAME.fullmatch(name):
        raise ValueError("a name has 1 to 64 letters, digits, '.', '-' or '_' and begins with a letter or a digit")
    return name


def parse_tokens(text: str) -> Iterator[Token]:
    """Yield the tokens of a file.

    Raises:
        TokensError: Names the first line that is none.
    """
    for number, line in enumerate(text.splitlines(), start=1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        try:
            yield _parse_line(stripped)
        except ValueError as error:
            raise TokensError(f"line {number}: {error}") from None


def _parse_line(line: str) -> Token:
    name, *rest = line.split(":")
    if len(rest) not in {2, 3}:
        raise ValueError("must be NAME:SCOPE:SHA256 or NAME:SCOPE:SHA256:EXPIRES")
    scope, digest, *expires = rest
    check_name(name)
    if scope not in set(Scope):
        raise ValueError(f"the scope must be {', '.join(Scope)}")
    if not _SHA256.fullmatch(digest):
        raise ValueError("the hash must be the SHA-256 of the token in 64 lowercase hex digits, never the token itself")
    return Token(name, Scope(scope), bytes.fromhex(digest), parse_date(expires[0]) if expires else None)


def parse_date(text: str) -> date:
    """Return a day.

    Raises:
        ValueError: It is not written as 2027-01-31.
    """
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).date()
    except ValueError:
        raise ValueError(
            "the expiry must be a day such as 2027-01-31, the last one on which the token is good"
        ) from None
