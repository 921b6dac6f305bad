"""Ports of probing, and the protocol between the prober and its worker.

Each file has a new worker, which imports this module, so it imports little: `asyncio` and errors took 80 ms of CPU.
"""

import json
from dataclasses import asdict, dataclass
from typing import Protocol

from sage_runtime.process.confined import LENGTH

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

    async def probe(self, source: ByteSource, *, video_track: int | None = None) -> Media:
        """Open a file and measure it in bounded time, reading a bounded number of bytes.

        Args:
            source: The file.
            video_track: The picture track that is the film; `None`: the file decides.

        Raises:
            UnreadableError: It is not a complete video that can be decoded.
        """
        ...


# What a worker sends at the end, besides the messages of every confined process.
RESULT = b"A"
MAX_RESULT_BYTES = 64 * 1024


@dataclass(frozen=True)
class Limits:
    """What is read of a file, and what is too large to be accepted.

    A small file may hold a film that takes a worker days, or all of its memory.

    Attributes:
        whole_bytes: Files up to this size are read whole if they have no index of all frames.
        max_pixels: Pixels of a picture.
        max_frames: Frames of a film.
        max_duration_s: Seconds of a film. Two frames far apart make a long film of a few bytes.
        max_decoded_bytes: Bytes of all pictures of a film after decoding.
    """

    whole_bytes: int = 64 * 1024**2
    max_pixels: int = 64 * 1024**2
    max_frames: int = 10_000_000
    max_duration_s: float = 172_800.0
    max_decoded_bytes: int = 100 * 10**12


@dataclass(frozen=True)
class ProbeRequest:
    """The message that starts the conversation.

    Attributes:
        size_bytes: Size of the file.
        max_bytes: How much of it may be read.
        video_track: The picture track that is the film; `None`: the file decides.
        limits: Limits of the film.
    """

    size_bytes: int
    max_bytes: int
    video_track: int | None
    limits: Limits


def encode_request(request: ProbeRequest) -> bytes:
    """Return the message that starts the conversation, with its length."""
    encoded = json.dumps(asdict(request)).encode()
    return LENGTH.pack(len(encoded)) + encoded


def decode_request(encoded: bytes) -> ProbeRequest:
    """Invert `encode_request`, without the length."""
    values = json.loads(encoded)
    return ProbeRequest(**{**values, "limits": Limits(**values["limits"])})


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
