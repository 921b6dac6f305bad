"""Makes small films of any container, codec and timing with PyAV."""

import contextlib
import io
import os
import random
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

# Fine enough for every frame rate.
_TICK = Fraction(1, 120_000)
_MPEG_4_TICK = Fraction(1, 30_000)


@dataclass(frozen=True)
class Track:
    """A picture track to make.

    Attributes:
        codec: Encoder.
        frames: Number of frames.
        rate: Frames per second.
        size: Width and height.
        pix_fmt: Pixel format.
        options: Of the encoder.
        times: When each frame starts, in seconds; `None`: evenly.
        start: Timestamp of the first frame, in seconds.
        matrix: The numbers `a b c d` of the display matrix; empty: none.
        disposition: Names of FFmpeg's dispositions.
        shade: Brightness of the first frame, so that tracks look different.
        noise: Whether pictures are noise, which makes large files.
        bar: Rows that are black above and below.
    """

    codec: str = "libx264"
    frames: int = 50
    rate: Fraction = Fraction(25)
    size: tuple[int, int] = (96, 64)
    pix_fmt: str = "yuv420p"
    options: tuple[tuple[str, str], ...] = ()
    times: tuple[float, ...] | None = None
    start: Fraction = Fraction(0)
    matrix: tuple[int, ...] = ()
    disposition: str = ""
    shade: int = 0
    noise: bool = False
    bar: int = 0

    def picture(self, index: int) -> NDArray[np.uint8]:
        """Return the picture of a frame: a bright bar that moves, on a ground that brightens."""
        width, height = self.size
        if self.noise:
            return np.random.default_rng(index).integers(0, 256, (height, width, 3), dtype=np.uint8)
        image = np.full((height, width, 3), (self.shade + 3 * index) % 200, dtype=np.uint8)
        at = index * 7 % width
        image[:, at : at + 8] = 255
        image[: self.bar] = image[height - self.bar :] = 0
        return image

    def ticks(self, tick: Fraction) -> list[int]:
        """Return when each frame starts."""
        if self.times is not None:
            return [round((Fraction(time) + self.start) / tick) for time in self.times]
        return [round((index / self.rate + self.start) / tick) for index in range(self.frames)]


def make_film(
    container: str,
    *tracks: Track,
    options: Sequence[tuple[str, str]] = (),
    metadata: Sequence[tuple[str, str]] = (),
    change: Callable[[int, av.Packet], av.Packet | None] | None = None,
) -> bytes:
    """Return a film.

    Args:
        container: FFmpeg's name of the format.
        tracks: Its picture tracks; none: one of H.264.
        options: Of the format.
        metadata: Of the file.
        change: Is given each packet's number and the packet, and returns the packet to write or `None`.
    """
    tracks = tracks or (Track(),)
    # A file, since some formats are written by going back.
    with tempfile.NamedTemporaryFile() as file, _ordinary_priority():
        with av.open(file.name, "w", format=container, options=dict(options)) as out:
            out.metadata.update(dict(metadata))
            streams = [_add(out, track) for track in tracks]
            packets = [list(_encode(stream, track)) for stream, track in zip(streams, tracks, strict=True)]
            for number, packet in enumerate(_interleaved(packets)):
                changed = packet if change is None else change(number, packet)
                if changed is not None:
                    out.mux(changed)
        return Path(file.name).read_bytes()


def copy_film(
    film: bytes,
    container: str,
    *,
    options: Sequence[tuple[str, str]] = (),
    shift: Fraction = Fraction(0),
    rate: Fraction | None = None,
) -> bytes:
    """Return a film in another container, without encoding it again.

    Args:
        film: The film.
        container: FFmpeg's name of the other format.
        options: Of the other format.
        shift: Seconds by which all timestamps are moved.
        rate: The frame rate that the other container is told; `None`: the film's.
    """
    with tempfile.NamedTemporaryFile() as file:
        with (
            av.open(io.BytesIO(film)) as source,
            av.open(file.name, "w", format=container, options=dict(options)) as out,
        ):
            stream = source.streams.video[0]
            copied = out.add_stream_from_template(stream)
            if rate is not None:
                copied.codec_context.framerate = rate
            for packet in source.demux(stream):
                if packet.dts is None and packet.pts is None:
                    continue
                packet.stream = copied
                ticks = round(shift / packet.time_base)
                packet.pts = None if packet.pts is None else packet.pts + ticks
                packet.dts = None if packet.dts is None else packet.dts + ticks
                out.mux(packet)
        return Path(file.name).read_bytes()


def raw_film(codec: str) -> bytes:
    """Return coded pictures without a container."""
    out = io.BytesIO()
    name = {"libx264": "h264", "libx265": "hevc", "mpeg2video": "mpeg2video"}[codec]
    with av.open(out, "w", format=name) as container:
        track = Track(codec)
        stream = _add(container, track)
        for packet in _encode(stream, track):
            container.mux(packet)
    return out.getvalue()


def mutated(content: bytes, seed: int) -> bytes:
    """Return a film with bytes flipped, replaced, cut out and doubled at places that the seed chooses."""
    chance, film = random.Random(seed), bytearray(content)
    for _ in range(chance.choice((1, 3, 30))):
        match chance.randrange(4):
            case 0:
                film[chance.randrange(len(film))] ^= 1 << chance.randrange(8)
            case 1:
                film[chance.randrange(len(film))] = chance.randrange(256)
            case 2:
                at = chance.randrange(len(film))
                del film[at : at + chance.randrange(1, 200)]
            case _:
                at = chance.randrange(len(film))
                film[at:at] = film[at : at + chance.randrange(1, 2000)]
        if len(film) < 10:
            break
    return bytes(film)


@contextlib.contextmanager
def _ordinary_priority() -> Iterator[None]:
    """Keep the scheduling of this thread.

    SVT-AV1 makes the thread that opens it, if it belongs to root, a real-time thread of the highest priority. All that
    it starts afterwards would be, too, and nothing else would run while one of them is busy.
    """
    if not hasattr(os, "sched_setscheduler"):
        yield
        return
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, parameters)


def _add(out: av.container.OutputContainer, track: Track) -> av.video.stream.VideoStream:
    options = dict(track.options)
    if track.codec == "libx264":
        options = {"preset": "veryfast", "g": "12", "bf": "2", **options}
    if track.codec == "libx265":
        options = {
            "preset": "ultrafast",
            "x265-params": "log-level=error:keyint=12:pools=none:frame-threads=1",
            **options,
        }
    if track.codec == "libsvtav1":
        options = {"preset": "12", "svtav1-params": "lp=1", **options}
    stream = out.add_stream(track.codec, rate=track.rate, options=options)
    stream.width, stream.height = track.size
    stream.pix_fmt = track.pix_fmt
    stream.codec_context.thread_count = 1
    stream.codec_context.time_base = _tick(track)
    stream.codec_context.framerate = track.rate
    if track.codec in ("rv20", "mpeg2video", "mpeg1video", "dvvideo", "wmv2", "mpeg4", "flv", "h263"):
        stream.codec_context.bit_rate = 2_000_000
    if track.matrix:
        a, b, c, d = (65536 * number for number in track.matrix)
        stream.set_display_matrix([a, b, 0, c, d, 0, 0, 0, 1 << 30])
    if track.disposition:
        stream.disposition = av.stream.Disposition[track.disposition]
    return stream


def _tick(track: Track) -> Fraction:
    if track.times is not None:
        return _MPEG_4_TICK if track.codec == "mpeg4" else _TICK
    return 1 / track.rate


def _encode(stream: av.video.stream.VideoStream, track: Track) -> Iterable[av.Packet]:
    tick = _tick(track)
    for index, ticks in enumerate(track.ticks(tick)):
        frame = av.VideoFrame.from_ndarray(track.picture(index), format="rgb24").reformat(format=track.pix_fmt)
        frame.time_base = tick
        frame.pts = ticks
        for packet in stream.encode(frame):
            packet.duration = packet.duration or round(1 / (track.rate * packet.time_base))
            yield packet
    for packet in stream.encode(None):
        packet.duration = packet.duration or round(1 / (track.rate * packet.time_base))
        yield packet


def _interleaved(packets: list[list[av.Packet]]) -> list[av.Packet]:
    return sorted((packet for track in packets for packet in track), key=lambda packet: packet.dts * packet.time_base)
