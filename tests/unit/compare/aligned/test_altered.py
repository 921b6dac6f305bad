"""Stretches in which one film shows the picture of the other mirrored, negative, or only a part of it."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from sage_compare.aligned.align import align
from sage_compare.aligned.altered import Altered, joined
from sage_compare.aligned.crops import find_crop
from sage_compare.aligned.inputs import Options
from sage_compare.aligned.lines import Line
from sage_compare.aligned.normalize import normalize
from sage_compare.aligned.script import ChangeKind, ChangeSide, Edit, EditKind, Frames, Region
from sage_fingerprint.model import Fingerprint
from support.edited_fingerprints import black, film

HEIGHT, WIDTH, SHOT = 72, 128, 40
FIRST, END = 47, 113

Pictures = NDArray[np.float32]
Alter = Callable[[Pictures], Pictures]


def painted(seed: int, shots: int, *, still: bool = False) -> Pictures:
    """Shots of soft shapes that move to the side."""
    random = np.random.default_rng(seed)
    pictures = []
    for _ in range(shots):
        scene = random.normal(0, 1, (HEIGHT, WIDTH + 2 * SHOT))
        for axis in (0, 1):
            scene = sum(np.roll(scene, shift, axis) for shift in range(-8, 9))
        scene = 128 + scene / scene.std() * 40
        pictures += [scene[:, 2 * step : 2 * step + WIDTH] for step in ([0] * SHOT if still else range(SHOT))]
    return np.clip(np.array(pictures), 16, 235).astype(np.float32)


def fingerprint(pictures: Pictures, noise: int) -> Fingerprint:
    """Return the fingerprint of pictures as one encoder leaves them."""
    random = np.random.default_rng(noise)
    cells = pictures.reshape(-1, 18, HEIGHT // 18, 32, WIDTH // 32)
    luma = cells.mean((2, 4)) + random.normal(0, 0.6, (len(pictures), 18, 32))
    texture = np.clip(cells.std((2, 4)), 0, 255)
    plain = black(len(pictures))
    return Fingerprint(
        luma.round().astype(np.uint8),
        texture.round().astype(np.uint8),
        plain.chroma,
        plain.frame_seconds,
        plain.duration_seconds,
    )


def part(first: tuple[float, float, float], last: tuple[float, float, float] | None = None) -> Alter:
    """Return what enlarges a part of each picture: its left, top and size in the first and in the last one."""

    def alter(pictures: Pictures) -> Pictures:
        made = np.empty_like(pictures)
        for number, picture in enumerate(pictures):
            way = number / (len(pictures) - 1)
            left, top, size = (a + (b - a) * way for a, b in zip(first, last or first, strict=True))
            y = np.clip((top + size * (np.arange(HEIGHT) + 0.5) / HEIGHT) * HEIGHT - 0.5, 0, HEIGHT - 1.001)
            x = np.clip((left + size * (np.arange(WIDTH) + 0.5) / WIDTH) * WIDTH - 0.5, 0, WIDTH - 1.001)
            down, across = (y % 1)[:, None], x % 1
            rows = picture[y.astype(int)] * (1 - down) + picture[y.astype(int) + 1] * down
            made[number] = rows[:, x.astype(int)] * (1 - across) + rows[:, x.astype(int) + 1] * across
        return made

    return alter


def mirrored(pictures: Pictures) -> Pictures:
    return pictures[:, :, ::-1]


def negative(pictures: Pictures) -> Pictures:
    return 251 - pictures


def altered(pictures: Pictures, alter: Alter, first: int = FIRST, end: int = END) -> Pictures:
    made = pictures.copy()
    made[first:end] = alter(pictures[first:end])
    return made


def edits_of(old: Pictures, new: Pictures) -> tuple[Edit, ...]:
    films = [film(fingerprint(one, seed), np.arange(len(one))) for seed, one in enumerate((old, new))]
    return align(*films, Options()).edits


FILM = painted(1, 5)
ALTERATIONS = [
    pytest.param(part((0.1, 0.05, 0.8)), ChangeKind.CROP, id="crop"),
    pytest.param(part((0.0, 0.1, 0.75), (0.25, 0.1, 0.75)), ChangeKind.CROP, id="pan"),
    pytest.param(part((0.03, 0.03, 0.94), (0.12, 0.12, 0.76)), ChangeKind.CROP, id="zoom"),
    pytest.param(mirrored, ChangeKind.MIRRORED, id="mirrored"),
    pytest.param(negative, ChangeKind.NEGATIVE, id="negative"),
]


@pytest.mark.parametrize(("alter", "kind"), ALTERATIONS)
@pytest.mark.parametrize("swapped", [False, True], ids=["in-b", "in-a"])
def test_altered_stretch_is_one_change_with_its_ends(alter: Alter, kind: ChangeKind, swapped: bool) -> None:
    new = altered(FILM, alter)
    edits = edits_of(new, FILM) if swapped else edits_of(FILM, new)
    assert [edit.b for edit in edits] == [Frames(0, FIRST), Frames(FIRST, END), Frames(END, len(FILM))]
    assert all(edit.a == edit.b for edit in edits)
    (change,) = edits[1].changes
    assert change.kind is kind
    if kind is ChangeKind.CROP:
        assert change.side is (ChangeSide.A if swapped else ChangeSide.B)


@pytest.mark.parametrize(("alter", "kind"), ALTERATIONS)
def test_other_frames_that_look_like_altered_ones_do_not_break_it_up(alter: Alter, kind: ChangeKind) -> None:
    """A later shot shows by chance what the first frames of the altered stretch show."""
    old = np.concatenate([FILM, alter(FILM[FIRST:END])[:20] + 2, painted(7, 1)])
    edits = edits_of(old, altered(old, alter))
    changed = [edit for edit in edits if edit.kind is not EditKind.MATCHED]
    assert [(edit.b, edit.changes[0].kind) for edit in changed] == [(Frames(FIRST, END), kind)]


@pytest.mark.parametrize(("alter", "kind"), ALTERATIONS)
def test_altered_part_of_a_still_shot_has_its_ends(alter: Alter, kind: ChangeKind) -> None:
    """Any picture of a still shot that is held explains all of it."""
    old = np.concatenate([painted(3, 1), painted(4, 1, still=True), painted(5, 1)])
    edits = edits_of(old, altered(old, alter, 30, 66))
    changed = [edit for edit in edits if edit.kind is not EditKind.MATCHED]
    assert [(edit.b, edit.changes[0].kind) for edit in changed] == [(Frames(30, 66), kind)]


@pytest.mark.parametrize(("alter", "kind"), [one for one in ALTERATIONS if one.values[1] is not ChangeKind.NEGATIVE])
def test_black_in_the_middle_does_not_break_it_up(alter: Alter, kind: ChangeKind) -> None:
    """A mirrored black frame is a black frame."""
    old = FILM.copy()
    old[66:88] = 16
    edits = edits_of(old, altered(old, alter))
    changed = [edit for edit in edits if edit.kind is not EditKind.MATCHED]
    assert [(edit.b, edit.changes[0].kind) for edit in changed] == [(Frames(FIRST, END), kind)]


@pytest.mark.parametrize(
    ("ranges", "runs"),
    [
        pytest.param([(40, 66), (88, 113)], [(40, 113)], id="black between them"),
        pytest.param([(40, 92), (90, 113)], [(40, 113)], id="they overlap"),
        pytest.param([(20, 40), (50, 60)], [(20, 40), (50, 60)], id="a picture between them"),
    ],
)
def test_stretches_that_were_altered_the_same_way_are_one(
    ranges: list[tuple[int, int]], runs: list[tuple[int, int]]
) -> None:
    pictures = FILM.copy()
    pictures[66:88] = 16
    whole = film(fingerprint(pictures, 1), np.arange(len(pictures)))
    line = Line(1.0, 0.0, 0, len(pictures), score=0.0, cost=0.0)
    found = [Altered(Frames(*one), line, ChangeKind.MIRRORED, None, None) for one in ranges]
    fingerprints = whole.fingerprint, whole.fingerprint
    one_run = joined(found, *fingerprints, normalize(whole, whole, Options()).pair)
    assert [(one.b.first, one.b.end) for one in one_run] == runs


@pytest.mark.parametrize(("gain", "offset"), [(1.0, 18.0), (0.9, -14.0), (0.7, 0.0)])
def test_grade_over_a_fade_to_black_is_one_change(gain: float, offset: float) -> None:
    old = FILM.copy()
    old[70:80] = 16 + (FILM[70:80] - 16) * np.linspace(0.4, 0, 10)[:, None, None]
    old[80:95] = 16
    edits = edits_of(old, altered(old, lambda pictures: np.maximum(16 + (pictures - 16) * gain + offset, 16)))
    changed = [edit for edit in edits if edit.kind is not EditKind.MATCHED]
    assert [(edit.b, [change.kind for change in edit.changes]) for edit in changed] == [
        (Frames(FIRST, END), [ChangeKind.GRADE])
    ]


def words(top: int, height: int, left: int, width: int, light: float = 235) -> Alter:
    """Return what puts upright strokes on a dark ground over the pictures, as letters have them."""

    def alter(pictures: Pictures) -> Pictures:
        made = pictures.copy()
        made[:, top : top + height, left : left + width] = 16
        made[:, top + 1 : top + height - 1, left + 1 : left + width - 1 : 3] = light
        return made

    return alter


def dim(pictures: Pictures) -> Pictures:
    """Return pictures with two shots of little contrast, in which a title is most of what there is to see."""
    made = pictures.copy()
    made[SHOT : 3 * SHOT] = 40 + (pictures[SHOT : 3 * SHOT] - 128) * 0.2
    return made


def test_title_over_a_flat_picture_is_one_change_over_its_whole_length() -> None:
    old = dim(FILM)
    edits = edits_of(old, altered(old, words(30, 10, 24, 80)))
    changed = [edit for edit in edits if edit.kind is not EditKind.MATCHED]
    assert [(edit.a, edit.b) for edit in changed] == [(Frames(FIRST, END), Frames(FIRST, END))]
    assert [change.kind for change in changed[0].changes] == [ChangeKind.TEXT]


def test_title_in_another_language_is_one_change() -> None:
    old = altered(dim(FILM), words(30, 10, 24, 80))
    edits = edits_of(old, altered(dim(FILM), words(30, 10, 40, 56)))
    changed = [edit for edit in edits if edit.kind is not EditKind.MATCHED]
    assert [(edit.a, edit.b) for edit in changed] == [(Frames(FIRST, END), Frames(FIRST, END))]
    assert {change.b for change in changed[0].changes} == {Frames(FIRST, END)}
    assert {change.kind for change in changed[0].changes} <= {ChangeKind.TEXT, ChangeKind.OVERLAY}


def test_subtitle_over_a_flat_picture_does_not_interrupt_a_logo() -> None:
    old = dim(FILM)
    logo = altered(old, words(4, 12, 108, 12, 190), 42, 118)
    edits = edits_of(old, altered(logo, words(56, 14, 12, 104), 60, 110))
    changes = {(change.b, change.region is not None) for edit in edits for change in edit.changes}
    assert changes == {(Frames(42, 118), True), (Frames(60, 110), True)}


def test_another_grade_of_a_flat_picture_is_one_change() -> None:
    old = dim(FILM)
    edits = edits_of(old, altered(old, lambda pictures: 16 + (pictures - 16) * 1.9))
    changed = [edit for edit in edits if edit.kind is not EditKind.MATCHED]
    assert [(edit.b, [change.kind for change in edit.changes]) for edit in changed] == [
        (Frames(FIRST, END), [ChangeKind.GRADE])
    ]


def test_another_shot_is_no_alteration() -> None:
    new = altered(FILM, lambda pictures: painted(9, 2)[: len(pictures)])
    changed = [edit for edit in edits_of(FILM, new) if edit.kind is not EditKind.MATCHED]
    assert [change.kind for edit in changed for change in edit.changes] == [ChangeKind.REPLACED]


def test_a_moving_part_is_found_with_the_rectangle_around_it() -> None:
    a = fingerprint(FILM[:SHOT], 1).luma.astype(np.float32)
    b = fingerprint(part((0.0, 0.1, 0.75), (0.25, 0.1, 0.75))(FILM[:SHOT]), 2).luma.astype(np.float32)
    crop = find_crop(a, b)
    assert crop is not None
    assert crop.side is ChangeSide.B
    region = crop.region
    assert (region.x, region.y, region.width, region.height) == pytest.approx((0.0, 0.1, 1.0, 0.75), abs=0.02)
    assert isinstance(region, Region)


def test_the_same_pictures_are_no_crop() -> None:
    a, b = (fingerprint(FILM[:SHOT], seed).luma.astype(np.float32) for seed in (1, 2))
    assert find_crop(a, b) is None
