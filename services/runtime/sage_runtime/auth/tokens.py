"""API tokens, of which only hashes are stored, and the files that they are stored in.

Each line of a file is a token, `name:scope:sha256[:expires]`; empty lines and lines that start with `#` are ignored.
Two lines may have the same name: that is how a token is replaced while its clients switch over.
"""

import asyncio
import contextlib
import hashlib
import hmac
import re
import secrets
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from enum import StrEnum
from pathlib import Path

import structlog

log: structlog.stdlib.BoundLogger = structlog.get_logger()

# Lets people, and scanners for published secrets, recognize a token.
PREFIX = "sage_"
# Every call is compared with every token.
MAX_TOKENS = 1000

_RANDOM_BYTES = 32
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_MAX_FILE_BYTES = 1024 * 1024
# A file that is written in place is briefly empty or incomplete.
_SETTLED_S = 0.1
# How often a problem with the files is logged while it lasts.
_REMIND_S = 60.0


class TokensError(Exception):
    """A tokens file cannot be used. The message names the file and the line, but never quotes the line."""


class Scope(StrEnum):
    """What a token allows."""

    READ = "read"
    """Methods that change nothing."""
    WRITE = "write"
    """Every method."""
    GATEWAY = "gateway"
    """Nothing by itself. Proves that the headers about a user come from the gateway."""


@dataclass(frozen=True)
class Token:
    """A token as its line describes it.

    Attributes:
        name: Who or what it was given to, for the log.
        scope: What it allows.
        digest: The SHA-256 of the token, 32 bytes.
        expires: The last day on which it is valid, in UTC, or `None` if it does not expire.
    """

    name: str
    scope: Scope
    digest: bytes = field(repr=False)
    expires: date | None = None

    def expired(self) -> bool:
        """Return whether its last day has passed."""
        return self.expires is not None and datetime.now(UTC).date() > self.expires

    def line(self) -> str:
        """Return its line for the file."""
        parts = [self.name, self.scope, self.digest.hex(), *([self.expires.isoformat()] if self.expires else [])]
        return ":".join(parts)


def digest_of(token: str) -> bytes:
    """Return the hash that is stored for a token.

    One round of SHA-256 is enough: slow hashes protect passwords that people choose, and 256 random bits cannot be
    guessed at any speed.
    """
    return hashlib.sha256(token.encode()).digest()


def new_token(name: str, scope: Scope, *, expires: date | None = None) -> tuple[str, Token]:
    """Return a new token, to be shown once, and its description, to be stored.

    Raises:
        ValueError: `name` is not valid.
    """
    check_name(name)
    secret = PREFIX + secrets.token_urlsafe(_RANDOM_BYTES)
    return secret, Token(name, scope, digest_of(secret), expires)


def check_name(name: str) -> str:
    """Return the name of a token if it is valid.

    Raises:
        ValueError: It is not 1 to 64 letters, digits, dots, hyphens or underscores that start with a letter or digit.
    """
    if not _NAME.fullmatch(name):
        raise ValueError("a name has 1 to 64 letters, digits, '.', '-' or '_' and starts with a letter or a digit")
    return name


def parse_date(text: str) -> date:
    """Return the day that a text such as 2027-01-31 states.

    Raises:
        ValueError: It has another form.
    """
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).date()
    except ValueError:
        raise ValueError("the expiry must be a day such as 2027-01-31, the last one on which it is valid") from None


def parse_tokens(text: str) -> Iterator[Token]:
    """Yield the tokens in the text of a file.

    Raises:
        TokensError: A line is not a token. The message names the first such line.
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


class TokenFiles:
    """The tokens that a server accepts, read at start-up and again whenever the files change.

    The contents are compared, not modification times: the files are small, and this detects a Secret that Kubernetes
    swaps, a file that an editor replaces, and a file with a wrong modification time.

    If they are missing or have a mistake, the previous tokens stay valid, but not forever: the change that cannot be
    read may revoke one of them.

    Attributes:
        tokens: All of them, including expired ones.
    """

    def __init__(self, paths: Sequence[Path], *, max_stale_s: float = 300.0) -> None:
        """Read the files.

        Args:
            paths: The files. A token may be in any of them.
            max_stale_s: Seconds that the previous tokens stay valid while the files cannot be used.

        Raises:
            TokensError: A file cannot be read or has a line that is not a token, or there are no tokens.
        """
        self._paths = tuple(paths)
        self._contents = _read(self._paths)
        self.tokens = _parse(self._paths, self._contents)
        self._max_stale_s = max_stale_s
        self._problem = ""
        # On time.monotonic()'s clock.
        self._problem_since = self._logged_at = 0.0
        if not self.tokens:
            raise TokensError(f"{', '.join(map(str, self._paths))}: there is no token")

    def check(self) -> None:
        """Check that the files can be used.

        Raises:
            TokensError: They cannot.
        """
        if self._problem:
            raise TokensError(self._problem)

    def check_not_stale(self) -> None:
        """Check that the tokens are still valid.

        Raises:
            TokensError: The files cannot be used, and have not been for too long.
        """
        if self._problem and time.monotonic() - self._problem_since > self._max_stale_s:
            raise TokensError(self._problem)

    def find(self, token: str) -> Token | None:
        """Return the description of a token, even if it has expired, or `None` if it is unknown.

        Takes constant time, whichever token matches and however much of it matches.
        """
        digest = digest_of(token)
        found = None
        for one in self.tokens:
            if hmac.compare_digest(one.digest, digest):
                found = one
        return found

    def read_again(self) -> None:
        """Use the files' contents if they have changed and settled. If they are invalid, the old tokens stay valid."""
        try:
            contents = _read(self._paths)
            if contents == self._contents:
                if self._problem:
                    self._problem = ""
                    log.info("tokens_readable_again")
                return
            time.sleep(_SETTLED_S)
            if _read(self._paths) != contents:
                return
            tokens = _parse(self._paths, contents)
        except TokensError as error:
            self._note(str(error))
            return
        self._contents, self.tokens, self._problem = contents, tokens, ""
        log.info("tokens_reloaded", tokens=[f"{token.name}:{token.scope}" for token in tokens])

    def _note(self, problem: str) -> None:
        now = time.monotonic()
        if not self._problem:
            self._problem_since = now
        left_s = self._problem_since + self._max_stale_s - now
        if problem == self._problem and now - self._logged_at < min(_REMIND_S, self._max_stale_s):
            return
        self._problem, self._logged_at = problem, now
        effect = (
            f"the previous tokens stay valid for {left_s:.0f} s, even if they were revoked; then every call is refused"
            if left_s > 0
            else "every call that needs a token is refused"
        )
        log.error("tokens_reload_failed", problem=problem, effect=effect)

    @contextlib.asynccontextmanager
    async def watched(self, *, every_s: float) -> AsyncIterator[None]:
        """Check the files for changes periodically for the length of the block."""
        # Not a task group: that would wrap what the block raises in an exception group.
        watching = asyncio.create_task(self._watch_forever(every_s))
        try:
            yield
        finally:
            watching.cancel()
            await asyncio.wait([watching])

    async def _watch_forever(self, every_s: float) -> None:
        while True:
            await asyncio.sleep(every_s)
            # A mounted folder may respond slowly.
            await asyncio.to_thread(self.read_again)


def _read(paths: Sequence[Path]) -> tuple[bytes, ...]:
    contents = []
    for path in paths:
        try:
            with path.open("rb") as file:
                content = file.read(_MAX_FILE_BYTES + 1)
        except OSError as error:
            raise TokensError(f"{path}: cannot be read: {error.strerror}") from error
        if len(content) > _MAX_FILE_BYTES:
            raise TokensError(f"{path}: is larger than {_MAX_FILE_BYTES} bytes")
        contents.append(content)
    return tuple(contents)


def _parse(paths: Sequence[Path], contents: Sequence[bytes]) -> tuple[Token, ...]:
    tokens: dict[bytes, Token] = {}
    for path, content in zip(paths, contents, strict=True):
        try:
            for token in parse_tokens(content.decode()):
                # Otherwise the scope of a token would depend on the order of the lines. The path is added below.
                if tokens.setdefault(token.digest, token) is not token:
                    raise TokensError(f"{tokens[token.digest].name} and {token.name} have the same hash")  # noqa: TRY301
        except UnicodeDecodeError:
            raise TokensError(f"{path}: is not a text file") from None
        except TokensError as error:
            raise TokensError(f"{path}: {error}") from None
    if len(tokens) > MAX_TOKENS:
        raise TokensError(f"{', '.join(map(str, paths))}: there are more than {MAX_TOKENS} tokens")
    return tuple(tokens.values())
