"""Stills of local films. PyAV is imported only when one is decoded, so that commands start fast without it."""

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from sage.ingest.v1 import media_pb2

from sage_cli.show.images import Picture

if TYPE_CHECKING:
    from av.video.frame import VideoFrame
    from sage_film.frames import FrameDecoder

_THREADS = 2


def read_stills(
    path: Path, media: media_pb2.Media, times: Collection[float], *, size: tuple[int, int]
) -> Mapping[float, Picture]:
    """Return the pictures of a film that are shown at some times, those that can be decoded.

    Args:
        path: The file.
        media: What the server measured in it.
        times: Seconds on the timeline of the film.
        size: Width and height of the pictures.

    Raises:
        ImportError: PyAV is not installed.
    """
    from sage_film.frames import FrameDecoder, UndecodableError

    stills: dict[float, Picture] = {}
    with path.open("rb") as file:
        decoder = FrameDecoder(
            file,
            start_offset_seconds=media.start_offset_seconds,
            threads=_THREADS,
            video_track=media.video_track if media.video_tracks else None,
            timestamps_jump=media.timestamps_jump,
        )
        for time in times:
            try:
                frame = _frame_at(decoder, time)
            except UndecodableError:
                continue
            if frame is not None:
                stills[time] = _picture(frame, size)
    return stills


def _frame_at(decoder: "FrameDecoder", seconds: float) -> "VideoFrame | None":
    frame = None
    for shown in decoder.frames(first_seconds=seconds):
        if frame is not None and shown.start > seconds:
            break
        frame = shown.frame
    return frame


def _picture(frame: "VideoFrame", size: tuple[int, int]) -> Picture:
    """Return a frame as a player shows it, scaled to a size."""
    from av.video.reformatter import Interpolation
    from sage_film.interlacing import as_one_picture
    from sage_film.orientation import orientation

    mirrored, degrees = orientation(frame)
    width, height = size[::-1] if degrees % 180 else size
    small = as_one_picture(frame).reformat(width=width, height=height, format="rgb24", interpolation=Interpolation.AREA)
    pixels = list(_rows(small))
    if mirrored:
        pixels = [row[::-1] for row in pixels]
    for _ in range(degrees // 90):
        pixels = [list(column) for column in zip(*pixels[::-1], strict=True)]
    return Picture(*size, b"".join(pixel for row in pixels for pixel in row))


def _rows(frame: "VideoFrame") -> Iterator[list[bytes]]:
    plane = frame.planes[0]
    lines = bytes(plane)
    for top in range(0, frame.height * plane.line_size, plane.line_size):
        yield [lines[at : at + 3] for at in range(top, top + 3 * frame.width, 3)]
