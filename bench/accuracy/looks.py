"""What is done to the picture of a stretch: logos, subtitles, blurs, crops, grades and fades."""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sage_compare.aligned.script import ChangeKind, Region

from accuracy.films import Picture
from accuracy.lettering import lettering

Places = NDArray[np.int64]
Effect = Callable[[Picture, int, int], None]
"""Changes a picture in place, given its number within the stretch and the number of pictures of the stretch."""


@dataclass(frozen=True)
class Look:
    """One change of the picture.

    Attributes:
        kind: What it is called in the truth.
        effect: What it does.
        region: Where; `None` if everywhere.
    """

    kind: ChangeKind
    effect: Effect
    region: Region | None = None


def planes(picture: Picture) -> tuple[Picture, Picture, Picture]:
    """Return Y, U and V of a picture, as views."""
    height = len(picture) * 2 // 3
    half = (height // 2, picture.shape[1] // 2)
    return picture[:height], picture[height : height * 5 // 4].reshape(half), picture[height * 5 // 4 :].reshape(half)


def _draw(picture: Picture, ink: NDArray[np.float32], top: int, left: int, colour: tuple[int, int, int]) -> None:
    """Blend a colour over the picture where there is ink. Top and left are even."""
    ink = ink[: len(ink) // 2 * 2, : ink.shape[1] // 2 * 2]
    coarse = np.asarray((ink[::2, ::2] + ink[1::2, ::2] + ink[::2, 1::2] + ink[1::2, 1::2]) / 4, np.float32)
    shares: tuple[NDArray[np.float32], ...] = (ink, coarse, coarse)
    for plane, value, share, step in zip(planes(picture), colour, shares, (1, 2, 2), strict=True):
        at = plane[top // step : top // step + len(share), left // step : left // step + share.shape[1]]
        at[:] = at + (value - at.astype(np.float32)) * share[: at.shape[0], : at.shape[1]]


def _outlined(text: str, height: int, width: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the ink of a text and of the dark outline around it, at most `width` wide."""
    ink = np.pad(lettering(text, height), 2)[:, : width // 2 * 2]
    around = ink.copy()
    for dy, dx in ((-1, 0), (1, 0), (0, -1), (0, 1), (1, 1), (2, 2)):
        around = np.maximum(around, np.roll(ink, (dy, dx), (0, 1)))
    return ink, around


def _share(shape: tuple[int, int], top: float, left: float, height: float, width: float) -> Region:
    return Region(left / shape[1], top / shape[0], width / shape[1], height / shape[0])


def text(shape: tuple[int, int], words: str, *, size: float = 0.055, top: float = 0.84) -> Look:
    """Return white outlined text in the middle of a line, as a subtitle or a title has it.

    Args:
        shape: Height and width of the picture.
        words: What it says.
        size: Height of a capital as a share of the picture's.
        top: Where it begins, as a share of the height.
    """
    ink, around = _outlined(words, max(8, round(size * shape[0])), shape[1])
    y, x = int(top * shape[0]) // 2 * 2, (shape[1] - ink.shape[1]) // 4 * 2

    def effect(picture: Picture, _number: int, _count: int) -> None:
        _draw(picture, around, y, x, (16, 128, 128))
        _draw(picture, ink, y, x, (235, 128, 128))

    return Look(ChangeKind.TEXT, effect, _share(shape, y, x, *ink.shape))


def clock(shape: tuple[int, int], first: int, *, top: float = 0.03, left: float = 0.05) -> Look:
    """Return a burnt-in timecode that counts 24 frames a second from a number on."""
    size = max(8, round(0.05 * shape[0]))
    width = lettering("00:00:00:00", size).shape[1] + 4
    y, x = int(top * shape[0]) // 2 * 2, int(left * shape[1]) // 2 * 2

    def effect(picture: Picture, number: int, _count: int) -> None:
        at = first + number
        words = f"{at // 86400 % 24:02}:{at // 1440 % 60:02}:{at // 24 % 60:02}:{at % 24:02}"
        ink, _ = _outlined(words, size, shape[1])
        _draw(picture, np.full(ink.shape, 0.8, np.float32), y, x, (16, 128, 128))
        _draw(picture, ink, y, x, (235, 128, 128))

    return Look(ChangeKind.TEXT, effect, _share(shape, y, x, size + 4, width))


def logo(shape: tuple[int, int], corner: int, *, size: float = 0.12, alpha: float = 0.8) -> Look:
    """Return a coloured disc with a letter in one of the four corners."""
    across = round(size * shape[0] / 2) * 2
    y, x = np.mgrid[:across, :across] - (across - 1) / 2
    disc = (y**2 + x**2 < (across / 2) ** 2).astype(np.float32) * np.float32(alpha)
    letter = np.zeros_like(disc)
    ink = lettering("S", across // 2)
    letter[across // 4 : across // 4 + len(ink), across // 3 : across // 3 + ink.shape[1]] = ink * alpha
    margin = round(0.05 * shape[0] / 2) * 2
    top = margin if corner < 2 else (shape[0] - across - margin) // 2 * 2
    left = margin if corner % 2 == 0 else (shape[1] - across - margin) // 2 * 2

    def effect(picture: Picture, _number: int, _count: int) -> None:
        _draw(picture, disc, top, left, (110, 90, 200))
        _draw(picture, letter, top, left, (225, 128, 128))

    return Look(ChangeKind.OVERLAY, effect, _share(shape, top, left, across, across))


def card(words: str) -> Look:
    """Return a full title card, as silent films have it."""

    def effect(picture: Picture, _number: int, _count: int) -> None:
        luma, *chroma = planes(picture)
        luma[:] = 30
        for plane, value in zip(chroma, (134, 126), strict=True):
            plane[:] = value
        height, width = luma.shape
        luma[height // 12 : -(height // 12), [width // 14, -width // 14]] = 210
        luma[[height // 12, -height // 12], width // 14 : -(width // 14)] = 210
        ink, _ = _outlined(words, height // 10, width)
        _draw(picture, ink, height * 9 // 40 * 2, (width - ink.shape[1]) // 4 * 2, (215, 124, 134))

    return Look(ChangeKind.TEXT, effect)


def _box(shape: tuple[int, int], region: Region) -> tuple[slice, slice]:
    top, left = int(region.y * shape[0]) // 2 * 2, int(region.x * shape[1]) // 2 * 2
    height, width = int(region.height * shape[0]) // 2 * 2, int(region.width * shape[1]) // 2 * 2
    return slice(top, top + height), slice(left, left + width)


def _smoothed(plane: NDArray[np.float32], radius: int) -> NDArray[np.float32]:
    """Return a plane averaged twice over squares of ``2 * radius + 1``."""
    size = 2 * radius + 1
    for _ in range(2):
        for axis in (0, 1):
            padded = np.concatenate(
                [
                    np.repeat(plane.take([0], axis), radius + 1, axis),
                    plane,
                    np.repeat(plane.take([-1], axis), radius, axis),
                ],
                axis,
            )
            total = np.cumsum(padded, axis, dtype=np.float64)
            ends = total.take(range(size, total.shape[axis]), axis) - total.take(range(total.shape[axis] - size), axis)
            plane = (ends / size).astype(np.float32)
    return plane


def blur(shape: tuple[int, int], region: Region, *, radius: int = 8) -> Look:
    """Return a blurred rectangle."""

    def effect(picture: Picture, _number: int, _count: int) -> None:
        for plane, step in zip(planes(picture), (1, 2, 2), strict=True):
            rows, columns = _box(shape, region)
            at = plane[rows.start // step : rows.stop // step, columns.start // step : columns.stop // step]
            at[:] = _smoothed(at.astype(np.float32), radius // step)

    return Look(ChangeKind.BLUR, effect, region)


def erase(shape: tuple[int, int], region: Region) -> Look:
    """Return a rectangle whose content is painted out: filled from its border, with a little grain."""

    def effect(picture: Picture, number: int, _count: int) -> None:
        grain = np.random.default_rng(number)
        for plane, step in zip(planes(picture), (1, 2, 2), strict=True):
            rows, columns = _box(shape, region)
            at = plane[rows.start // step : rows.stop // step, columns.start // step : columns.stop // step]
            down = np.linspace(0, 1, len(at), dtype=np.float32)[:, None]
            across = np.linspace(0, 1, at.shape[1], dtype=np.float32)[None]
            vertical = at[:1] * (1 - down) + at[-1:] * down
            horizontal = at[:, :1] * (1 - across) + at[:, -1:] * across
            filled = _smoothed(((vertical + horizontal) / 2).astype(np.float32), 4) + grain.normal(
                0, 1.5 if step == 1 else 0, at.shape
            )
            at[:] = np.clip(filled, 16, 235)

    return Look(ChangeKind.OVERLAY, effect, region)


def crop(first: Region, last: Region | None = None) -> Look:
    """Return a part of the picture enlarged to all of it, which moves evenly from one rectangle to another."""
    end = last or first

    def effect(picture: Picture, number: int, count: int) -> None:
        share = number / max(1, count - 1)
        left, top, width, height = (
            a + (b - a) * share
            for a, b in (
                (first.x, end.x),
                (first.y, end.y),
                (first.width, end.width),
                (first.height, end.height),
            )
        )
        for plane in planes(picture):
            rows = (top + height * (np.arange(len(plane)) + 0.5) / len(plane)) * len(plane) - 0.5
            columns = (left + width * (np.arange(plane.shape[1]) + 0.5) / plane.shape[1]) * plane.shape[1] - 0.5
            plane[:] = _sampled(plane.astype(np.float32), np.maximum(rows, 0), np.maximum(columns, 0))

    return Look(ChangeKind.CROP, effect)


def _sampled(
    plane: NDArray[np.float32], rows: NDArray[np.float64], columns: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Return a plane at fractional rows and columns."""
    y, x = rows.astype(int), columns.astype(int)
    below, right = np.minimum(y + 1, len(plane) - 1), np.minimum(x + 1, plane.shape[1] - 1)
    fy, fx = (rows - y).astype(np.float32)[:, None], (columns - x).astype(np.float32)
    lines = plane[y] * (1 - fy) + plane[below] * fy
    return np.asarray(lines[:, x] * (1 - fx) + lines[:, right] * fx, np.float32)


def mirror() -> Look:
    """Return the picture mirrored left to right."""

    def effect(picture: Picture, _number: int, _count: int) -> None:
        for plane in planes(picture):
            plane[:] = plane[:, ::-1].copy()

    return Look(ChangeKind.MIRRORED, effect)


def negative() -> Look:
    """Return the negative of the picture."""

    def effect(picture: Picture, _number: int, _count: int) -> None:
        luma, *chroma = planes(picture)
        luma[:] = 251 - np.clip(luma, 16, 235)
        for plane in chroma:
            plane[:] = 255 - plane

    return Look(ChangeKind.NEGATIVE, effect)


def grade(gain: float, offset: float, blue: float = 0, red: float = 0) -> Look:
    """Return another brightness, contrast and tint."""

    def effect(picture: Picture, _number: int, _count: int) -> None:
        luma, u, v = planes(picture)
        luma[:] = np.clip((luma - 16.0) * gain + 16 + offset, 16, 235)
        u[:] = np.clip(u + np.float32(blue), 16, 240)
        v[:] = np.clip(v + np.float32(red), 16, 240)

    return Look(ChangeKind.GRADE, effect)


def dim(picture: Picture, gain: float) -> None:
    """Scale a picture towards black."""
    luma, *chroma = planes(picture)
    luma[:] = 16 + (luma - 16.0) * gain
    for plane in chroma:
        plane[:] = 128 + (plane - 128.0) * gain


def fade(*, out: bool) -> Look:
    """Return a fade to black or from black over the whole stretch; no picture is left as it was."""

    def effect(picture: Picture, number: int, count: int) -> None:
        passed = (number + 1) / (count + 1)
        dim(picture, 1 - passed if out else passed)

    return Look(ChangeKind.FADE, effect)


@functools.lru_cache(maxsize=64)
def _style(
    style: int, height: int, width: int
) -> tuple[list[tuple[NDArray[np.int64], NDArray[np.int64]]], NDArray[np.uint8]]:
    """Return the rows and columns of Y and of U and V that a style shows, and its curve of brightness."""
    random = np.random.default_rng(style)
    size = random.uniform(0.55, 0.8)
    top, left = random.uniform(0, 1 - size, 2)
    mirrored = random.random() < 0.5
    found = []
    for rows, columns in ((height, width), (height // 2, width // 2)):
        down = ((top + size * np.arange(rows) / rows) * rows).astype(np.int64)
        across = ((left + size * np.arange(columns) / columns) * columns).astype(np.int64)
        found.append((down, across[::-1] if mirrored else across))
    curve = 16 + np.maximum(np.arange(256) - 16.0, 0) * random.uniform(0.75, 1.15) + random.uniform(-4, 12)
    return found, np.clip(curve, 16, 235).astype(np.uint8)


def restyled(picture: Picture, style: int) -> Picture:
    """Return a picture as another shot would show it: a part of it, mirrored or not, in another grade."""
    luma, u, v = planes(picture)
    (whole, half), curve = _style(style, *luma.shape)
    made = np.empty_like(picture)
    parts = planes(made)
    parts[0][:] = curve[luma[np.ix_(*whole)]]
    for part, plane in zip(parts[1:], (u, v), strict=True):
        part[:] = plane[np.ix_(*half)]
    return made
