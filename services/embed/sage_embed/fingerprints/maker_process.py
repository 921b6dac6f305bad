"""The process that measures one film: `python -m sage_embed.fingerprints.maker_process`.

It sends the blocks of the film's fingerprint; `sage_embed.fingerprints.maker` is the other side.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from sage_film.frames import check_size
from sage_fingerprint.blocks import BLOCK_SECONDS, FingerprintTooLargeError
from sage_fingerprint.film import EncodedBlock, read_film
from sage_runtime.process.confined import RemoteFile

from sage_embed.engines.local.block_messages import block_message, film_source, too_large
from sage_embed.engines.local.film_child import FilmRequest, allow_cpu, serve

# The message after the blocks.
END = b"E"


@dataclass(frozen=True, kw_only=True)
class MeasureRequest(FilmRequest):
    """What to measure, and within which limits.

    Attributes:
        first_block: The block to start with.
        end_block: The block to stop before; `None`: all are measured.
    """

    first_block: int
    end_block: int | None


def _messages(film: RemoteFile, request: MeasureRequest) -> Iterator[bytes]:
    source = film_source(film, request)
    allow_cpu(request, (request.first_block + 1) * BLOCK_SECONDS)
    try:
        for item in read_film(
            source, threads=request.threads, first_block=request.first_block, end_block=request.end_block
        ):
            if isinstance(item, EncodedBlock):
                allow_cpu(request, item.done_seconds + BLOCK_SECONDS)
                yield block_message(item)
            else:
                check_size(item.frame.width, item.frame.height, request.max_pixels)
    except FingerprintTooLargeError as error:
        raise too_large(error) from error
    yield END


if __name__ == "__main__":
    serve(MeasureRequest, _messages)
