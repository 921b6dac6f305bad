"""Tiny films in memory, made in milliseconds."""

import functools
import io
import tempfile
from fractions import Fraction
from pathlib import Path

import av
import numpy as np


@functools.cache
def small_film(
    container: str = "mp4",
    *,
    codec: str = "libx264",
    frames: int = 48,
    rate: Fraction = Fraction(24),
    start_seconds: float = 0.0,
    audio_codec: str = "",
    rotation: int = 0,
    options: tuple[tuple[str, str], ...] = (),
) -> bytes:
    """Return a film of 64 by 48 pixels.

    Args:
        container: FFmpeg's name of the format.
        codec: Encoder of the picture.
        frames: How many.
        rate: Frames per second.
        start_seconds: Timestamp of the first frame.
        audio_codec: Encoder of a silent sound track as long as the picture; empty: no sound.
        rotation: Counter-clockwise degrees of the display matrix.
        options: Of the container format, such as `("movflags", "faststart")`.
    """
    # A file, as FFmpeg moves the index to the front by reading what it wrote.
    with tempfile.NamedTemporaryFile() as file:
        _write(file.name, container, codec, frames, rate, start_seconds, audio_codec, rotation, options)
        return Path(file.name).read_bytes()


def _write(
    path: str,
    container: str,
    codec: str,
    frames: int,
    rate: Fraction,
    start_seconds: float,
    audio_codec: str,
    rotation: int,
    options: tuple[tuple[str, str], ...],
) -> None:
    with av.open(path, "w", format=container, options=dict(options)) as out:
        picture = out.add_stream(codec, rate=rate)
        picture.width, picture.height, picture.pix_fmt = 64, 48, "yuv420p"
        picture.codec_context.time_base = 1 / rate
        if codec == "libx264":
            picture.options = {"preset": "ultrafast", "g": "12"}
        if rotation:
            picture.set_display_rotation(rotation)
        sound = out.add_stream(audio_codec, rate=48_000, layout="stereo") if audio_codec else None
        for index in range(frames):
            image = np.full((48, 64, 3), index * 5 % 256, dtype=np.uint8)
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.time_base = 1 / rate
            frame.pts = index + round(start_seconds * rate)
            out.mux(picture.encode(frame))
        out.mux(picture.encode(None))
        if sound is not None:
            _silence(out, sound, seconds=float(frames / rate), start_seconds=start_seconds)


@functools.cache
def sound_with_cover() -> bytes:
    """Return an M4A whose only picture is the cover of the album."""
    cover = io.BytesIO()
    with av.open(cover, "w", format="image2pipe") as out:
        stream = out.add_stream("mjpeg", rate=1)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
        out.mux(stream.encode(av.VideoFrame(64, 48, "yuvj420p")))
        out.mux(stream.encode(None))
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as out:
        sound = out.add_stream("aac", rate=48_000, layout="stereo")
        picture = out.add_stream("mjpeg", rate=1)
        picture.width, picture.height, picture.pix_fmt = 64, 48, "yuvj420p"
        picture.disposition = av.stream.Disposition.attached_pic
        packet = av.Packet(cover.getvalue())
        packet.stream = picture
        packet.pts = packet.dts = 0
        packet.time_base = Fraction(1)
        out.mux(packet)
        _silence(out, sound, seconds=1.0, start_seconds=0.0)
    return file.getvalue()


@functools.cache
def png() -> bytes:
    """Return a picture."""
    file = io.BytesIO()
    with av.open(file, "w", format="image2pipe") as out:
        stream = out.add_stream("png", rate=1)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "rgb24"
        out.mux(stream.encode(av.VideoFrame(64, 48, "rgb24")))
        out.mux(stream.encode(None))
    return file.getvalue()


def _silence(
    out: av.container.OutputContainer, stream: av.audio.stream.AudioStream, *, seconds: float, start_seconds: float
) -> None:
    samples = 1024
    for index in range(int(seconds * 48_000 / samples)):
        frame = av.AudioFrame.from_ndarray(np.zeros((2, samples), dtype=np.float32), format="fltp", layout="stereo")
        frame.sample_rate = 48_000
        frame.time_base = Fraction(1, 48_000)
        frame.pts = int(start_seconds * 48_000) + index * samples
        out.mux(stream.encode(frame))
    out.mux(stream.encode(None))
