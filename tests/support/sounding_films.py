"""Films with sound, in any container and codecs."""

import io
import tempfile
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from corpus.maker import Track, make_film
from numpy.typing import NDArray

_SAMPLES = 1024


def tone(seconds: float, *, hertz: float, rate: int = 48_000, gain: float = 0.5) -> NDArray[np.float32]:
    """Return a sine."""
    return (gain * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def sounding_film(
    container: str,
    track: Track,
    sound: NDArray[np.float32],
    *,
    codec: str = "aac",
    rate: int = 48_000,
    layout: str = "mono",
    starts: tuple[tuple[float, float], ...] = ((0.0, 1e9),),
    picture_start: float = 0.0,
    stored_ahead: float = 0.0,
) -> bytes:
    """Return a film.

    Args:
        container: FFmpeg's name of the format.
        track: Its picture.
        sound: Its samples from -1 to 1.
        codec: Encoder of the sound.
        rate: Samples per second.
        layout: Channels, which are all the same.
        starts: For parts of the sound in order, timestamp of the first sample and length, both in seconds.
        picture_start: Timestamp of the first frame, in seconds.
        stored_ahead: By how many seconds the sound comes before the picture of the same time in the file.
    """
    picture = make_film("mp4", track)
    with tempfile.NamedTemporaryFile() as file, av.open(io.BytesIO(picture)) as source:
        # FFmpeg sorts packets by time unless they are this many microseconds apart.
        options = {"max_interleave_delta": "1"} if stored_ahead else {}
        with av.open(file.name, "w", format=container, options=options) as out:
            stream = source.streams.video[0]
            copied = out.add_stream_from_template(stream)
            heard = out.add_stream(codec, rate=rate, layout=layout)
            heard.bit_rate = 128_000
            packets = [packet for packet in source.demux(stream) if packet.dts is not None]
            for packet in packets:
                packet.stream = copied
                packet.pts += round(picture_start / packet.time_base)
                packet.dts += round(picture_start / packet.time_base)
            stored = [(packet.dts * packet.time_base, packet) for packet in packets]
            heard_packets = _encoded(heard, sound, rate=rate, layout=layout, starts=starts)
            stored += [(packet.dts * packet.time_base - stored_ahead, packet) for packet in heard_packets]
            for _, packet in sorted(stored, key=lambda one: one[0]):
                out.mux(packet)
        return Path(file.name).read_bytes()


def _encoded(stream, sound, *, rate, layout, starts):
    at, packets = 0, []
    resampler = av.AudioResampler(format=stream.codec_context.codec.audio_formats[0].name, layout=layout, rate=rate)
    for start, seconds in starts:
        part = sound[at : at + round(seconds * rate)]
        at += len(part)
        for first in range(0, len(part) - _SAMPLES + 1, _SAMPLES):
            channels = np.repeat(part[np.newaxis, first : first + _SAMPLES], 2 if layout == "stereo" else 1, axis=0)
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(channels), format="fltp", layout=layout)
            frame.sample_rate, frame.time_base = rate, Fraction(1, rate)
            frame.pts = round(start * rate) + first
            for one in resampler.resample(frame):
                one.pts = frame.pts
                packets += stream.encode(one)
    packets += stream.encode(None)
    return [packet for packet in packets if packet.dts is not None]
