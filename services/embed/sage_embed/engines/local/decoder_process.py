"""The process that decodes one film: `python -m sage_embed.engines.local.decoder_process`.

It sends the pictures that the network receives; `sage_embed.engines.local.decoder` is the other side.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from sage_film.frames import FrameDecoder, UndecodableError, check_size
from sage_runtime.process.confined import RemoteFile

from sage_embed.engines.local.film_child import FilmRequest, allow_cpu, serve
from sage_embed.engines.local.frames import ClipGrid, End, read_samples
from sage_embed.engines.local.pictures import PictureConverter

# The messages besides requests for bytes: a picture follows its clip's index; and the end of the frames.
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
    """

    clip_seconds: float
    first_clip: int
    max_still_seconds: float

    @property
    def grid(self) -> ClipGrid:
        """The clips."""
        return ClipGrid(self.duration_seconds, self.clip_seconds)


def _messages(film: RemoteFile, request: DecodeRequest) -> Iterator[bytes]:
    grid = request.grid
    frames = FrameDecoder(
        film,
        start_offset_seconds=request.start_offset_seconds,
        threads=request.threads,
        video_track=request.video_track,
        timestamps_jump=request.timestamps_jump,
        max_pixels=request.max_pixels,
    )
    converter = PictureConverter()
    shown_since, picture = 0.0, b""
    shown = None
    allow_cpu(request, grid.start(request.first_clip))
    for sample in read_samples(frames, grid, first_clip=request.first_clip):
        if isinstance(sample, End):
            yield END + END_SECONDS.pack(sample.at_seconds)
            return
        now = grid.start(sample.clip)
        if sample.frame is not shown:
            shown, shown_since = sample.frame, now
            check_size(shown.width, shown.height, request.max_pixels)
            picture = converter.convert(shown).tobytes()
        elif now - shown_since > request.max_still_seconds:
            raise UndecodableError(f"it shows one frame for more than {request.max_still_seconds:g} s")
        allow_cpu(request, grid.end(sample.clip))
        yield PICTURE + CLIP.pack(sample.clip) + picture


if __name__ == "__main__":
    serve(DecodeRequest, _messages)
