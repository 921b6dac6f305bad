"""The same film at another frame rate, or with a frame more at an end, is no difference."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray
from sage_compare.aligned.align import align
from sage_compare.aligned.inputs import Film, Options
from sage_compare.aligned.script import EditKind, EditScript, Frames, NormalizationKind
from sage_fingerprint.model import Fingerprint
from support.edited_fingerprints import black, joined

RATE = 24


def mixed(film: Fingerprint, places: NDArray[np.float64], seconds: NDArray[np.float64]) -> Fingerprint:
    """Return a film whose frames lie between those of another: 2.25 is three quarters of frame 2 and a quarter of 3."""
    first = np.minimum(np.floor(places).astype(int), len(film) - 1)
    second = np.minimum(first + 1, len(film) - 1)
    share = places - np.floor(places)

    def between(cells: NDArray[np.uint8]) -> NDArray[np.uint8]:
        weight = share.reshape(-1, *[1] * (cells.ndim - 1))
        return np.rint(cells[first] * (1 - weight) + cells[second] * weight).astype(np.uint8)

    length = float(np.median(np.diff(seconds)))
    return Fingerprint(
        between(film.luma), between(film.texture), between(film.chroma), seconds, float(seconds[-1]) + length
    )


def pulled_down(film: Fingerprint) -> Fingerprint:
    """Return 3:2 pulldown: of five frames two are woven from two."""
    number = np.arange(len(film) // 4 * 5)
    place = 4 * (number // 5) + np.array([0, 0.5, 1.5, 2, 3])[number % 5]
    return mixed(film, place, number / (RATE * 5 / 4))


def blended(film: Fingerprint) -> Fingerprint:
    """Return the film at 30 frames/s, by mixing."""
    number = np.arange(len(film) * 5 // 4)
    return mixed(film, number * 0.8, number / 30)


def dropped(film: Fingerprint, target: int) -> Fingerprint:
    """Return the film at a lower or higher rate by frames that are dropped or shown twice."""
    number = np.arange(len(film) * target // RATE)
    return mixed(film, np.floor(number * RATE / target + 1e-6), number / target)


def uneven(film: Fingerprint) -> Fingerprint:
    """Return the film without frames here and there; the frame before each is shown for longer."""
    random = np.random.default_rng(3)
    kept = np.flatnonzero((random.random(len(film)) > 0.15) | (np.arange(len(film)) == 0))
    return replace(
        mixed(film, kept.astype(np.float64), film.frame_seconds[kept]), duration_seconds=film.duration_seconds
    )


CONVERSIONS = {
    "3:2 pulldown": (pulled_down, 30),
    "blended": (blended, 30),
    "20 fps": (lambda film: dropped(film, 20), 20),
    "25 fps": (lambda film: dropped(film, 25), 25),
    "30 fps": (lambda film: dropped(film, 30), 30),
    "variable rate": (uneven, 24),
}


def compared(old: Fingerprint, new: Fingerprint, rate: int) -> EditScript:
    return align(Film(old, Fraction(RATE)), Film(new, Fraction(rate)), Options())


@pytest.mark.parametrize("name", CONVERSIONS)
def test_conversion_is_no_difference(encodes, name):
    good, poor = encodes
    convert, rate = CONVERSIONS[name]
    script = compared(good, convert(poor), rate)
    assert {edit.kind for edit in script.edits} == {EditKind.MATCHED}
    converted = {one.kind for one in script.normalizations}
    assert converted == ({NormalizationKind.FRAME_RATE_CONVERTED} if rate != RATE else set())


@pytest.mark.parametrize("name", CONVERSIONS)
def test_insertion_into_a_converted_film_is_found(encodes, name):
    good, poor = encodes
    convert, rate = CONVERSIONS[name]
    upside_down = Fingerprint(
        poor.luma[:48, ::-1],
        poor.texture[:48, ::-1],
        poor.chroma[:48, :, ::-1],
        poor.frame_seconds[:48],
        48 / RATE,
    )
    new = convert(joined(part(poor, 0, 100), upside_down, part(poor, 100, len(poor))))
    edits = [edit for edit in compared(good, new, rate).edits if edit.kind is not EditKind.MATCHED]
    assert [edit.kind for edit in edits] == [EditKind.INSERTED]
    inserted = edits[0].b
    assert inserted is not None
    seconds = new.frame_seconds[inserted.first], new.frame_seconds[inserted.end]
    # To a frame of the slower film, and one more that is mixed.
    assert seconds == pytest.approx((100 / RATE, 148 / RATE), abs=0.1)


def part(film: Fingerprint, first: int, end: int) -> Fingerprint:
    return joined(
        Fingerprint(
            film.luma[first:end],
            film.texture[first:end],
            film.chroma[first:end],
            film.frame_seconds[first:end],
            (end - first) / RATE,
        )
    )


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("missing_in_new", [True, False])
def test_a_frame_more_at_an_end_is_no_difference(encodes, first, missing_in_new):
    good, poor = encodes
    count = len(good)
    without = Frames(first, first + count - 1)
    if missing_in_new:
        script = compared(good, part(poor, without.first, without.end), RATE)
    else:
        script = compared(part(good, without.first, without.end), poor, RATE)
    assert {edit.kind for edit in script.edits} == {EditKind.MATCHED}
    # All others keep their counterpart.
    longest = max(script.edits, key=lambda edit: len(edit.a or ()))
    assert longest.a is not None
    assert longest.b is not None
    assert longest.a.first - longest.b.first == (first if missing_in_new else -first)
    assert len(longest.a) == len(longest.b) == count - 2
    assert [(one.kind, one.a, one.b) for one in script.normalizations] == [
        (NormalizationKind.END_FRAMES, *(("1", "0") if missing_in_new else ("0", "1")))
    ]


def test_two_frames_more_are_a_difference(encodes):
    good, poor = encodes
    script = compared(good, part(poor, 2, len(poor)), RATE)
    assert [edit.kind for edit in script.edits] == [EditKind.DELETED, EditKind.MATCHED]


def test_a_still_film_is_aligned_by_its_ends():
    random = np.random.default_rng(1)
    still = black(300)
    picture = random.integers(30, 220, (18, 32))

    def noisy() -> Fingerprint:
        return replace(still, luma=(picture + random.integers(-2, 3, still.luma.shape)).astype(np.uint8))

    assert [edit.kind for edit in compared(noisy(), noisy(), RATE).edits] == [EditKind.MATCHED]
