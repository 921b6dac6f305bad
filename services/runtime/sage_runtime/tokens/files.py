"""The files of tokens as a server keeps them: read at the start, and again whenever they change."""

import asyncio
import contextlib
import hmac
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import structlog

from sage_runtime.tokens.model import MAX_TOKENS, Token, TokensError, digest_of, parse_tokens

log: structlog.stdlib.BoundLogger = structlog.get_logger()

_MAX_FILE_BYTES = 1024 * 1024
# A file that is written in place is empty or half there for a moment.
_SETTLED_S = 0.1


class TokenFiles:
    """The tokens that are good now.

    Files are read again rather than asked for their time of change: they are small, and a Secret that Kubernetes swaps,
    an editor's new file and one with a clock gone wrong are all seen alike.

    Attributes:
        tokens: All of them, expired ones too.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        """Read the files.

        Args:
            paths: The files; a token may stand in any of them.

        Raises:
            TokensError: One cannot be read or has a line that is no token, or there is no token at all.
        """
        self._paths = tuple(paths)
        self._contents = _read(self._paths)
        self.tokens = _parse(self._paths, self._contents)
        self._problem = ""
        if not self.tokens:
            raise TokensError(f"{', '.join(map(str, self._paths))}: there is no token")

    def find(self, token: str) -> Token | None:
        """Return what is kept of a token, expired ones too, or None where it is not known.

        It takes the same time whichever token matches, and whatever part of one.
        """
        digest = digest_of(token)
        found = None
        for one in self.tokens:
            if hmac.compare_digest(one.digest, digest):
                found = one
        return found

    def read_again(self) -> None:
        """Take what has changed and stays so. Where that cannot be used, what was read before goes on being good."""
        try:
            contents = _read(self._paths)
            if contents == self._contents:
                self._problem = ""
                return
            time.sleep(_SETTLED_S)
            if _read(self._paths) != contents:
                return
            tokens = _parse(self._paths, contents)
        except TokensError as error:
            if str(error) != self._problem:
                self._problem = str(error)
                # No traceback: the problem is said in full.
                log.error("tokens not read again: the ones read before stay good", problem=self._problem)  # noqa: TRY400
            return
        self._contents, self.tokens, self._problem = contents, tokens, ""
        log.info("tokens read again", tokens=[f"{token.name}:{token.scope}" for token in tokens])

    @contextlib.asynccontextmanager
    async def watched(self, *, every_s: float) -> AsyncIterator[None]:
        """Read the files again and again for the length of the block."""
        # Not a task group: that would wrap what the block raises into an exception group.
        watching = asyncio.create_task(self._watch_forever(every_s))
        try:
            yield
        finally:
            watching.cancel()
            await asyncio.wait([watching])

    async def _watch_forever(self, every_s: float) -> None:
        while True:
            await asyncio.sleep(every_s)
            # A mounted folder may be slow to answer.
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
                # Else the one that is found, and what it allows, would depend on their order. Its path is added below.
                if tokens.setdefault(token.digest, token) is not token:
                    raise TokensError(f"{tokens[token.digest].name} and {token.name} have one hash")  # noqa: TRY301
        except UnicodeDecodeError:
            raise TokensError(f"{path}: is not a text file") from None
        except TokensError as error:
            raise TokensError(f"{path}: {error}") from None
    if len(tokens) > MAX_TOKENS:
        raise TokensError(f"{', '.join(map(str, paths))}: there are more than {MAX_TOKENS} tokens")
    return tuple(tokens.values())
