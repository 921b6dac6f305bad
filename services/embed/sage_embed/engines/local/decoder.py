"""Decoding a film in a separate, confined process (`sage_embed.engines.local.decoder_process`)."""

from collections.abc import Generator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from sage_embed.engines.local.block_messages import BLOCK
from sage_embed.engines.local.decoder_process import CLIP, END, END_SECONDS, PICTURE, DecodeRequest
from sage_embed.engines.local.film_process import BlockReceiver, FilmProcess, MisbehavedError, Source, receive
from sage_embed.engines.local.frames import End
from sage_embed.engines.local.pictures import INPUT_SIZE, PICTURE_BYTES, Pictures
from sage_embed.fingerprints.model import Block


@dataclass(frozen=True)
class Picture:
    """A picture that represents its clip.

    Attributes:
        clip: Index of its clip.
        pixels: Shape ``(224, 224, 3)``.
    """

    clip: int
    pixels: Pictures


class Decoder(FilmProcess[Picture | Block | End]):
    """Decodes the pictures of one film and, on request, makes its fingerprint in the same pass.

    Args:
        source: The film. Closed at the end.
        request: What to decode; the size is that of the source.
        timeout_s: How long the process may send nothing, and receive nothing that is sent to it.
    """

    module = "sage_embed.engines.local.decoder_process"

    def __init__(self, source: Source, request: DecodeRequest, *, timeout_s: float) -> None:
        super().__init__(source, request, timeout_s=timeout_s)
        self._duration_seconds = request.duration_seconds
        self._blocks = None
        if request.first_block is not None:
            self._blocks = BlockReceiver(request.first_block, request.duration_seconds)
        self._clip, self._last_clip = request.first_clip, request.grid.count - 1

    def pictures(self) -> Generator[Picture | Block | End, None, None]:
        """Yield the pictures of all clips starting with the first one requested, then the end, as `items` does.

        Blocks, if they are requested, are among the pictures.
        """
        return self.items()

    def _receive(self, kind: bytes, messages: BinaryIO) -> Picture | Block | End:
        if kind == PICTURE:
            (clip,) = CLIP.unpack(receive(messages, CLIP.size))
            if not self._clip <= clip <= min(self._clip + 1, self._last_clip):
                raise MisbehavedError(f"clip {clip} follows clip {self._clip}")
            self._clip = clip
            pixels = np.frombuffer(receive(messages, PICTURE_BYTES), np.uint8)
            return Picture(clip, pixels.reshape(INPUT_SIZE, INPUT_SIZE, 3))
        if kind == BLOCK and self._blocks is not None:
            return self._blocks.receive(messages)
        if kind == END:
            (at_seconds,) = END_SECONDS.unpack(receive(messages, END_SECONDS.size))
            if not 0 <= at_seconds <= self._duration_seconds:
                raise MisbehavedError(f"the end is at {at_seconds}")
            return End(at_seconds)
        raise MisbehavedError(f"it sent {kind!r}")

    def _is_last(self, item: Picture | Block | End) -> bool:
        return isinstance(item, End)
