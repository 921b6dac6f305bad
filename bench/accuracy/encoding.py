"""Writes a cut as a real file. Each file of a pair is encoded with other settings."""

import subprocess
import tempfile
import wave
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import imageio_ffmpeg
import numpy as np
from numpy.typing import NDArray

from accuracy.cutting import Cut, pictures
from accuracy.films import SOUND_RATE, film

FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()


@dataclass(frozen=True)
class Encoding:
    """How a cut becomes a file.

    Attributes:
        codec: ffmpeg's options of the encoder.
        width: Width of the picture before `filters`.
        rate: Frames per second that the file is played at.
        shown: Frame of the cut that each frame of the file shows; `None`: each in turn.
        times: When each frame is shown, in frames at `rate`; `None`: evenly. Needs a codec without B-frames.
        filters: ffmpeg's filters for the picture.
        file_rate: Frames per second after the filters, if they change it.
        file_shown: Returns what each frame of the file shows, if the filters change that. It gets the number of frames
            before and after them.
        sound_gain: By how much the sound is scaled; `None`: no sound track.
        suffix: The container.
    """

    codec: tuple[str, ...] = ("-c:v", "libx264", "-preset", "veryfast", "-crf", "23")
    width: int = 480
    rate: Fraction = Fraction(24)
    shown: NDArray[np.int64] | None = None
    times: NDArray[np.int64] | None = None
    filters: tuple[str, ...] = ()
    file_rate: Fraction | None = None
    file_shown: Callable[[int, int], NDArray[np.int64]] | None = None
    sound_gain: float | None = 1.0
    suffix: str = "mp4"


def random_encoding(random: np.random.Generator, *, rate: Fraction = Fraction(24)) -> Encoding:
    """Return ordinary settings: H.264, MPEG-4 or HEVC, a crf from 18 to 28, and any size and distance of keyframes."""
    gop = ("-g", str(random.choice([12, 24, 48, 96, 250])))
    width = int(random.choice([320, 400, 480, 480, 640]))
    if random.random() < 0.12:
        return Encoding(("-c:v", "mpeg4", "-q:v", str(random.integers(3, 6)), *gop), width, rate)
    if random.random() < 0.1:
        crf = str(random.integers(20, 27))
        return Encoding(
            ("-c:v", "libx265", "-preset", "ultrafast", "-crf", crf, *gop, "-x265-params", "log-level=none"),
            width,
            rate,
        )
    preset = str(random.choice(["superfast", "veryfast", "veryfast", "faster"]))
    bframes = str(random.integers(0, 4))
    return Encoding(
        ("-c:v", "libx264", "-preset", preset, "-crf", str(random.integers(18, 29)), "-bf", bframes, *gop), width, rate
    )


@dataclass(frozen=True)
class Encoded:
    """A file, and what its frames show.

    Attributes:
        path: The file.
        shown: Frame of the cut that each frame of the file shows.
        seconds: When each frame is shown first, from 0.
        duration: End of the last one.
    """

    path: Path
    shown: NDArray[np.int64]
    seconds: NDArray[np.float64] = field(repr=False)
    duration: float = 0.0


def encode(cut: Cut, shape: tuple[int, int], encoding: Encoding, path: Path) -> Encoded:
    """Write a cut and return what its frames show.

    Raises:
        RuntimeError: ffmpeg failed, or the file does not have the frames that it should have.
    """
    shown = encoding.shown if encoding.shown is not None else np.arange(len(cut.frames))
    picture = pictures(cut, shape)
    height = round(encoding.width * shape[0] / shape[1] / 2) * 2
    filters = ([f"scale={encoding.width}:{height}"] if encoding.width != shape[1] else []) + list(encoding.filters)
    path = path.with_suffix(f".{encoding.suffix}")
    with tempfile.TemporaryDirectory() as folder:
        command = [FFMPEG, "-hide_banner", "-loglevel", "error", "-y", "-f", "rawvideo", "-pix_fmt", "yuv420p"]
        command += ["-s", f"{shape[1]}x{shape[0]}", "-r", str(encoding.rate), "-i", "-"]
        if encoding.sound_gain is not None:
            sound = Path(folder) / "sound.wav"
            _write_sound(sound, cut, shown, encoding)
            command += ["-i", str(sound), "-c:a", "aac", "-b:a", "96k"]
        if encoding.times is not None:
            video = Path(folder) / "even.mkv"
            command += ["-an"]
        else:
            video = path
        command += [*(("-vf", ",".join(filters)) if filters else ()), *encoding.codec, "-threads", "2", str(video)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE)
        with process:
            if process.stdin is None:
                raise RuntimeError("ffmpeg has no standard input")
            for number in shown:
                process.stdin.write(picture(int(number)).tobytes())
            process.stdin.close()
        if process.returncode:
            raise RuntimeError(f"ffmpeg could not write {path}: {' '.join(command)}")
        if encoding.times is not None:
            _retime(video, path, encoding)
    return _checked(path, encoding, shown)


def _checked(path: Path, encoding: Encoding, shown: NDArray[np.int64]) -> Encoded:
    with av.open(path) as container:
        stream = container.streams.video[0]
        base = stream.time_base or Fraction(1)
        times = np.array(
            sorted(p.pts * float(base) for p in container.demux(stream) if p.pts is not None and p.size), np.float64
        )
    if encoding.file_shown is not None:
        shown = encoding.file_shown(len(shown), len(times))
    if len(times) != len(shown):
        raise RuntimeError(f"{path} has {len(times)} frames and should have {len(shown)}")
    step = float(1 / (encoding.file_rate or encoding.rate))
    seconds = np.asarray(times - times[0] if encoding.times is not None else np.arange(len(shown)) * step, np.float64)
    return Encoded(path, shown, seconds, float(seconds[-1]) + step)


def _retime(video: Path, path: Path, encoding: Encoding) -> None:
    """Copy a film and give its frames other times."""
    if encoding.times is None:
        raise ValueError("no times")
    with av.open(video) as source, av.open(path, "w") as out:
        stream = out.add_stream_from_template(source.streams.video[0])
        packets = [p for p in source.demux(video=0) if p.pts is not None and p.size]
        base = Fraction(1) / (encoding.rate * 100)
        first = int(encoding.times[0])
        for packet, time in zip(packets, encoding.times, strict=True):
            packet.stream, packet.time_base = stream, base
            packet.pts = packet.dts = 100 * (int(time) - first)
            out.mux(packet)


def _write_sound(path: Path, cut: Cut, shown: NDArray[np.int64], encoding: Encoding) -> None:
    """Write the sound that belongs to the frames of the file."""
    blocks = []
    ends = np.round((np.arange(len(shown) + 1)) * float(SOUND_RATE / encoding.rate)).astype(int)
    for number, samples in zip(shown, np.diff(ends), strict=True):
        source = cut.frames[int(number)]
        if cut.sound:
            other = film(cut.sound)
            blocks.append(other.sound_of(int(number) % len(other), int(samples)))
        elif source.film:
            blocks.append(film(source.film).sound_of(source.frame, int(samples)))
        else:
            blocks.append(np.zeros(int(samples), np.float32))
    sound = np.clip(np.concatenate(blocks) * (encoding.sound_gain or 0), -1, 1)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SOUND_RATE)
        file.writeframes((sound * 32767).astype("<i2").tobytes())
