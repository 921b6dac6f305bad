from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from sage_compare.aligned.align import align
from sage_compare.aligned.inputs import Film, Options
from sage_compare.aligned.script import ChangeKind, Edit, EditKind, Frames
from sage_fingerprint.model import Fingerprint
from support.edited_fingerprints import film
from support.moving_film import moving, with_noise

Pictures = NDArray[np.float64]
Encodes = tuple[Fingerprint, Fingerprint]


def altered(fingerprint: Fingerprint, frames: NDArray[np.int64], *parts: tuple[int, Pictures]) -> Film:
    """Return a film of frames, with other pictures from some of its frames on."""
    made = film(fingerprint, frames)
    plain = made.fingerprint
    luma = plain.luma.copy()
    for first, pictures in parts:
        luma[first : first + len(pictures)] = np.clip(pictures + 0.5, 0, 255).astype(np.uint8)
    return Film(
        Fingerprint(luma, plain.texture, plain.chroma, plain.frame_seconds, plain.duration_seconds), made.frame_rate
    )


def faded(pictures: Pictures, color: float, *, out: bool) -> Pictures:
    shares = (np.arange(len(pictures)) + 1.0) / (len(pictures) + 1)
    shares = (1 - shares if out else shares)[:, None, None]
    return color + shares * (pictures - color)


def mixed(tail: Pictures, head: Pictures) -> Pictures:
    shares = ((np.arange(len(tail)) + 1.0) / (len(tail) + 1))[:, None, None]
    return tail + shares * (head - tail)


def changes(edits: tuple[Edit, ...]) -> list[tuple[ChangeKind, Frames | None, Frames | None]]:
    return [(edit.changes[0].kind, edit.a, edit.b) for edit in edits if edit.kind is EditKind.CHANGED]


def both_ways(old: Film, new: Film) -> tuple[Edit, ...]:
    """Return the edits, and check that the films swapped have the same ones."""
    edits = align(old, new, Options()).edits
    other = align(new, old, Options()).edits
    assert changes(edits) == [(kind, b, a) for kind, a, b in changes(other)]
    return edits


@pytest.mark.parametrize("color", [16.0, 235.0])
@pytest.mark.parametrize("length", [6, 9, 12])
def test_a_fade_on_each_side_of_a_jump_is_found_to_the_frame(encodes: Encodes, color: float, length: int) -> None:
    good, poor = encodes
    shown = poor.luma.astype(np.float64)
    old = film(good, np.arange(400))
    middle, end = 101 + length, 101 + 2 * length
    new = altered(
        poor,
        np.r_[0:middle, 211:400],
        (101, faded(shown[101:middle], color, out=True)),
        (middle, faded(shown[211 : 211 + length], color, out=False)),
    )
    edits = both_ways(old, new)
    assert changes(edits) == [
        (ChangeKind.FADE, Frames(101, middle), Frames(101, middle)),
        (ChangeKind.FADE, Frames(211, 211 + length), Frames(middle, end)),
    ]
    deleted = [edit.a for edit in edits if edit.kind is EditKind.DELETED and edit.a]
    assert (deleted[0].first, deleted[-1].end) == (middle, 211)
    assert EditKind.INSERTED not in {edit.kind for edit in edits}


def test_a_film_that_fades_in_and_out_at_its_ends_is_not_graded(encodes: Encodes) -> None:
    good, poor = encodes
    shown = poor.luma.astype(np.float64)
    new = altered(
        poor,
        np.arange(300),
        (0, faded(shown[:17], 16.0, out=False)),
        (280, faded(shown[280:300], 16.0, out=True)),
    )
    assert changes(both_ways(film(good, np.arange(300)), new)) == [
        (ChangeKind.FADE, Frames(0, 17), Frames(0, 17)),
        (ChangeKind.FADE, Frames(280, 300), Frames(280, 300)),
    ]


@pytest.mark.parametrize("half", [4, 7, 12])
def test_a_dissolve_over_a_jump_is_found_to_the_frame(encodes: Encodes, half: int) -> None:
    good, poor = encodes
    shown = poor.luma.astype(np.float64)
    before, after = 101, 233
    tail, head = shown[before : before + 2 * half], shown[after - half : after + half]
    new = altered(poor, np.r_[0 : before + half, after:400], (before, mixed(tail, head)))
    assert changes(both_ways(film(good, np.arange(400)), new)) == [
        (ChangeKind.DISSOLVE, Frames(before, before + half), Frames(before, before + half)),
        (ChangeKind.DISSOLVE, Frames(after, after + half), Frames(before + half, before + 2 * half)),
    ]


def test_a_dissolve_at_a_cut_of_the_other_film_is_one_change(encodes: Encodes) -> None:
    good, poor = encodes
    # The old film cuts at frame 150 and the new one dissolves there, with frames that the old one does not have.
    old = film(good, np.r_[0:150, 300:450])
    shown = poor.luma.astype(np.float64)
    new = altered(poor, np.r_[0:150, 300:450], (140, mixed(shown[140:160], shown[290:310])))
    found = changes(both_ways(old, new))
    assert [kind for kind, _, _ in found] == [ChangeKind.DISSOLVE]
    _, a, b = found[0]
    assert a is not None
    assert a == b
    assert abs(a.first - 140) <= 1
    assert abs(a.end - 160) <= 1


def test_a_dip_to_black_before_an_insertion_is_a_fade(encodes: Encodes) -> None:
    good, poor = encodes
    shown = poor.luma.astype(np.float64)
    new = altered(
        poor,
        np.r_[0:101, 400:460, 101:300],
        (90, faded(shown[90:101], 16.0, out=True)),
        (101, 255.0 - shown[400:460, ::-1]),
        (161, faded(shown[101:112], 16.0, out=False)),
    )
    edits = both_ways(film(good, np.arange(300)), new)
    assert changes(edits) == [
        (ChangeKind.FADE, Frames(90, 101), Frames(90, 101)),
        (ChangeKind.FADE, Frames(101, 112), Frames(161, 172)),
    ]
    assert [edit.b for edit in edits if edit.kind is EditKind.INSERTED] == [Frames(101, 161)]


def test_black_frames_after_a_plain_cut_are_no_fade(encodes: Encodes) -> None:
    good, poor = encodes
    new = altered(poor, np.arange(300), (90, np.full((30, 18, 32), 16.0)))
    assert changes(both_ways(film(good, np.arange(300)), new)) == [
        (ChangeKind.BLACK, Frames(90, 120), Frames(90, 120)),
    ]


def test_a_darker_grade_with_hard_ends_is_no_fade(encodes: Encodes) -> None:
    good, poor = encodes
    shown = poor.luma.astype(np.float64)
    new = altered(poor, np.arange(300), (90, 16.0 + 0.4 * (shown[90:160] - 16.0)))
    found = changes(both_ways(film(good, np.arange(300)), new))
    assert {kind for kind, _, _ in found} == {ChangeKind.GRADE}


@pytest.mark.parametrize("frames", [2, 5])
def test_a_flash_cut_out_of_a_shot_that_both_films_fade_in_is_no_fade(frames: int) -> None:
    # A fade of the frames after the cut explains the ones before it nearly as well as they do themselves.
    shot = moving(pauses=((120, 180),))
    share = np.clip((np.arange(len(shot)) - 130) / 18, 0.0, 1.0)[:, None, None]
    share[:120] = 1.0
    luma = (16 + share * (shot.luma.astype(np.float64) - 16)).astype(np.uint8)
    luma[156 : 156 + frames] = 200
    whole = film(replace(shot, luma=luma), np.arange(len(luma)))
    other = with_noise(whole, 2).fingerprint
    edits = both_ways(whole, film(other, np.r_[0:156, 156 + frames : len(luma)]))
    kinds = [(edit.kind, edit.a) for edit in edits if edit.kind is not EditKind.MATCHED]
    assert kinds == [(EditKind.DELETED, Frames(156, 156 + frames))]


def dimmed(shot: Fingerprint, *ramps: tuple[int, Pictures]) -> Pictures:
    """Return the pictures of a film, with shares of them from some of its frames on."""
    share = np.ones((len(shot), 1, 1))
    for first, values in ramps:
        share[first : first + len(values)] = values[:, None, None]
    pictures: Pictures = share * shot.luma
    return pictures


def whole(pictures: Pictures, most: int) -> Film:
    """Return a film with noise of up to a level, which encoders do not leave in black."""
    plain = moving()
    luma = np.clip(pictures + 0.5, 0, 255).astype(np.uint8)
    made = with_noise(film(replace(plain, luma=luma), np.arange(len(luma))), 2, most)
    made.fingerprint.luma[luma.max((1, 2)) == 0] = 0
    return made


@pytest.mark.parametrize(("first", "end"), [(133, 150), (140, 160)])
def test_a_fade_near_black_that_both_films_have_is_found(first: int, end: int) -> None:
    shot = moving()
    shot.luma[first:end] = 0
    new = dimmed(shot, (120, np.arange(1, 13) / 13))
    assert changes(both_ways(whole(dimmed(shot), 0), whole(new, 1))) == [
        (ChangeKind.FADE, Frames(120, 132), Frames(120, 132)),
    ]


@pytest.mark.parametrize(("own", "later", "length"), [(12, 1, 18), (16, 0, 10), (16, 0, 14)])
def test_a_fade_of_a_shot_that_fades_of_itself_is_found(own: int, later: int, length: int) -> None:
    # The shot stands still, so that its dimmed frames look like its own earlier ones.
    shot = moving(pauses=((120, 180),))
    shot.luma[119:121] = 0
    share = np.minimum((np.arange(60) + later) / own, 1)
    new = dimmed(shot, (120, share * np.minimum(np.arange(1, 61) / (length + 1), 1)))
    assert changes(both_ways(whole(dimmed(shot, (120, share)), 0), whole(new, 1))) == [
        (ChangeKind.FADE, Frames(120, 120 + length), Frames(120, 120 + length)),
    ]


def test_a_short_dark_pick_between_fades_is_put_to_its_place() -> None:
    # Most of the pick is black in both films: no line leads to it.
    shot = moving()
    shot.luma[185:205] = 0
    shot.luma[180:185] //= 12
    old = dimmed(shot)
    cut = np.r_[0:60, 174:216, 300:360]
    new = dimmed(shot, (174, np.arange(1, 7) / 7), (210, np.arange(6, 0, -1) / 7))
    edits = both_ways(whole(old, 0), film(whole(new, 1).fingerprint, cut))
    assert changes(edits) == [
        (ChangeKind.FADE, Frames(174, 180), Frames(60, 66)),
        (ChangeKind.FADE, Frames(210, 216), Frames(96, 102)),
    ]


@pytest.mark.parametrize("still", [False, True])
def test_a_title_over_a_dark_shot_that_ends_soon_after_it_is_no_replacement(still: bool) -> None:
    shot = moving(pauses=((120, 180),) if still else ())
    shot.luma[120:180] //= 6
    titled = shot.luma.astype(np.float64)
    titled[126:152, 8:11, 4:28] = 235.0
    old, new = whole(dimmed(shot), 0), whole(titled, 1)
    new.fingerprint.texture[126:152, 8:11, 4:28] = 200
    edits = both_ways(old, film(new.fingerprint, np.r_[0:60, 110:160, 300:360]))
    assert changes(edits) == [(ChangeKind.TEXT, Frames(126, 152), Frames(76, 102))]
