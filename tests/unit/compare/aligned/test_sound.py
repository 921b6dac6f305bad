"""The edit script of the sound, along the map of the picture."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from sage_compare.aligned.inputs import Film
from sage_compare.aligned.script import (
    Change,
    ChangeKind,
    ChangeSide,
    Edit,
    EditKind,
    EditScript,
    Frames,
    NormalizationKind,
)
from sage_compare.aligned.sound import compare_sound
from sage_fingerprint.film import fingerprint_file
from sage_fingerprint.model import Fingerprint
from support import drawn_films as drawn

SECONDS, RATE = 18, 24
FRAMES = SECONDS * RATE
HZ = drawn.SOUND_HZ
MUSIC = drawn.sound_of(Path(__file__).parents[4] / "samples" / "old.mp4")
PICTURES = drawn.scene(1) * FRAMES
WHOLE = Edit(EditKind.MATCHED, Frames(0, FRAMES), Frames(0, FRAMES))
SAME = EditScript((WHOLE,))

Sound = NDArray[np.float32]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Film]:
    """Return a function that encodes sound with a picture and returns the film's fingerprint."""
    folder: Path = tmp_path_factory.mktemp("films")
    number = iter(range(1_000))

    def film(sound: Sound | None, *, seconds: float = SECONDS, **how: int | str) -> Film:
        if sound is not None:
            sound = sound[: round(seconds * HZ)]
        pictures = PICTURES[:1] * round(seconds * RATE)
        path = drawn.encoded(folder / f"{next(number)}.mkv", pictures, sound=sound, **how)  # type: ignore[arg-type]
        return Film(fingerprint_file(path))

    return film


@pytest.fixture(scope="module")
def plain(make: Callable[..., Film]) -> Film:
    return make(MUSIC)


def between(sound: Sound, first: float, end: float, other: Sound | float) -> Sound:
    """Return sound of which a part is replaced by other sound, or scaled."""
    part = slice(round(first * HZ), round(end * HZ))
    edited = sound.copy()
    edited[part] = other[part] if isinstance(other, np.ndarray) else sound[part] * other
    return edited


def only(script: EditScript) -> Change:
    changes = [change for edit in script.edits for change in edit.changes]
    assert len(changes) == 1, changes
    return changes[0]


def check_tiling(script: EditScript) -> None:
    assert [edit.b.first for edit in script.edits if edit.b] == [
        0,
        *(edit.b.end for edit in script.edits[:-1] if edit.b),
    ]
    for edit in script.edits:
        assert (edit.kind is EditKind.CHANGED) == bool(edit.changes)


def assert_ends(change: Change, first: float, end: float, frames: int = 3) -> None:
    assert abs(change.b.first - first * RATE) <= frames
    assert abs(change.b.end - end * RATE) <= frames


@pytest.mark.parametrize(
    "how",
    [
        pytest.param({"bit_rate": 64_000}, id="aac-64k"),
        pytest.param({"bit_rate": 32_000}, id="aac-32k"),
        pytest.param({"sound_codec": "libmp3lame", "bit_rate": 64_000}, id="mp3-64k"),
        pytest.param({"sound_codec": "flac"}, id="flac"),
    ],
)
def test_another_encoding_is_silent(make: Callable[..., Film], plain: Film, how: dict[str, int | str]) -> None:
    script = compare_sound(plain, make(MUSIC, **how), SAME)
    assert script.edits == (WHOLE,)
    assert script.normalizations == ()
    assert script.noise.p99 < 1


def test_gain_of_the_whole_film_is_a_normalization(make: Callable[..., Film], plain: Film) -> None:
    script = compare_sound(plain, make(MUSIC * np.float32(0.5)), SAME)
    assert script.edits == (WHOLE,)
    (loudness,) = script.normalizations
    assert loudness.kind is NormalizationKind.LOUDNESS
    assert float(loudness.b) == pytest.approx(-6, abs=0.3)


def test_gain_that_drifts_is_no_change(make: Callable[..., Film], plain: Film) -> None:
    # As loudness is normalised: 5 dB up and down over the film.
    drift = 10 ** (5 / 20 * np.sin(np.arange(len(MUSIC)) / len(MUSIC) * 2 * np.pi))
    assert compare_sound(plain, make((MUSIC * drift).astype(np.float32)), SAME).edits == (WHOLE,)


def test_other_sound_is_replaced(make: Callable[..., Film], plain: Film) -> None:
    dubbed = make(between(MUSIC, 6.3, 12.1, MUSIC[::-1]))
    for one, other in ((plain, dubbed), (dubbed, plain)):
        script = compare_sound(one, other, SAME)
        change = only(script)
        assert change.kind is ChangeKind.SOUND_REPLACED
        # The sound is soft there, and the two are alike for half a second.
        assert_ends(change, 6.3, 12.1, frames=15)
        check_tiling(script)
        assert [edit.kind for edit in script.edits] == [EditKind.MATCHED, EditKind.CHANGED, EditKind.MATCHED]


@pytest.mark.parametrize("seconds", [0.08, 1.0, -0.5])
def test_late_sound_is_shifted(make: Callable[..., Film], plain: Film, seconds: float) -> None:
    shift = round(seconds * HZ)
    moved = np.concatenate([np.zeros(max(0, shift), np.float32), MUSIC[max(0, -shift) :]])
    change = only(compare_sound(plain, make(moved), SAME))
    assert change.kind is ChangeKind.SOUND_SHIFTED
    assert change.amount == pytest.approx(seconds, abs=0.03)
    assert change.b == Frames(0, FRAMES)


def test_louder_part_has_its_level(make: Callable[..., Film], plain: Film) -> None:
    change = only(compare_sound(plain, make(between(MUSIC, 6, 12, 2.0)), SAME))
    assert change.kind is ChangeKind.SOUND_LEVEL
    assert change.amount == pytest.approx(6, abs=0.5)
    assert_ends(change, 6, 12)


@pytest.mark.parametrize("swapped", [False, True])
def test_silent_part_is_missing(make: Callable[..., Film], plain: Film, swapped: bool) -> None:
    silent = make(between(MUSIC, 6, 12, 0.0))
    change = only(compare_sound(silent, plain, SAME) if swapped else compare_sound(plain, silent, SAME))
    assert change.kind is ChangeKind.SOUND_MISSING
    assert change.side is (ChangeSide.B if swapped else ChangeSide.A)
    assert_ends(change, 6, 12)


def test_film_without_sound_misses_all_of_it(make: Callable[..., Film], plain: Film) -> None:
    mute = make(None)
    change = only(compare_sound(plain, mute, SAME))
    assert change.kind is ChangeKind.SOUND_MISSING
    assert change.side is ChangeSide.A
    assert change.b == Frames(0, FRAMES)
    assert only(compare_sound(mute, plain, SAME)).side is ChangeSide.B
    assert compare_sound(mute, mute, SAME).edits == (WHOLE,)


def test_sound_follows_the_cuts_of_the_picture(make: Callable[..., Film], plain: Film) -> None:
    # Two seconds are cut out of b at 10 s.
    cut = make(np.concatenate([MUSIC[: 10 * HZ], MUSIC[12 * HZ :]]), seconds=SECONDS - 2)
    picture = EditScript(
        (
            replace(WHOLE, a=Frames(0, 240), b=Frames(0, 240)),
            Edit(EditKind.DELETED, Frames(240, 288), None, rate=0),
            replace(WHOLE, a=Frames(288, FRAMES), b=Frames(240, FRAMES - 48)),
        )
    )
    assert compare_sound(plain, cut, picture).edits == picture.edits


def test_changes_of_the_picture_are_left_out(plain: Film) -> None:
    logo = Change(ChangeKind.OVERLAY, Frames(100, 200), Frames(100, 200), 3.0)
    picture = EditScript(
        (
            replace(WHOLE, a=Frames(0, 100), b=Frames(0, 100)),
            Edit(EditKind.CHANGED, logo.a, logo.b, changes=(logo,)),
            replace(WHOLE, a=Frames(200, FRAMES), b=Frames(200, FRAMES)),
        )
    )
    assert compare_sound(plain, plain, picture).edits == (WHOLE,)


def test_conformed_film_has_the_same_sound(make: Callable[..., Film], plain: Film) -> None:
    # 24 frames a second played at 25, with its pitch: the same frames in 96% of the time.
    at = np.arange(round(SECONDS * 0.96 * HZ)) / 0.96
    fast = np.interp(at, np.arange(len(MUSIC)), MUSIC).astype(np.float32)
    film = make(fast, seconds=SECONDS * 0.96)
    frames = len(film.fingerprint)
    script = compare_sound(plain, film, EditScript((replace(WHOLE, b=Frames(0, frames), rate=FRAMES / frames),)))
    assert [edit.kind for edit in script.edits] == [EditKind.MATCHED]


def test_residuals_have_one_entry_per_frame_of_b(plain: Film) -> None:
    script = compare_sound(plain, plain, SAME)
    assert script.residuals.dtype == np.float32
    assert len(script.residuals) == FRAMES
    assert not script.residuals.any()


def test_short_ranges_are_not_judged() -> None:
    sound = np.full((30, 16), 100, np.uint8)
    cells = np.zeros((24, 18, 32), np.uint8)
    film = Film(Fingerprint(cells, cells, np.zeros((24, 2, 9, 16), np.uint8), np.arange(24) / 24, 1.0, sound))
    picture = EditScript(
        (
            Edit(EditKind.INSERTED, None, Frames(0, 20), rate=0),
            Edit(EditKind.MATCHED, Frames(0, 4), Frames(20, 24)),
            Edit(EditKind.DELETED, Frames(4, 24), None, rate=0),
        )
    )
    assert compare_sound(film, film, picture).edits == picture.edits
