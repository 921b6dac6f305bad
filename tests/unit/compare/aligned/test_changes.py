"""Small changes of the picture on stretches that both films have."""

from collections.abc import Callable
from pathlib import Path  # noqa: TC003

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sage_compare.aligned.changes import LEVELS, FoundChanges, find_changes
from sage_compare.aligned.inputs import Film, Options, Stretch
from sage_compare.aligned.script import Change, ChangeKind, ChangeSide, Frames, Region, Sensitivity
from sage_fingerprint.film import fingerprint_file
from sage_fingerprint.model import Fingerprint
from support import drawn_films as drawn

FRAMES, FIRST, END = 168, 41, 113
CORNER = Region(0.85, 0.06, 0.1, 0.16)
LINE = Region(0.25, 0.84, 0.5, 0.09)
MIDDLE = Region(0.3, 0.3, 0.3, 0.36)
PLAIN = drawn.scene(FRAMES)


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Fingerprint]:
    """Return a function that encodes pictures and returns their fingerprint."""
    folder: Path = tmp_path_factory.mktemp("films")
    number = iter(range(1_000))

    def fingerprint(pictures: list[drawn.Picture], **how: int | str) -> Fingerprint:
        return fingerprint_file(drawn.encoded(folder / f"{next(number)}.mp4", pictures, **how))  # type: ignore[arg-type]

    return fingerprint


@pytest.fixture(scope="module")
def plain(make: Callable[..., Fingerprint]) -> Fingerprint:
    return make(PLAIN, crf=19)


def whole(a: Fingerprint, b: Fingerprint) -> list[Stretch]:
    frames = np.arange(min(len(a), len(b)), dtype=np.int32)
    return [Stretch(frames, frames.copy())]


def compare(a: Fingerprint, b: Fingerprint, options: Options | None = None) -> FoundChanges:
    return find_changes(Film(a), Film(b), whole(a, b), options or Options())


def overlap(one: Region | None, other: Region) -> float:
    assert one is not None
    width = min(one.x + one.width, other.x + other.width) - max(one.x, other.x)
    height = min(one.y + one.height, other.y + other.height) - max(one.y, other.y)
    both = max(0.0, width) * max(0.0, height)
    return both / (one.width * one.height + other.width * other.height - both)


def only(found: FoundChanges) -> Change:
    assert len(found.changes) == 1, found.changes
    return found.changes[0]


@pytest.mark.parametrize(
    ("effect", "kind", "region"),
    [
        pytest.param(drawn.logo(CORNER), ChangeKind.OVERLAY, CORNER, id="logo"),
        pytest.param(drawn.logo(CORNER, 0.35), ChangeKind.OVERLAY, CORNER, id="faint-logo"),
        pytest.param(drawn.letters(LINE), ChangeKind.TEXT, LINE, id="subtitle"),
        pytest.param(drawn.blur(MIDDLE), ChangeKind.BLUR, MIDDLE, id="blur"),
        pytest.param(drawn.fill(MIDDLE), ChangeKind.OVERLAY, MIDDLE, id="painted-out"),
        pytest.param(drawn.grade(1.15, 6), ChangeKind.GRADE, None, id="grade"),
        pytest.param(drawn.crop(0.84, 0.1, 0.04), ChangeKind.CROP, None, id="crop"),
    ],
)
@pytest.mark.parametrize("swapped", [False, True], ids=["in-b", "in-a"])
def test_finds_change_with_its_ends_and_region(
    make: Callable[..., Fingerprint],
    plain: Fingerprint,
    effect: drawn.Effect,
    kind: ChangeKind,
    region: Region | None,
    swapped: bool,
) -> None:
    edited = make(drawn.changed(PLAIN, FIRST, END, effect), crf=26)
    change = only(compare(edited, plain) if swapped else compare(plain, edited))
    assert change.kind is kind
    assert change.a == change.b
    assert abs(change.b.first - FIRST) <= 2
    assert abs(change.b.end - END) <= 2
    assert change.strength >= LEVELS[Sensitivity.NORMAL]
    assert not change.weak
    if region is None:
        assert change.region is None
    else:
        assert overlap(change.region, region) >= 0.6
    if kind in (ChangeKind.TEXT, ChangeKind.BLUR):
        assert change.side is (ChangeSide.A if swapped else ChangeSide.B)


def test_blur_of_a_soft_picture_is_a_blur(make: Callable[..., Fingerprint]) -> None:
    """Where edges are wide, a blur moves the mean of cells by more than it takes from their texture."""
    soft = [drawn.blur(Region(0, 0, 1, 1), 4)(picture.copy(), 0) for picture in PLAIN]
    change = only(compare(make(soft, crf=19), make(drawn.changed(soft, FIRST, END, drawn.blur(MIDDLE, 9)))))
    assert change.kind is ChangeKind.BLUR


def test_logo_as_bright_as_what_it_covers_is_no_blur(make: Callable[..., Fingerprint], plain: Fingerprint) -> None:
    change = only(compare(plain, make(drawn.changed(PLAIN, FIRST, END, drawn.stripes(CORNER)))))
    assert change.kind is ChangeKind.OVERLAY


def test_change_begins_where_it_is_faint(make: Callable[..., Fingerprint], plain: Fingerprint) -> None:
    pictures = drawn.changed(PLAIN, FIRST, FIRST + 5, drawn.logo(MIDDLE, 0.08))
    change = only(compare(plain, make(drawn.changed(pictures, FIRST + 5, END, drawn.logo(MIDDLE)), crf=19)))
    assert change.b == Frames(FIRST, END)


def test_subtitle_under_a_logo_is_a_second_change(make: Callable[..., Fingerprint], plain: Fingerprint) -> None:
    both = drawn.changed(drawn.changed(PLAIN, 20, 150, drawn.logo(CORNER)), 60, 110, drawn.letters(LINE))
    found = compare(plain, make(both)).changes
    assert [(change.kind, change.b) for change in found] == [
        (ChangeKind.OVERLAY, Frames(20, 150)),
        (ChangeKind.TEXT, Frames(60, 110)),
    ]


def test_logo_over_a_graded_stretch_is_found_beside_the_grade(
    make: Callable[..., Fingerprint], plain: Fingerprint
) -> None:
    pictures = drawn.changed(drawn.changed(PLAIN, 30, 140, drawn.grade(0.8, 4)), 60, 110, drawn.logo(CORNER))
    kinds = {change.kind: change for change in compare(plain, make(pictures)).changes}
    assert set(kinds) == {ChangeKind.GRADE, ChangeKind.OVERLAY}
    assert overlap(kinds[ChangeKind.OVERLAY].region, CORNER) >= 0.5


def test_fade_from_black_is_a_fade(make: Callable[..., Fingerprint], plain: Fingerprint) -> None:
    change = only(compare(plain, make(drawn.changed(PLAIN, 0, 36, drawn.fade(36)))))
    assert change.kind is ChangeKind.FADE
    assert change.b.first == 0
    assert abs(change.b.end - 36) <= 2


def test_change_of_three_frames_has_its_ends(make: Callable[..., Fingerprint], plain: Fingerprint) -> None:
    change = only(compare(plain, make(drawn.changed(PLAIN, 50, 53, drawn.logo(MIDDLE)))))
    assert change.b == Frames(50, 53)


def test_burnt_in_timecode_is_offered_and_can_be_ignored(make: Callable[..., Fingerprint], plain: Fingerprint) -> None:
    clock = make(drawn.changed(PLAIN, 0, FRAMES, drawn.letters(LINE, counting=True)))
    found = compare(plain, clock)
    change, burn_in = only(found), found.burn_ins[0]
    assert change.b == Frames(0, FRAMES)
    assert len(found.burn_ins) == 1
    assert burn_in.side is ChangeSide.B
    assert burn_in.frame_share == 1.0
    assert overlap(burn_in.region, LINE) >= 0.6
    ignoring = compare(plain, clock, Options(ignored_b=(burn_in.region,)))
    assert ignoring.changes == ()
    assert ignoring.burn_ins == ()


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"crf": 18}, id="crf-18"),
        pytest.param({"crf": 28}, id="crf-28"),
        pytest.param({"crf": 34}, id="crf-34"),
        pytest.param({"codec": "mpeg4"}, id="mpeg-4"),
    ],
)
def test_another_encoding_is_no_change(
    make: Callable[..., Fingerprint], plain: Fingerprint, other: dict[str, int | str]
) -> None:
    found = compare(plain, make(PLAIN, **other))
    assert found.changes == ()
    assert found.noise.median <= found.noise.p95 <= found.noise.p99 < 1


@pytest.mark.parametrize(
    "pictures",
    [
        pytest.param(drawn.scaled(PLAIN, 2), id="twice-the-size"),
        pytest.param(drawn.scaled(PLAIN, 0.75), id="smaller"),
        pytest.param(drawn.grain(PLAIN, 5), id="grain"),
    ],
)
def test_another_size_and_grain_are_no_change(
    make: Callable[..., Fingerprint], plain: Fingerprint, pictures: list[drawn.Picture]
) -> None:
    assert compare(plain, make(pictures)).changes == ()


@pytest.mark.parametrize("rate", [20, 25, 30, 60])
def test_another_frame_rate_is_no_change(make: Callable[..., Fingerprint], plain: Fingerprint, rate: int) -> None:
    shown = (np.arange(FRAMES * rate // 24) * 24 // rate).astype(np.int32)
    other = make([PLAIN[k] for k in shown], rate=rate)
    # Half of the frames are compared with the next one, as alignment may leave them, also across a cut.
    late = np.minimum(shown + np.arange(len(shown)) % 2, FRAMES - 1).astype(np.int32)
    for stretch in (shown, np.maximum.accumulate(late)):
        stretches = [Stretch(stretch, np.arange(len(shown), dtype=np.int32))]
        assert find_changes(Film(plain), Film(other), stretches, Options()).changes == ()


def test_one_curve_of_tone_between_hdr_and_sdr_is_no_change(
    make: Callable[..., Fingerprint], plain: Fingerprint
) -> None:
    curve = (255 * (np.arange(256) / 255) ** 0.6).astype(np.uint8)
    other = make([curve[one] for one in PLAIN])
    frames = whole(plain, other)
    assert find_changes(Film(plain), Film(other, dynamic_range="PQ"), frames, Options()).changes == ()
    assert only(find_changes(Film(plain), Film(other), frames, Options())).kind is ChangeKind.GRADE


def test_weak_changes_are_returned_on_request_and_marked(make: Callable[..., Fingerprint], plain: Fingerprint) -> None:
    edited = make(drawn.changed(PLAIN, FIRST, END, drawn.logo(CORNER)))
    strength = only(compare(plain, edited)).strength
    assert compare(plain, edited, Options(min_strength=strength + 0.1)).changes == ()
    change = only(compare(plain, edited, Options(min_strength=strength + 0.1, include_weak_changes=True)))
    assert change.weak
    assert change.strength == strength


def test_sensitivities_are_in_order() -> None:
    assert LEVELS[Sensitivity.LOW] > LEVELS[Sensitivity.NORMAL] == 1.0 > LEVELS[Sensitivity.HIGH]


def test_a_film_differs_nowhere_from_itself(plain: Fingerprint) -> None:
    found = compare(plain, plain)
    assert found.changes == ()
    assert not found.residuals.any()


def test_residuals_are_negative_outside_of_the_stretches(plain: Fingerprint) -> None:
    frames = np.arange(20, 90, dtype=np.int32)
    found = find_changes(Film(plain), Film(plain), [Stretch(frames, frames + 5)], Options())
    outside = np.ones(FRAMES, np.bool_)
    outside[frames + 5] = False
    assert (found.residuals[outside] == -1).all()
    assert (found.residuals[~outside] >= 0).all()
    assert found.residuals.dtype == np.float32


def test_no_stretch_gives_no_change(plain: Fingerprint) -> None:
    found = find_changes(Film(plain), Film(plain), [], Options())
    assert found.changes == ()
    assert (found.residuals == -1).all()


def with_patch(
    film: Fingerprint, first: int, end: int, left: int, top: int, width: int, height: int, light: int, edge: int
) -> Fingerprint:
    """Return a fingerprint in which some cells have another brightness and texture for some frames."""
    luma, texture = film.luma.copy(), film.texture.copy()
    luma[first:end, top : top + height, left : left + width] = light
    texture[first:end, top : top + height, left : left + width] = edge
    return Fingerprint(luma, texture, film.chroma, film.frame_seconds, film.duration_seconds)


patches = st.tuples(
    st.integers(0, 140),
    st.integers(8, 60),
    st.integers(0, 24),
    st.integers(0, 12),
    st.integers(2, 8),
    st.integers(2, 6),
    st.integers(0, 255),
    st.integers(0, 200),
)


@given(st.lists(patches, max_size=3), st.lists(patches, max_size=3))
def test_swapping_the_films_swaps_the_sides_only(
    plain: Fingerprint, in_a: list[tuple[int, ...]], in_b: list[tuple[int, ...]]
) -> None:
    a, b = plain, plain
    for first, length, *rest in in_a:
        a = with_patch(a, first, first + length, *rest)
    for first, length, *rest in in_b:
        b = with_patch(b, first, first + length, *rest)
    there, back = compare(a, b), compare(b, a)
    other = {ChangeSide.A: ChangeSide.B, ChangeSide.B: ChangeSide.A, None: None}

    def facts(change: Change, *, swap: bool) -> tuple[object, ...]:
        side = other[change.side] if swap else change.side
        return change.kind, change.a, change.b, round(change.strength, 3), side

    assert [facts(one, swap=False) for one in there.changes] == [facts(one, swap=True) for one in back.changes]
    np.testing.assert_array_equal(there.residuals, back.residuals)


def test_result_is_the_same_to_the_bit(make: Callable[..., Fingerprint], plain: Fingerprint) -> None:
    edited = make(drawn.changed(PLAIN, FIRST, END, drawn.letters(LINE)))
    one, other = compare(plain, edited), compare(plain, edited)
    assert one.changes == other.changes
    assert one.noise == other.noise
    assert one.residuals.tobytes() == other.residuals.tobytes()
