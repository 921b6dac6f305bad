"""Tiny films in memory, made in milliseconds."""

import functools
import io
import tempfile
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

WIDTH, HEIGHT = 64, 48


@functools.cache
def small_film(
    container: str = "mp4",
    *,
    codec: str = "libx264",
    frames: int = 48,
    rate: Fraction = Fraction(24),
    start_seconds: float = 0.0,
    audio_codec: str = "",
    languages: tuple[str, ...] = ("",),
    layout: str = "stereo",
    matrix: tuple[int, ...] = (),
    pixel_aspect: Fraction | None = None,
    color: tuple[int, int, int, int] | None = None,
    timecode: str = "",
    codec_options: tuple[tuple[str, str], ...] = (),
    options: tuple[tuple[str, str], ...] = (),
) -> bytes:
    """Return a film of 64 by 48 pixels.

    Args:
        container: FFmpeg's name of the format.
        codec: Encoder of the picture.
        frames: Number of frames.
        rate: Frames per second.
        start_seconds: Timestamp of the first frame.
        audio_codec: Encoder of silent audio tracks as long as the picture; empty: no sound.
        languages: Language of each audio track; an empty one is not written.
        layout: Channel layout of the audio tracks.
        matrix: The four numbers `a b c d` of the display matrix; empty: none.
        pixel_aspect: Sample aspect ratio; `None`: not written.
        color: Primaries, transfer function, matrix coefficients and range as FFmpeg numbers them; `None`: not written.
        timecode: Written into the container's metadata, from which FFmpeg makes a timecode track.
        codec_options: Of the encoder.
        options: Of the container format, such as `("movflags", "faststart")`.
    """
    # A file, since FFmpeg moves the index to the front by reading what it wrote.
    with tempfile.NamedTemporaryFile() as file:
        with av.open(file.name, "w", format=container, options=dict(options)) as out:
            if timecode:
                out.metadata["timecode"] = timecode
            picture = out.add_stream(codec, rate=rate)
            picture.width, picture.height, picture.pix_fmt = WIDTH, HEIGHT, "yuv420p"
            picture.codec_context.time_base = 1 / rate
            if codec == "libx264":
                picture.options = {"preset": "ultrafast", "g": "12", **dict(codec_options)}
            if pixel_aspect is not None:
                picture.codec_context.sample_aspect_ratio = pixel_aspect
            if color is not None:
                context = picture.codec_context
                context.color_primaries, context.color_trc, context.colorspace, context.color_range = color
            if matrix:
                a, b, c, d = (65536 * number for number in matrix)
                picture.set_display_matrix([a, b, 0, c, d, 0, 0, 0, 1 << 30])
            tracks = [_add_track(out, audio_codec, layout, language) for language in languages if audio_codec]
            _encode(out, picture, [index + round(start_seconds * rate) for index in range(frames)], time_base=1 / rate)
            for track in tracks:
                _silence(out, track, seconds=float(frames / rate), start_seconds=start_seconds)
        return Path(file.name).read_bytes()


@functools.cache
def uneven_film(container: str = "mp4", *, codec: str = "libx264", milliseconds: tuple[int, ...]) -> bytes:
    """Return a film whose frames start at these times."""
    with tempfile.NamedTemporaryFile() as file:
        with av.open(file.name, "w", format=container) as out:
            picture = out.add_stream(codec, rate=24)
            picture.width, picture.height, picture.pix_fmt = WIDTH, HEIGHT, "yuv420p"
            picture.codec_context.time_base = Fraction(1, 1000)
            _encode(out, picture, milliseconds, time_base=Fraction(1, 1000))
        return Path(file.name).read_bytes()


def _encode(
    out: av.container.OutputContainer,
    picture: av.video.stream.VideoStream,
    timestamps: Sequence[int],
    *,
    time_base: Fraction,
) -> None:
    for index, timestamp in enumerate(timestamps):
        image = np.full((HEIGHT, WIDTH, 3), index * 5 % 256, dtype=np.uint8)
        frame = av.VideoFrame.from_ndarray(image, format="rgb24")
        frame.time_base = time_base
        frame.pts = timestamp
        out.mux(picture.encode(frame))
    out.mux(picture.encode(None))


def _add_track(
    out: av.container.OutputContainer, codec: str, layout: str, language: str
) -> av.audio.stream.AudioStream:
    track = out.add_stream(codec, rate=48_000, layout=layout)
    if language:
        track.metadata["language"] = language
    return track


@functools.cache
def sound_with_cover() -> bytes:
    """Return an M4A whose only picture is the cover art of the album."""
    cover = io.BytesIO()
    with av.open(cover, "w", format="image2pipe") as out:
        stream = out.add_stream("mjpeg", rate=1)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuvj420p"
        out.mux(stream.encode(av.VideoFrame(WIDTH, HEIGHT, "yuvj420p")))
        out.mux(stream.encode(None))
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as out:
        sound = out.add_stream("aac", rate=48_000, layout="stereo")
        picture = out.add_stream("mjpeg", rate=1)
        picture.width, picture.height, picture.pix_fmt = WIDTH, HEIGHT, "yuvj420p"
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
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "rgb24"
        out.mux(stream.encode(av.VideoFrame(WIDTH, HEIGHT, "rgb24")))
        out.mux(stream.encode(None))
    return file.getvalue()


def _silence(
    out: av.container.OutputContainer, stream: av.audio.stream.AudioStream, *, seconds: float, start_seconds: float
) -> None:
    samples, layout = 1024, stream.codec_context.layout
    for index in range(int(seconds * 48_000 / samples)):
        silence = np.zeros((layout.nb_channels, samples), dtype=np.float32)
        frame = av.AudioFrame.from_ndarray(silence, format="fltp", layout=layout.name)
        frame.sample_rate = 48_000
        frame.time_base = Fraction(1, 48_000)
        frame.pts = int(start_seconds * 48_000) + index * samples
        out.mux(stream.encode(frame))
    out.mux(stream.encode(None))
