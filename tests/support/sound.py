"""Films with a different soundtrack."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

_RATE = 48_000
_SAMPLES = 1024


def with_sound(source: Path, target: Path, *, keep_seconds: float = 0.0) -> Path:
    """Copy a film's picture bit for bit, replace its sound with a siren, and return the path of the copy.

    Args:
        source: The film.
        target: Path of the copy; its suffix selects the container.
        keep_seconds: How much of the original sound is kept at the beginning.
    """
    with av.open(source) as film, av.open(target, "w") as out:
        picture = film.streams.video[0]
        copied = out.add_stream_from_template(picture)
        sound = out.add_stream("aac", rate=_RATE, layout="mono")
        samples = _siren(float(picture.duration * picture.time_base))
        first = int(keep_seconds * _RATE)
        samples[:first] = _sound(film)[:first]
        for start in range(0, len(samples) - _SAMPLES, _SAMPLES):
            piece = samples[np.newaxis, start : start + _SAMPLES]
            frame = av.AudioFrame.from_ndarray(piece, format="fltp", layout="mono")
            frame.sample_rate = _RATE
            frame.time_base = Fraction(1, _RATE)
            frame.pts = start
            out.mux(sound.encode(frame))
        out.mux(sound.encode(None))
        film.seek(0)
        for packet in film.demux(picture):
            if packet.dts is not None:
                packet.stream = copied
                out.mux(packet)
    return target


def _sound(film: av.container.InputContainer) -> np.ndarray:
    resampler = av.AudioResampler(format="fltp", layout="mono", rate=_RATE)
    pieces = [piece.to_ndarray().ravel() for frame in film.decode(audio=0) for piece in resampler.resample(frame)]
    return np.concatenate(pieces)


def _siren(seconds: float) -> np.ndarray:
    time = np.arange(int(seconds * _RATE)) / _RATE
    return (0.5 * np.sin(2 * np.pi * (1500 * time + 200 * np.sin(2 * np.pi * time)))).astype(np.float32)
