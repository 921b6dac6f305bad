"""The process that measures one film: `python -m sage_embed.fingerprints.maker_process`.

It sends the blocks of the film's fingerprint; `sage_embed.fingerprints.maker` is the other side.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

# numpy would import this when the sound is measured, but then no file can be opened any more.
import numpy.fft  # noqa: F401 - used by sage_fingerprint
from sage_film.frames import UndecodableError, check_size
from sage_fingerprint.blocks import BLOCK_SECONDS, FingerprintTooLargeError
from sage_fingerprint.film import FilmSource, read_blocks
from sage_runtime.process.confined import RemoteFile

from sage_embed.engines.local.film_child import FilmRequest, allow_cpu, serve

# The messages besides requests for bytes: a block's index, its frames, its end and its size, then its bytes; and the
# end of the blocks.
BLOCK = b"B"
BLOCK_HEAD = struct.Struct("!QQdI")
END = b"E"


@dataclass(frozen=True, kw_only=True)
class MeasureRequest(FilmRequest):
    """What to measure, and within which limits.

    Attributes:
        first_block: The block to start with.
    """

    first_block: int


def _messages(film: RemoteFile, request: MeasureRequest) -> Iterator[bytes]:
    source = FilmSource(
        film,
        start_offset_seconds=request.start_offset_seconds,
        duration_seconds=request.duration_seconds,
        video_track=request.video_track,
        timestamps_jump=request.timestamps_jump,
        max_pixels=request.max_pixels,
    )
    allow_cpu(request, (request.first_block + 1) * BLOCK_SECONDS)
    try:
        for block in read_blocks(
            source,
            threads=request.threads,
            first_block=request.first_block,
            on_frame=lambda shown: check_size(shown.frame.width, shown.frame.height, request.max_pixels),
        ):
            allow_cpu(request, block.done_seconds + BLOCK_SECONDS)
            yield BLOCK + BLOCK_HEAD.pack(block.index, block.frames, block.done_seconds, len(block.data)) + block.data
    except FingerprintTooLargeError as error:
        raise UndecodableError("it has too many frames a second to fingerprint", detail=str(error)) from error
    yield END


if __name__ == "__main__":
    serve(MeasureRequest, _messages)
