"""The process that decodes one film: `python -m sage_embed.engines.local.decoder_process`.

It sends the pictures that the network receives and, on request, the blocks of the film's fingerprint from the same
pass of decoding; `sage_embed.engines.local.decoder` is the other side.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from sage_film.frames import FrameDecoder, ShownFrame, UndecodableError, check_size
from sage_fingerprint.blocks import BLOCK_SECONDS, FingerprintTooLargeError, block_of, nanoseconds
from sage_fingerprint.film import EncodedBlock, read_film
from sage_runtime.process.confined import RemoteFile

from sage_embed.engines.local.block_messages import block_message, film_source, too_large
from sage_embed.engines.local.film_child import FilmRequest, allow_cpu, serve
from sage_embed.engines.local.frames import ClipGrid, End, Sample, Sampler
from sage_embed.engines.local.pictures import PictureConverter

# The messages besides requests for bytes and blocks: a picture follows its clip's index; and the end of the frames.
PICTURE = b"P"
CLIP = struct.Struct("!Q")
END = b"E"
END_SECONDS = struct.Struct("!d")


@dataclass(frozen=True, kw_only=True)
class DecodeRequest(FilmRequest):
    """What to decode, and within which limits.

    Attributes:
        clip_seconds: Length of a clip.
        first_clip: The clip to start with.
        max_still_seconds: Longest time without a new frame.
        first_block: The block of the fingerprint to start with; `None`: no blocks.
    """

    clip_seconds: float
    first_clip: int
    max_still_seconds: float
    first_block: int | None = None

    @property
    def grid(self) -> ClipGrid:
        """The clips."""
        return ClipGrid(self.duration_seconds, self.clip_seconds)


class _PictureMessages:
    """Makes the messages that send pictures."""

    def __init__(self, request: DecodeRequest) -> None:
        self._request = request
        self._grid = request.grid
        self._converter = PictureConverter()
        self._last: Sample | None = None
        self._shown_since = 0.0
        self._picture = b""

    def of(self, sample: Sample) -> bytes:
        """Return the message for a sample.

        Raises:
            UndecodableError: Its frame is shown for too long.
        """
        request, now = self._request, self._grid.start(sample.clip)
        if self._last is None or sample.frame is not self._last.frame:
            self._last, self._shown_since = sample, now
            self._picture = self._converter.convert(sample.frame).tobytes()
        elif now - self._shown_since > request.max_still_seconds:
            raise UndecodableError(f"it shows one frame for more than {request.max_still_seconds:g} s")
        allow_cpu(request, self._grid.end(sample.clip))
        return PICTURE + CLIP.pack(sample.clip) + self._picture


def _items(film: RemoteFile, request: DecodeRequest, sampler: Sampler) -> Iterator[ShownFrame | EncodedBlock]:
    """Yield the frames that the sampler needs, and blocks if they are requested."""
    if request.first_block is not None:
        # The embedding and the fingerprint may resume at different times. Decoding starts at the earlier one.
        first_block = min(request.first_block, block_of(nanoseconds(sampler.first_seconds)))
        yield from read_film(film_source(film, request), threads=request.threads, first_block=first_block)
    elif not sampler.done:
        frames = FrameDecoder(
            film,
            start_offset_seconds=request.start_offset_seconds,
            threads=request.threads,
            video_track=request.video_track,
            timestamps_jump=request.timestamps_jump,
            max_pixels=request.max_pixels,
        )
        yield from frames.frames(first_seconds=sampler.first_seconds, end_seconds=request.duration_seconds)


def _messages(film: RemoteFile, request: DecodeRequest) -> Iterator[bytes]:
    sampler = Sampler(request.grid, first_clip=request.first_clip)
    pictures = _PictureMessages(request)
    allow_cpu(request, max(sampler.first_seconds, ((request.first_block or 0) + 1) * BLOCK_SECONDS))
    try:
        for item in _items(film, request, sampler):
            if isinstance(item, ShownFrame):
                check_size(item.frame.width, item.frame.height, request.max_pixels)
                for sample in sampler.add(item):
                    yield pictures.of(sample)
            elif request.first_block is not None and item.index >= request.first_block:
                allow_cpu(request, item.done_seconds + BLOCK_SECONDS)
                yield block_message(item)
    except FingerprintTooLargeError as error:
        raise too_large(error) from error
    for last in sampler.finish():
        yield END + END_SECONDS.pack(last.at_seconds) if isinstance(last, End) else pictures.of(last)


if __name__ == "__main__":
    serve(DecodeRequest, _messages)
