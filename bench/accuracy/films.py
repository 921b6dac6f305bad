"""The films that pairs are cut from: real ones from a folder, and drawn ones where no real film shows what is needed.

Films to tune on and films to report on are kept apart. A drawn film belongs to the set whose seed it was drawn with.
"""

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from accuracy.lettering import lettering

Picture = NDArray[np.uint8]
"""One frame as planar YUV 4:2:0: Y above U above V, shape ``(height * 3 / 2, width)``."""

WIDTH = 480
SOUND_RATE = 48_000
REAL = {
    "bunny": "bbb_60s_360p.mp4",
    "bunny2": "bbb_30s_480p.mp4",
    "sintel": "sintel_trailer_480x204.mp4",
    "cars": "intel_car_detection.mp4",
}
SETS = {"tune": ("bunny", "bunny2"), "report": ("sintel", "cars"), "sample": ("sample",)}
"""`sample` is the film that is part of the project, for a small set that needs no other film."""
SEEDS = {"tune": 1, "report": 2, "sample": 3}
SAMPLE = Path(__file__).parents[2] / "samples" / "old.mp4"


@dataclass(frozen=True)
class Film:
    """A film in memory.

    Attributes:
        name: What it is called in the truth.
        rate: Frames per second.
        pictures: Its frames, `WIDTH` pixels wide, shape ``(frames, height * 3 / 2, WIDTH)``.
        sound: Samples at `SOUND_RATE`, one channel, -1 to 1. Empty if it has none.
    """

    name: str
    rate: Fraction
    pictures: NDArray[np.uint8]
    sound: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.pictures)

    def sound_of(self, frame: int, samples: int) -> NDArray[np.float32]:
        """Return the sound of one frame, stretched to a number of samples."""
        per_frame = float(SOUND_RATE / self.rate)
        at = frame * per_frame + np.arange(samples) * (per_frame / samples)
        if not len(self.sound):
            return np.zeros(samples, np.float32)
        return self.sound[np.clip(at.astype(np.int64), 0, len(self.sound) - 1)]

    def cuts(self) -> list[int]:
        """Return the first frame of each shot, by how much the picture changes at once."""
        height = self.pictures.shape[1] * 2 // 3
        luma = self.pictures[:, 4:height:8, 4::8].astype(np.int16)
        steps = np.abs(np.diff(luma, axis=0)).mean((1, 2))
        around = np.array([np.median(steps[max(0, i - 6) : i + 7]) for i in range(len(steps))])
        return [0, *(int(i) + 1 for i in np.flatnonzero(steps > 12 + 3 * around))]


def folder() -> Path:
    """Return the folder that has the real films."""
    return Path(os.environ.get("SAGE_FILMS") or Path(__file__).parents[3] / "shared" / "videos")


@functools.cache
def film(name: str) -> Film:
    """Return a film by name: a key of `REAL`, `sample`, or `KIND:SEED` for a drawn one."""
    if name == "sample":
        return _read(name, SAMPLE)
    if name in REAL:
        return _read(name, folder() / REAL[name])
    kind, _, seed = name.partition(":")
    return DRAWN[kind](name, np.random.default_rng(int(seed)))


def _read(name: str, path: Path) -> Film:
    with av.open(path) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        rate = stream.average_rate
        if rate is None:
            raise SystemExit(f"{path} does not state its frame rate.")
        height = round(WIDTH * stream.height / stream.width / 4) * 4
        frames = [
            f.reformat(WIDTH, height, "yuv420p", interpolation="AREA").to_ndarray() for f in container.decode(stream)
        ]
    with av.open(path) as container:
        resampler = av.AudioResampler("fltp", "mono", SOUND_RATE)
        blocks = [b.to_ndarray()[0] for f in container.decode(audio=0) for b in resampler.resample(f)]
    return Film(name, rate, np.stack(frames), np.concatenate(blocks).astype(np.float32))


def _from_luma(name: str, luma: NDArray[np.floating], tint: tuple[int, int], random: np.random.Generator) -> Film:
    """Return a film of one colour and a melody."""
    frames, height, width = luma.shape
    pictures = np.empty((frames, height * 3 // 2, width), np.uint8)
    pictures[:, :height] = np.clip(luma, 16, 235)
    pictures[:, height : height * 5 // 4] = tint[0]
    pictures[:, height * 5 // 4 :] = tint[1]
    notes = np.repeat(random.integers(0, 24, frames // 8 + 1), 8 * SOUND_RATE // 24)[: frames * SOUND_RATE // 24]
    sound = 0.2 * np.sin(np.cumsum(2 * np.pi * 220 * 2 ** (notes / 12) / SOUND_RATE))
    return Film(name, Fraction(24), pictures, sound.astype(np.float32))


def _cloud(random: np.random.Generator, height: int, width: int, scale: int) -> NDArray[np.float64]:
    """Return a smooth random texture, 0 to 1."""
    coarse = random.random((height // scale + 3, width // scale + 3))
    y, x = np.arange(height) / scale, np.arange(width) / scale
    rows = np.array([np.interp(y, np.arange(len(coarse)), column) for column in coarse.T]).T
    return np.array([np.interp(x, np.arange(rows.shape[1]), row) for row in rows])


def _scenery(random: np.random.Generator, height: int, width: int) -> NDArray[np.float64]:
    """Return a still picture with large and small structure, 40 to 200."""
    parts = sum(_cloud(random, height, width, scale) * weight for scale, weight in ((120, 3), (40, 2), (12, 1)))
    return np.asarray(40 + 160 * parts / 6, np.float64)


def _credits(name: str, random: np.random.Generator) -> Film:
    """White names that roll over black, two pixels a frame."""
    height, frames = 272, 720
    names = ["".join(random.choice(list("AEIOULMNRST"), random.integers(4, 12))) for _ in range(160)]
    strip = np.full((2 * frames + 2 * height, WIDTH), 16.0)
    for row, text in enumerate(names):
        ink = lettering(text, 12)[:, : WIDTH // 2]
        top = height + row * 24
        left = WIDTH // 2 - ink.shape[1] if row % 5 else (WIDTH - ink.shape[1]) // 2
        if top + 12 < len(strip):
            strip[top : top + ink.shape[0], left : left + ink.shape[1]] += 200 * ink
    return _from_luma(name, np.stack([strip[2 * i : 2 * i + height] for i in range(frames)]), (128, 128), random)


def _watch(name: str, random: np.random.Generator) -> Film:
    """A camera that does not move: a still scene, sensor noise, and now and then a small thing that passes."""
    height, frames = 272, 720
    scene = _scenery(random, height, WIDTH)
    luma = np.empty((frames, height, WIDTH), np.float32)
    for i in range(frames):
        luma[i] = scene + random.normal(0, 2, scene.shape)
        x = (i * 3) % (WIDTH * 2)
        if i // 240 != 1 and x < WIDTH - 40:
            luma[i, 180:210, x : x + 40] = 210 if i // 240 == 0 else 60
    return _from_luma(name, luma, (120, 132), random)


def _takes(name: str, random: np.random.Generator) -> Film:
    """Two takes of one shot: the first half and the second have one set, one camera, and other movements."""
    height, half = 272, 240
    wide = _scenery(random, height, WIDTH + half)
    luma = np.empty((2 * half, height, WIDTH), np.float32)
    y, x = np.mgrid[:height, :WIDTH]
    for take in range(2):
        drift = np.cumsum(random.normal(0, 0.9, (half, 4, 2)), axis=0) * (3, 5)
        home = np.array([[150, 90], [170, 200], [120, 300], [190, 400]])
        for i in range(half):
            picture = wide[:, i // 2 : i // 2 + WIDTH].copy()
            for actor, (top, left) in enumerate(home + drift[i] + (0, 30 * take)):
                body = ((y - top) / 70) ** 2 + ((x - left) / 32) ** 2 < 1
                picture[body] = 60 + 45 * actor + 20 * np.sin(x[body] / 5)
            luma[take * half + i] = picture
    return _from_luma(name, luma, (118, 140), random)


def _twos(name: str, random: np.random.Generator) -> Film:
    """Animation on twos: every drawing is shown for two frames. Four shots."""
    height, frames = 272, 480
    luma = np.empty((frames, height, WIDTH), np.float32)
    y, x = np.mgrid[:height, :WIDTH]
    for i in range(frames):
        if i % 120 == 0:
            scene = np.round(_scenery(random, height, WIDTH) / 40) * 40
            speed, size = random.uniform(2, 5), random.integers(30, 70)
        step = i // 2 % 60
        body = ((y - 140 - 40 * np.sin(step / 5)) ** 2 + (x - 40 - speed * step) ** 2) < size**2
        luma[i] = scene
        luma[i][body] = 220
    return _from_luma(name, luma, (112, 150), random)


def _strobe(name: str, random: np.random.Generator) -> Film:
    """Dancers under a strobe: one frame in three is white, one is dark."""
    height, frames = 272, 480
    luma = np.empty((frames, height, WIDTH), np.float32)
    wide = _scenery(random, height, WIDTH + frames)
    for i in range(frames):
        light = (1.0, 0.25, 1.9)[i % 3] if i // 48 % 2 else 1.0
        luma[i] = np.clip(wide[:, i : i + WIDTH] * light, 16, 235)
    return _from_luma(name, luma, (140, 120), random)


DRAWN: dict[str, Callable[[str, np.random.Generator], Film]] = {
    "credits": _credits,
    "watch": _watch,
    "takes": _takes,
    "twos": _twos,
    "strobe": _strobe,
}
