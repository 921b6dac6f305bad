"""Ports of probing."""

import json
import struct
from typing import Protocol

from sage_ingest import errors
from sage_ingest.videos.model import Media, VideoSpec, media_from_json, media_to_json
from sage_ingest.videos.ports import VideoObjects


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


async def probe_object(prober: Prober, objects: VideoObjects, spec: VideoSpec, *, key: str) -> Media:
    """Return the media of a stored object.

    Raises:
        SageError: VIDEO_UNREADABLE or STORE_UNAVAILABLE.
    """
    try:
        return await prober.probe(_StoredObject(objects, key=key, size_bytes=spec.size_bytes))
    except UnreadableError as error:
        raise errors.video_unreadable(spec.filename, why=error.why, detail=error.detail) from error


class _StoredObject(ByteSource):
    def __init__(self, objects: VideoObjects, *, key: str, size_bytes: int) -> None:
        self._objects = objects
        self._key = key
        self._size_bytes = size_bytes

    @property
    def size_bytes(self) -> int:
        return self._size_bytes

    async def read(self, *, offset: int, length: int) -> bytes:
        length = min(length, self._size_bytes - offset)
        if length <= 0:
            return b""
        return await self._objects.read(self._key, offset=offset, length=length)
