from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sage_compare.aligned import edges, pictures
from sage_compare.aligned.align import align
from sage_compare.aligned.inputs import Film, Options
from sage_compare.aligned.lines import Line
from sage_compare.aligned.script import (
    ChangeKind,
    ChangeSide,
    Edit,
    EditKind,
    EditScript,
    Frames,
    NormalizationKind,
    Region,
)
from sage_compare.aligned.tiling import check
from sage_compare.aligned.viterbi import Piece
from sage_fingerprint.model import Fingerprint
from support.edited_fingerprints import black, film, joined

SHOT = 30


def shots(seed: int, count: int) -> Fingerprint:
    """A film of shots that move to the side."""
    random = np.random.default_rng(seed)
    cells = []
    for _ in range(count):
        shot = random.integers(30, 220, (18, 64)).astype(np.float64)
        shot = (shot + np.roll(shot, 1, 0) + np.roll(shot, 1, 1)) / 3
        cells += [shot[:, step : step + 32] for step in range(SHOT)]
    luma = np.array(cells).astype(np.uint8)
    plain = black(len(luma))
    return Fingerprint(luma, np.full_like(luma, 6), plain.chroma, plain.frame_seconds, plain.duration_seconds)


def whole(fingerprint: Fingerprint) -> Film:
    return film(fingerprint, np.arange(len(fingerprint)))


def kinds(script: EditScript) -> list[EditKind]:
    return [edit.kind for edit in script.edits]


def swapped(edit: Edit) -> tuple[EditKind, Frames | None, Frames | None]:
    kind = {EditKind.INSERTED: EditKind.DELETED, EditKind.DELETED: EditKind.INSERTED}.get(edit.kind, edit.kind)
    return kind, edit.b, edit.a


FILM = shots(1, 8)
OTHER = shots(2, 4)
everything = joined(FILM, OTHER, black(60))
parts = st.lists(
    st.tuples(st.integers(0, len(everything) - 2), st.integers(1, 90)).map(
        lambda part: np.arange(part[0], min(part[0] + part[1], len(everything)))
    ),
    min_size=1,
    max_size=6,
)


@given(parts)
# What is moved makes a frame the last one of the script that is not the last one of its film.
@example([np.arange(10, 19), np.arange(0, 9)])
@settings(max_examples=40, deadline=None)
def test_a_script_tiles_both_films_and_swapping_them_swaps_it(found: list[np.ndarray]) -> None:
    old, new = whole(FILM), film(everything, np.concatenate(found))
    script = align(old, new, Options())
    check(script.edits, len(old.fingerprint), len(new.fingerprint))
    other_way = align(new, old, Options())
    check(other_way.edits, len(new.fingerprint), len(old.fingerprint))
    key = str
    assert sorted(map(swapped, script.edits), key=key) == sorted(
        ((edit.kind, edit.a, edit.b) for edit in other_way.edits), key=key
    )


@given(st.integers(0, 1000), st.integers(1, 5))
@settings(max_examples=20, deadline=None)
def test_a_film_against_itself_is_one_match(seed: int, count: int) -> None:
    same = whole(shots(seed, count))
    script = align(same, same, Options())
    assert kinds(script) == [EditKind.MATCHED]


@given(st.integers(0, 1000), st.integers(1, 5))
@settings(max_examples=20, deadline=None)
def test_an_unrelated_film_at_the_end_is_one_insertion(seed: int, count: int) -> None:
    added = shots(seed + 5000, count)
    script = align(whole(FILM), whole(joined(FILM, added)), Options())
    assert kinds(script) == [EditKind.MATCHED, EditKind.INSERTED]
    assert script.edits[1].b == Frames(len(FILM), len(FILM) + len(added))


def test_the_same_films_give_the_same_script() -> None:
    new = film(everything, np.r_[0:70, 250:290, 100:240])
    first, second = (align(whole(FILM), new, Options()) for _ in range(2))
    assert first.edits == second.edits
    assert first.residuals.tobytes() == second.residuals.tobytes()


def test_unrelated_films_have_no_match() -> None:
    script = align(whole(FILM), whole(shots(99, 8)), Options())
    assert EditKind.MATCHED not in kinds(script)


def test_a_film_shown_twice_repeats_itself() -> None:
    script = align(whole(FILM), whole(joined(FILM, FILM)), Options())
    assert kinds(script) == [EditKind.MATCHED, EditKind.INSERTED]
    assert script.edits[1].repeats == Frames(0, len(FILM))


@pytest.mark.parametrize("frames", [(1, 1), (1, 50), (50, 1), (2, 3)])
def test_films_of_a_few_frames_are_compared(frames: tuple[int, int]) -> None:
    old, new = (film(FILM, np.arange(count)) for count in frames)
    check(align(old, new, Options()).edits, *frames)


def test_black_films_match() -> None:
    script = align(whole(black(100)), whole(black(100)), Options())
    assert kinds(script) == [EditKind.MATCHED]


def test_a_still_film_that_got_longer_is_a_match_and_an_insertion() -> None:
    script = align(film(FILM, np.full(60, 5)), film(FILM, np.full(90, 5)), Options())
    assert EditKind.MATCHED in kinds(script)
    check(script.edits, 60, 90)


@pytest.mark.parametrize(
    ("alter", "kind"),
    [
        (lambda luma: luma[:, :, ::-1], ChangeKind.MIRRORED),
        (lambda luma: 255 - luma, ChangeKind.NEGATIVE),
        (lambda luma: np.full_like(luma, 16), ChangeKind.BLACK),
        (lambda luma: np.repeat(luma[:1], len(luma), 0), ChangeKind.FROZEN),
    ],
)
def test_an_altered_shot_is_named(alter: object, kind: ChangeKind) -> None:
    assert callable(alter)
    luma = FILM.luma.copy()
    luma[60:90] = alter(luma[60:90])
    new = whole(Fingerprint(luma, FILM.texture, FILM.chroma, FILM.frame_seconds, FILM.duration_seconds))
    script = align(whole(FILM), new, Options())
    assert [(edit.kind, edit.b) for edit in script.edits] == [
        (EditKind.MATCHED, Frames(0, 60)),
        (EditKind.CHANGED, script.edits[1].b),
        (EditKind.MATCHED, script.edits[2].b),
    ]
    assert script.edits[1].changes[0].kind is kind
    assert script.edits[1].b is not None
    assert abs(script.edits[1].b.first - 60) <= 1
    assert script.edits[1].b.end == 90


@pytest.mark.parametrize("part", [14, 30])
def test_a_shot_replaced_by_a_dark_one_is_not_black(part: int) -> None:
    luma = FILM.luma.copy()
    luma[60:90] = 18 + OTHER.luma[60:90].astype(int) // part
    assert 1.0 < luma[60:90].reshape(30, -1).std(1).min() < 4.0
    new = whole(replace(FILM, luma=luma))
    changes = [change for edit in align(whole(FILM), new, Options()).edits for change in edit.changes]
    assert [(change.kind, change.b) for change in changes] == [(ChangeKind.REPLACED, Frames(60, 90))]


def test_black_reaches_over_frames_that_are_black_in_both_films() -> None:
    luma = FILM.luma.copy()
    luma[88:92] = 16
    old = replace(FILM, luma=luma)
    luma = luma.copy()
    luma[70:110] = 16
    for first, second, side in (
        (old, replace(FILM, luma=luma), ChangeSide.B),
        (replace(FILM, luma=luma), old, ChangeSide.A),
    ):
        changes = [change for edit in align(whole(first), whole(second), Options()).edits for change in edit.changes]
        assert [(one.kind, one.a, one.b, one.side) for one in changes] == [
            (ChangeKind.BLACK, Frames(70, 110), Frames(70, 110), side)
        ]


def test_a_dark_card_that_turned_black_is_named() -> None:
    card, dark = (FILM.luma.copy() for _ in range(2))
    card[60:90], dark[60:90] = 90, 16
    script = align(whole(replace(FILM, luma=card)), whole(replace(FILM, luma=dark)), Options())
    changes = [change for edit in script.edits for change in edit.changes]
    assert [(one.kind, one.b, one.side) for one in changes] == [(ChangeKind.BLACK, Frames(60, 90), ChangeSide.B)]


def test_a_line_that_fits_better_in_a_still_shot_is_as_long_as_those_beside_it() -> None:
    """All offsets fit a still background, only one the passer-by; short lines are not tried beside long ones."""
    ground = np.repeat(np.random.default_rng(3).integers(60, 200, (1, 18, 32)), 420, 0)
    ground = ground + np.random.default_rng(4).integers(-1, 2, ground.shape)
    for step in range(60):
        left = 2 * (step // 4)
        ground[70 + step, 4:14, left : left + 4] = 20 + 8 * (step % 4)
    old = replace(black(420), luma=ground.astype(np.uint8))
    weight = pictures.weight_of_cells(())
    new = film(old, np.arange(40, 420)).fingerprint
    pair = pictures.make_pair(*pictures.measure_both(old, new, weight), weight)
    piece = Piece(0, 371, Line(1.0, 49.0, 0, 371, 0.0, 0.0))
    found = [line for line in edges.nudged(pair, [piece], 1.0) if line.start == 40.0]
    assert [(line.first, line.end) for line in found] == [(0, 380)]


def test_a_part_that_is_ignored_does_not_decide_where_frames_belong() -> None:
    """A clock in a tenth of the picture that runs on where the film repeats itself."""
    frames = np.r_[0:60, 120:240]
    clocks = [np.kron(np.random.default_rng(9).integers(16, 236, (n, 9, 8)), np.ones((1, 2, 2))) for n in (240, 180)]
    films = []
    for part, clock in zip((np.arange(240), frames), clocks, strict=True):
        made = film(FILM, part)
        luma = made.fingerprint.luma.copy()
        luma[:, :, 16:] = clock.astype(np.uint8)
        films.append(replace(made, fingerprint=replace(made.fingerprint, luma=luma)))
    right = Region(0.5, 0.0, 0.5, 1.0)
    script = align(*films, Options(ignored_b=(right,)))
    assert [(edit.kind, edit.a, edit.b) for edit in script.edits] == [
        (EditKind.MATCHED, Frames(0, 60), Frames(0, 60)),
        (EditKind.DELETED, Frames(60, 120), None),
        (EditKind.MATCHED, Frames(120, 240), Frames(60, 180)),
    ]


@pytest.mark.parametrize("dynamic_range", ["PQ", "HLG"])
@pytest.mark.parametrize("swapped_films", [False, True], ids=["hdr-in-b", "hdr-in-a"])
def test_a_film_in_hdr_matches_the_one_in_sdr(dynamic_range: str, swapped_films: bool) -> None:
    """A PQ picture is dark and flat: a curve of 0.35 and a third of the contrast."""
    curve = 60 + 90 * (np.arange(256) / 255) ** (0.35 if dynamic_range == "PQ" else 0.6)
    frames = np.r_[0:100, 130:240]
    cut = film(FILM, frames)
    toned = replace(cut.fingerprint, luma=curve.astype(np.uint8)[cut.fingerprint.luma])
    old, new = whole(FILM), replace(cut, fingerprint=toned, dynamic_range=dynamic_range)
    script = align(new, old, Options()) if swapped_films else align(old, new, Options())
    one_sided = EditKind.INSERTED if swapped_films else EditKind.DELETED
    assert kinds(script) == [EditKind.MATCHED, one_sided, EditKind.MATCHED]
    ranges = (dynamic_range, "SDR") if swapped_films else ("SDR", dynamic_range)
    assert [(one.kind, one.a, one.b) for one in script.normalizations] in ([], [(NormalizationKind.TONE, *ranges)])
    assert script.edits[0].a == script.edits[0].b == Frames(0, 100)


def test_a_shot_at_half_speed_is_retimed() -> None:
    frames = np.r_[0:60, np.repeat(np.arange(60, 90), 2), 90:240]
    script = align(whole(FILM), film(FILM, frames), Options())
    retimed = [edit for edit in script.edits if edit.kind is EditKind.CHANGED]
    assert [edit.changes[0].kind for edit in retimed] == [ChangeKind.RETIMED]
    assert retimed[0].rate == pytest.approx(0.5, abs=0.03)


def test_films_conformed_to_another_rate_match() -> None:
    new = whole(FILM)
    script = align(Film(FILM, Fraction(24)), Film(new.fingerprint, Fraction(25)), Options())
    assert kinds(script) == [EditKind.MATCHED]
    assert [(one.kind, one.a, one.b) for one in script.normalizations] == [
        (NormalizationKind.FRAME_RATE_CONFORMED, "24", "25")
    ]


def test_films_converted_to_another_rate_match() -> None:
    frames = np.arange(300) * 24 // 30
    cut = film(FILM, frames).fingerprint
    seconds = np.arange(300) / 30
    new = Fingerprint(cut.luma, cut.texture, cut.chroma, seconds, 10.0)
    script = align(Film(FILM, Fraction(24)), Film(new, Fraction(30)), Options())
    assert kinds(script) == [EditKind.MATCHED]
    assert [(one.kind, one.a, one.b) for one in script.normalizations] == [
        (NormalizationKind.FRAME_RATE_CONVERTED, "24", "30")
    ]


def test_black_bars_of_one_film_are_left_out() -> None:
    # Twelve rows show what eighteen did.
    rows = FILM.luma.astype(np.float64)
    upper, lower = (2 * rows[:, 0::3] + rows[:, 1::3]) / 3, (2 * rows[:, 2::3] + rows[:, 1::3]) / 3
    bars = np.full_like(FILM.luma, 16)
    bars[:, 3:15:2], bars[:, 4:15:2] = upper.astype(np.uint8), lower.astype(np.uint8)
    barred = Fingerprint(bars, FILM.texture, FILM.chroma, FILM.frame_seconds, FILM.duration_seconds)
    script = align(
        Film(FILM, Fraction(24)),
        Film(barred, Fraction(24), active=Region(0.0, 3 / 18, 1.0, 12 / 18)),
        Options(),
    )
    assert [(one.kind, one.a, one.b) for one in script.normalizations] == [
        (NormalizationKind.BLACK_BARS, "none", "letterbox")
    ]
    assert script.edits[0].b is not None
    assert all(edit.a == edit.b for edit in script.edits)
