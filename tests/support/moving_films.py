"""Small films whose picture moves and changes, so that every frame looks different."""

import functools
import tempfile
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

WIDTH, HEIGHT = 160, 96
# Fine enough for every frame rate and for uneven times.
TIME_BASE = Fraction(1, 12_000)


def picture(seconds: float) -> NDArray[np.uint8]:
    """Return what is on screen at a time, of shape (96, 160, 3): waves that wander, others in each 2 seconds' shot."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    shot = np.random.default_rng(int(seconds / 2))
    angles, lengths, shades = shot.uniform(0, np.pi, 3), shot.uniform(4, 30, 3), shot.uniform(60, 200, 3)
    phases = (x[..., None] * np.cos(angles) + y[..., None] * np.sin(angles)) / lengths + 2 * seconds
    image = shades + 55 * np.sin(phases)
    # A corner that tells up from down.
    image[: HEIGHT // 3, : WIDTH // 3] = (230, 30, 30)
    return image.clip(0, 255).astype(np.uint8)


@functools.cache
def moving_film(
    seconds: float = 9.0,
    *,
    container: str = "mp4",
    codec: str = "libx264",
    rate: int = 24,
    times: tuple[float, ...] = (),
    start_seconds: float = 0.0,
    quarter_turns: int = 0,
    told: bool = True,
    options: tuple[tuple[str, str], ...] = (("preset", "veryfast"), ("g", "50"), ("bf", "2")),
) -> bytes:
    """Return a film.

    Args:
        seconds: Its length.
        container: FFmpeg's name of the format.
        codec: Encoder of the picture.
        rate: Frames per second.
        times: When each frame starts, where that is uneven; `seconds` and `rate` are then ignored.
        start_seconds: Timestamp of the first frame.
        quarter_turns: The stored picture is turned clockwise so often, and the display matrix turns it back.
        told: Whether there is that display matrix.
        options: Of the encoder.
    """
    starts = times or tuple(index / rate for index in range(round(seconds * rate)))
    with tempfile.NamedTemporaryFile() as file:
        _write(file.name, container, codec, starts, rate, start_seconds, quarter_turns, told, dict(options))
        return Path(file.name).read_bytes()


def _write(
    path: str,
    container: str,
    codec: str,
    starts: Sequence[float],
    rate: int,
    start_seconds: float,
    quarter_turns: int,
    told: bool,
    options: dict[str, str],
) -> None:
    with av.open(path, "w", format=container) as out:
        stream = out.add_stream(codec, rate=rate, options=options)
        turned = quarter_turns % 2
        stream.width, stream.height = (HEIGHT, WIDTH) if turned else (WIDTH, HEIGHT)
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = TIME_BASE
        if quarter_turns and told:
            stream.set_display_rotation(90 * quarter_turns)
        for start in starts:
            image = np.rot90(picture(start), -quarter_turns)
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            frame.time_base = TIME_BASE
            frame.pts = round((start + start_seconds) / TIME_BASE)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
