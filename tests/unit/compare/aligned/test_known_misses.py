"""What comparisons at equal times miss or invent, on real files: decoded, fingerprinted and aligned."""

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from corpus.maker import Track, copy_film, make_film
from numpy.typing import NDArray
from sage_compare.aligned.align import align
from sage_compare.aligned.inputs import Film, Options
from sage_compare.aligned.script import ChangeKind, Edit, EditKind, Frames, Region
from sage_compare.aligned.sound import compare_sound
from sage_fingerprint.film import fingerprint_file
from support import drawn_films as drawn
from support import moving_films
from support.sounding_films import tone

# Encodes films.
pytestmark = pytest.mark.slow

COUNT = 240
SCENE = drawn.scene(COUNT)
OTHER = drawn.scene(48, seed=7)
CARD = Region(0.1, 0.35, 0.8, 0.3)

Pictures = Sequence[drawn.Picture]


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[Edit, ...]]:
    """A call encodes two films, each differently, and returns the edits from one to the other."""
    folder = tmp_path_factory.mktemp("films")

    def compare(old: Pictures, new: Pictures, *, rate: int = 24) -> tuple[Edit, ...]:
        paths = [folder / "old.mp4", folder / "new.mp4"]
        drawn.encoded(paths[0], old, crf=20, rate=rate)
        drawn.encoded(paths[1], new, crf=27, rate=rate)
        return edits_of(*paths, rate=rate)

    return compare


def edits_of(old: Path, new: Path, *, rate: int) -> tuple[Edit, ...]:
    films = [Film(fingerprint_file(path), Fraction(rate)) for path in (old, new)]
    return align(*films, Options()).edits


def only_change(edits: Sequence[Edit]) -> Edit:
    (edit,) = (one for one in edits if one.kind is not EditKind.MATCHED)
    assert edit.kind is EditKind.CHANGED, edits
    return edit


def near(found: Frames | None, first: int, end: int, *, frames: int) -> bool:
    return found is not None and max(abs(found.first - first), abs(found.end - end)) <= frames


def test_another_encode_is_one_match(script):
    assert script(SCENE, SCENE) == (Edit(EditKind.MATCHED, Frames(0, COUNT), Frames(0, COUNT)),)


@pytest.mark.parametrize(
    ("alter", "kind"),
    [(lambda one: one[:, ::-1], ChangeKind.MIRRORED), (lambda one: 251 - one, ChangeKind.NEGATIVE)],
    ids=["mirrored", "negative"],
)
def test_film_that_is_altered_throughout_differs_throughout(script, alter, kind):
    edits = script(SCENE, [np.ascontiguousarray(alter(one)) for one in SCENE])
    assert {edit.kind for edit in edits} == {EditKind.CHANGED}
    assert {edit.changes[0].kind for edit in edits} == {kind}
    assert (edits[0].b.first, edits[-1].b.end) == (0, COUNT)


def test_mirrored_film_is_told_the_same_from_both_sides(script):
    mirrored = [np.ascontiguousarray(one[:, ::-1]) for one in SCENE[:120]]
    there, back = script(SCENE, mirrored), script(mirrored, SCENE)
    assert {edit.kind for edit in there} == {EditKind.CHANGED, EditKind.DELETED}
    assert {edit.kind for edit in back} == {EditKind.CHANGED, EditKind.INSERTED}
    assert [edit.changes[0].kind for edit in (*there, *back) if edit.changes] == [ChangeKind.MIRRORED] * 2


def test_black_that_turned_white_is_a_change(script):
    black, white = ([np.full_like(SCENE[0], value)] * 40 for value in (16, 235))
    edit = only_change(script([*SCENE[:80], *black, *SCENE[120:]], [*SCENE[:80], *white, *SCENE[120:]]))
    assert (edit.a, edit.b) == (Frames(80, 120), Frames(80, 120))


def test_title_card_in_another_language_is_a_change(script):
    """The same ground with other letters, for two seconds, between the same shots."""
    ground = np.full_like(SCENE[0], 20)
    cards = [[drawn.letters(CARD, seed)(ground.copy(), 0)] * 48 for seed in (1, 2)]
    edit = only_change(script(*([*SCENE[:96], *card, *SCENE[144:]] for card in cards)))
    assert near(edit.b, 96, 144, frames=2)


def test_ten_black_frames_are_found_to_the_frame(script):
    new = drawn.changed(SCENE, 85, 95, lambda picture, _: np.full_like(picture, 16))
    edit = only_change(script(SCENE, new))
    assert (edit.a, edit.b) == (Frames(85, 95), Frames(85, 95))
    assert edit.changes[0].kind is ChangeKind.BLACK


def test_one_inserted_second_does_not_disturb_the_rest(script):
    edits = script(SCENE, [*SCENE[:61], *OTHER[:24], *SCENE[61:]])
    assert [(edit.kind, edit.a, edit.b) for edit in edits] == [
        (EditKind.MATCHED, Frames(0, 61), Frames(0, 61)),
        (EditKind.INSERTED, None, Frames(61, 85)),
        (EditKind.MATCHED, Frames(61, COUNT), Frames(85, COUNT + 24)),
    ]


@dataclass(frozen=True)
class Moving(Track):
    """A track whose frames all differ.

    Attributes:
        first: The frame of an endless film that it begins with.
    """

    size: tuple[int, int] = (moving_films.WIDTH, moving_films.HEIGHT)
    frames: int = 100
    first: int = 0

    def picture(self, index: int) -> NDArray[np.uint8]:
        return moving_films.picture(float((self.first + index) / self.rate))


@pytest.fixture
def edits(tmp_path: Path) -> Callable[..., tuple[Edit, ...]]:
    """A call writes two films of 25 frames a second and returns the edits from one to the other."""

    def compare(old: bytes, new: bytes) -> tuple[Edit, ...]:
        for name, film in (("old", old), ("new", new)):
            (tmp_path / name).write_bytes(film)
        return edits_of(tmp_path / "old", tmp_path / "new", rate=25)

    return compare


def test_clock_that_starts_again_hides_nothing_that_follows(edits):
    """Two recordings in one file, of which the second has other pictures."""
    first, second, third = (make_film("mpegts", Moving(first=first)) for first in (0, 1000, 2000))
    found = edits(first + second, first + third)
    assert [(edit.kind, edit.a, edit.b) for edit in found] == [
        (EditKind.MATCHED, Frames(0, 100), Frames(0, 100)),
        (EditKind.CHANGED, Frames(100, 200), Frames(100, 200)),
    ]
    assert found[1].changes[0].kind is ChangeKind.REPLACED


def test_what_an_edit_list_hides_is_not_compared(edits):
    """The film shows frames 20 to 70 of the 100 that are stored."""
    film = bytearray(make_film("mov", Moving()))
    at = film.index(b"elst") + 12
    _, media_time = struct.unpack_from(">II", film, at)
    (timescale,) = struct.unpack_from(">I", film, film.index(b"mdhd") + 16)
    struct.pack_into(">II", film, at, 2000, media_time + round(0.8 * timescale))
    shown = make_film("mp4", Moving(first=20, frames=50, options=(("crf", "27"),)))
    assert [(edit.kind, edit.a, edit.b) for edit in edits(bytes(film), shown)] == [
        (EditKind.MATCHED, Frames(0, 50), Frames(0, 50))
    ]


def test_cover_that_is_not_marked_is_not_the_film(edits):
    cover = Moving("mjpeg", frames=1, first=5000, pix_fmt="yuvj420p")
    assert [edit.kind for edit in edits(make_film("mp4", Moving()), make_film("matroska", cover, Moving()))] == [
        EditKind.MATCHED
    ]


@pytest.mark.parametrize(
    ("matrix", "kinds"),
    [
        ((-1, 0, 0, 1), [(EditKind.CHANGED, ChangeKind.MIRRORED)]),
        ((1, 0, 0, 1), [(EditKind.MATCHED, None)]),
    ],
)
def test_film_that_players_mirror_is_mirrored(edits, matrix, kinds):
    found = edits(make_film("mp4", Moving()), make_film("mp4", Moving(matrix=matrix)))
    assert [(edit.kind, edit.changes[0].kind if edit.changes else None) for edit in found] == kinds
    assert found[0].b == Frames(0, 100)


@pytest.mark.parametrize(("container", "codec"), [("matroska", "libx264"), ("mpegts", "libx264"), ("avi", "mpeg4")])
@pytest.mark.parametrize("rate", [10, 25])
def test_copy_of_the_stream_in_another_container_is_the_same_film(tmp_path, container, codec, rate):
    film = make_film("mp4", Moving(codec, rate=Fraction(rate)))
    for name, content in (("old", film), ("new", copy_film(film, container, rate=Fraction(rate)))):
        (tmp_path / name).write_bytes(content)
    found = edits_of(tmp_path / "old", tmp_path / "new", rate=rate)
    assert [(edit.kind, edit.b) for edit in found] == [(EditKind.MATCHED, Frames(0, 100))]


def test_frames_that_are_repeated_by_empty_packets_are_compared(edits):
    """Theora; against the same pictures with a packet for each frame."""
    held = Path(__file__).parents[3] / "corpus" / "still.ogv"
    found = edits(held.read_bytes(), held.read_bytes())
    assert [(edit.kind, edit.b) for edit in found] == [(EditKind.MATCHED, Frames(0, 61))]


def test_dub_is_a_difference_of_the_sound_alone(tmp_path):
    random = np.random.default_rng(3)
    music, dub = (
        np.concatenate([tone(0.25, hertz=float(hertz)) for hertz in random.uniform(150, 6000, 40)]) for _ in range(2)
    )
    dubbed = np.concatenate([music[: 4 * 48_000], dub[4 * 48_000 : 7 * 48_000], music[7 * 48_000 :]])
    films = []
    for name, sound in (("old", music), ("new", dubbed)):
        path = drawn.encoded(tmp_path / f"{name}.mp4", SCENE, sound=sound)
        films.append(Film(fingerprint_file(path), Fraction(24)))
    picture = align(*films, Options())
    assert [edit.kind for edit in picture.edits] == [EditKind.MATCHED]
    edit = only_change(compare_sound(*films, picture).edits)
    assert edit.changes[0].kind is ChangeKind.SOUND_REPLACED
    assert near(edit.b, 96, 168, frames=6)
