"""Films that are drawn for a test, and what is drawn over them."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from sage_compare.aligned.script import Region

HEIGHT, WIDTH = 180, 320
SOUND_HZ = 48_000
Picture = NDArray[np.uint8]
Effect = Callable[[Picture, int], Picture]


def scene(frames: int, seed: int = 1) -> list[Picture]:
    """Return grey pictures of a textured ground that pans, with something that moves over it; the middle is a cut."""
    pictures = []
    for part, count in ((0, frames // 2), (1, frames - frames // 2)):
        random = np.random.default_rng(seed * 10 + part)
        ground = _clouds(random, HEIGHT + 60, WIDTH + 200)
        thing = _clouds(random, 50, 60)
        for number in range(count):
            left = number * (1 + part) % 190
            picture = ground[number // 4 % 50 :, left:][:HEIGHT, :WIDTH].copy()
            x = (20 + 2 * number) % (WIDTH - 70)
            picture[60:110, x : x + 60] = thing
            pictures.append(picture)
    return pictures


def _clouds(random: np.random.Generator, height: int, width: int) -> Picture:
    total = np.full((height, width), 110.0)
    for size, strength in ((48, 45.0), (16, 25.0), (5, 14.0), (2, 5.0)):
        coarse = random.normal(0, strength, (height // size + 3, width // size + 3))
        y, x = np.arange(height) / size, np.arange(width) / size
        top, left = y.astype(int), x.astype(int)
        fy, fx = (y - top)[:, None], x - left
        lines = coarse[top] * (1 - fy) + coarse[top + 1] * fy
        total += lines[:, left] * (1 - fx) + lines[:, left + 1] * fx
    return np.clip(total, 16, 235).astype(np.uint8)


def changed(pictures: Sequence[Picture], first: int, end: int, effect: Effect) -> list[Picture]:
    """Return pictures of which those in ``[first, end)`` were changed."""
    return [effect(one.copy(), k - first) if first <= k < end else one for k, one in enumerate(pictures)]


def encoded(
    path: Path,
    pictures: Sequence[Picture],
    *,
    crf: int = 22,
    codec: str = "libx264",
    rate: int = 24,
    sound: NDArray[np.float32] | None = None,
    sound_codec: str = "aac",
    bit_rate: int = 128_000,
) -> Path:
    """Write a film."""
    with av.open(str(path), "w") as container:
        options = {"crf": str(crf), "preset": "veryfast"} if codec == "libx264" else {"qscale": "6"}
        stream = container.add_stream(codec, rate=Fraction(rate), options=options)
        stream.width, stream.height, stream.pix_fmt = pictures[0].shape[1], pictures[0].shape[0], "yuv420p"
        heard = None
        if sound is not None:
            heard = container.add_stream(sound_codec, rate=SOUND_HZ, layout="mono")
            heard.bit_rate = bit_rate
        for picture in pictures:
            frame = av.VideoFrame.from_ndarray(picture, format="gray").reformat(format="yuv420p")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if heard is not None and sound is not None:
            for start in range(0, len(sound) - 1023, 1024):
                piece = av.AudioFrame.from_ndarray(sound[None, start : start + 1024], format="fltp", layout="mono")
                piece.sample_rate, piece.time_base, piece.pts = SOUND_HZ, Fraction(1, SOUND_HZ), start
                container.mux(heard.encode(piece))
            container.mux(heard.encode(None))
    return path


def sound_of(path: Path) -> NDArray[np.float32]:
    """Return the sound of a film, mixed to one channel."""
    mixer = av.AudioResampler("fltp", "mono", SOUND_HZ)
    with av.open(str(path)) as container:
        pieces = [piece.to_ndarray()[0] for frame in container.decode(audio=0) for piece in mixer.resample(frame)]
    return np.concatenate(pieces).astype(np.float32)


def box(region: Region) -> tuple[slice, slice]:
    """Return the pixels of a region."""
    top, left = round(region.y * HEIGHT), round(region.x * WIDTH)
    return (
        slice(top, top + round(region.height * HEIGHT)),
        slice(left, left + round(region.width * WIDTH)),
    )


def logo(region: Region, opacity: float = 0.8) -> Effect:
    """Return a bright ring over a region."""
    rows, columns = box(region)
    y, x = np.mgrid[-1 : 1 : (rows.stop - rows.start) * 1j, -1 : 1 : (columns.stop - columns.start) * 1j]
    inside = ((np.maximum(abs(y), abs(x)) <= 1) * opacity).astype(np.float32)
    ink = np.where(np.hypot(y, x) < 0.5, 235.0, 20.0)

    def effect(picture: Picture, _number: int) -> Picture:
        part = picture[rows, columns]
        picture[rows, columns] = (part * (1 - inside) + ink * inside).astype(np.uint8)
        return picture

    return effect


def stripes(region: Region) -> Effect:
    """Return stripes over a region that leave the mean of each cell as it was."""
    rows, columns = box(region)

    def effect(picture: Picture, _number: int) -> Picture:
        part = picture[rows, columns].astype(np.float32)
        dark = np.arange(part.shape[1]) % 6 < 3
        picture[rows, columns] = np.clip(part.mean() + np.where(dark, -40, 40), 16, 235)
        return picture

    return effect


def letters(region: Region, seed: int = 0, *, counting: bool = False) -> Effect:
    """Return white strokes with dark edges over a region, others in each frame if they count."""
    rows, columns = box(region)
    height, width = rows.stop - rows.start, columns.stop - columns.start

    def effect(picture: Picture, number: int) -> Picture:
        random = np.random.default_rng(seed + (number if counting else 0))
        ink = np.repeat(np.repeat(random.random((height // 4 + 1, width // 7 + 1)) < 0.5, 4, 0), 7, 1)[:height, :width]
        picture[rows, columns] = np.where(ink, 235, 16)
        return picture

    return effect


def blur(region: Region, radius: int = 7) -> Effect:
    """Return a blur of a region."""
    rows, columns = box(region)

    def effect(picture: Picture, _number: int) -> Picture:
        part = picture[rows, columns].astype(np.float32)
        for axis in (0, 1):
            padded = np.concatenate([part.take([0] * radius, axis), part, part.take([-1] * radius, axis)], axis)
            count = part.shape[axis]
            part = sum(padded.take(range(k, k + count), axis) for k in range(2 * radius + 1)) / (2 * radius + 1)
        picture[rows, columns] = part.astype(np.uint8)
        return picture

    return effect


def fill(region: Region) -> Effect:
    """Return an even patch over a region, as something is painted out."""
    rows, columns = box(region)

    def effect(picture: Picture, _number: int) -> Picture:
        left, right = picture[rows, columns.start - 1].astype(float), picture[rows, columns.stop].astype(float)
        share = np.linspace(0, 1, columns.stop - columns.start)
        picture[rows, columns] = left.mean() * (1 - share) + right.mean() * share
        return picture

    return effect


def grade(gain: float, offset: float) -> Effect:
    """Return another brightness and contrast."""
    return lambda picture, _number: np.clip(picture * gain + offset, 16, 235).astype(np.uint8)


def fade(frames: int) -> Effect:
    """Return a fade from black."""
    return lambda picture, number: (16 + (picture - 16.0) * (number + 1) / (frames + 1)).astype(np.uint8)


def crop(size: float, x: float, y: float) -> Effect:
    """Return a part of the picture, enlarged."""
    rows = ((y + size * (np.arange(HEIGHT) + 0.5) / HEIGHT) * HEIGHT).astype(int)
    columns = ((x + size * (np.arange(WIDTH) + 0.5) / WIDTH) * WIDTH).astype(int)
    return lambda picture, _number: picture[rows][:, columns]


def scaled(pictures: Sequence[Picture], share: float) -> list[Picture]:
    """Return smaller or larger pictures."""
    rows = (np.arange(round(HEIGHT * share / 2) * 2) / share).astype(int).clip(0, HEIGHT - 1)
    columns = (np.arange(round(WIDTH * share / 2) * 2) / share).astype(int).clip(0, WIDTH - 1)
    return [one[rows][:, columns] for one in pictures]


def grain(pictures: Sequence[Picture], strength: float) -> list[Picture]:
    """Return pictures with grain."""
    random = np.random.default_rng(5)
    return [np.clip(one + random.normal(0, strength, one.shape), 0, 255).astype(np.uint8) for one in pictures]
