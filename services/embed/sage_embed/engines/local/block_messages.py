"""The child's side of sending the blocks of a fingerprint. `BlockReceiver` in `film_process` is the other side."""

import struct

# numpy would import this when the sound is measured, but then no file can be opened any more.
import numpy.fft  # noqa: F401 - used by sage_fingerprint
from sage_film.container import SeekableFile
from sage_film.frames import UndecodableError
from sage_fingerprint.blocks import FingerprintTooLargeError
from sage_fingerprint.film import EncodedBlock, FilmSource

from sage_embed.engines.local.film_child import FilmRequest

# A message: a block's index, its frames, its end and its size, then its bytes.
BLOCK = b"B"
BLOCK_HEAD = struct.Struct("!QQdI")


def film_source(film: SeekableFile, request: FilmRequest) -> FilmSource:
    """Return the film of a request."""
    return FilmSource(
        film,
        start_offset_seconds=request.start_offset_seconds,
        duration_seconds=request.duration_seconds,
        video_track=request.video_track,
        timestamps_jump=request.timestamps_jump,
        max_pixels=request.max_pixels,
    )


def block_message(block: EncodedBlock) -> bytes:
    """Return the message that sends a block."""
    return BLOCK + BLOCK_HEAD.pack(block.index, block.frames, block.done_seconds, len(block.data)) + block.data


def too_large(error: FingerprintTooLargeError) -> UndecodableError:
    """Return the error for a film with too many frames."""
    return UndecodableError("it has too many frames a second to fingerprint", detail=str(error))
