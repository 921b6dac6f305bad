"""Ports of probing, and the protocol between the prober and its worker.

Each file has a new worker, which imports this module, so it imports little: `asyncio` and errors took 80 ms of CPU.
"""

import json
import struct
from typing import Protocol

from sage_ingest.videos.model import Media, media_from_json, media_to_json


class UnreadableError(Exception):
    """The bytes are not a video that can be read.

    Args:
        why: The reason for people, as a clause that begins in lower case. Never the decoder's own message.
        detail: For the log only.
    """

    def __init__(self, why: str, *, detail: str = "") -> None:
        super().__init__(f"{why} ({detail})" if detail else why)
        self.why = why
        self.detail = detail


class ByteSource(Protocol):
    """Bytes that can be read at any offset."""

    @property
    def size_bytes(self) -> int:
        """Total number of bytes."""
        ...

    async def read(self, *, offset: int, length: int) -> bytes:
        """Return up to `length` bytes from `offset`; fewer at the end."""
        ...


class Prober(Protocol):
    """Tells what a file holds."""

    async def probe(self, source: ByteSource) -> Media:
        """Open a file and measure it in bounded time, reading a bounded number of bytes.

        Raises:
            UnreadableError: It is not a complete video that can be decoded.
        """
        ...


READY = b"H"
READ = b"R"
RESULT = b"A"
# Size of the file, and how much of it may be read.
START = struct.Struct("!QQ")
# Offset and length, after READ.
READ_ARGUMENTS = struct.Struct("!QI")
LENGTH = struct.Struct("!I")
MAX_RESULT_BYTES = 64 * 1024


def encode_result(result: Media | UnreadableError) -> bytes:
    """Return the message that ends the conversation."""
    values: dict[str, object]
    if isinstance(result, UnreadableError):
        values = {"why": result.why, "detail": result.detail}
    else:
        values = {"media": media_to_json(result)}
    encoded = json.dumps(values).encode()
    return RESULT + LENGTH.pack(len(encoded)) + encoded


def decode_result(encoded: bytes) -> Media:
    """Return what a worker measured, from the JSON of its result.

    Raises:
        UnreadableError: That is the result.
    """
    values = json.loads(encoded)
    if "media" in values:
        return media_from_json(values["media"])
    raise UnreadableError(values["why"], detail=values["detail"])
