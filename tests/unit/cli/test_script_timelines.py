"""The two bars of an aligned comparison, and the ribbons between them."""

import pytest
from rich.text import Text
from sage.compare.v1 import compare_pb2
from sage_cli.show.comparison import Comparison
from sage_cli.show.script.timelines import draw_timelines
from support.scripts import PICTURE, SOUND, make_edit, make_script

MATCHED, CHANGED = compare_pb2.EDIT_KIND_MATCHED, compare_pb2.EDIT_KIND_CHANGED
INSERTED, DELETED = compare_pb2.EDIT_KIND_INSERTED, compare_pb2.EDIT_KIND_DELETED
MOVED = compare_pb2.EDIT_KIND_MOVED
RIBBON_ROWS = slice(2, 6)


@pytest.fixture
def compared(film):
    """A call makes an aligned comparison of films of some seconds."""

    def make(old: float, new: float, picture, sound=None) -> Comparison:
        tracks = [compare_pb2.TrackComparison(name="visual", script=picture)]
        tracks += [compare_pb2.TrackComparison(name="audio", script=sound)] if sound else []
        response = compare_pb2.CompareEmbeddingsResponse(mode=compare_pb2.COMPARE_MODE_ALIGNED, tracks=tracks)
        return Comparison(response, film("old.mp4", old), film("new.mp4", new), clip_seconds=2.0)

    return make


def lines(comparison: Comparison, *, width: int = 45, ascii_only: bool = False) -> list[str]:
    return [line.plain for line in draw_timelines(comparison, width=width, ascii_only=ascii_only)]


def swapped(script: compare_pb2.EditScript) -> compare_pb2.EditScript:
    """Return the script from the new film to the old one."""
    other = {INSERTED: DELETED, DELETED: INSERTED}
    edits = []
    for edit in script.edits:
        turned = compare_pb2.Edit(kind=other.get(edit.kind, edit.kind))
        for mine, theirs in (("a", "b"), ("b", "a")):
            if edit.HasField(theirs):
                getattr(turned, mine).CopyFrom(getattr(edit, theirs))
        edits.append(turned)
    return make_script(*edits)


def test_bars_have_a_symbol_per_kind(compared):
    """40 columns are 20 s."""
    script = make_script(
        make_edit(MATCHED, (0, 96), (0, 96)),
        make_edit(CHANGED, (96, 144), (96, 144)),
        make_edit(DELETED, (144, 240), None),
        make_edit(INSERTED, None, (144, 192)),
        make_edit(MATCHED, (240, 480), (192, 432)),
    )
    drawn = lines(compared(20.0, 18.0, script), ascii_only=True)
    assert drawn[1] == "old  " + "=" * 8 + "~" * 4 + "-" * 8 + "=" * 20
    assert drawn[6] == "new  " + "=" * 8 + "~" * 4 + "+" * 4 + "=" * 20
    assert drawn[-1] == "     = same  + inserted  - deleted  ~ changed"


def test_insertion_pushes_the_ribbons_apart(compared):
    script = make_script(
        make_edit(MATCHED, (0, 240), (0, 240)),
        make_edit(INSERTED, None, (240, 480)),
        make_edit(MATCHED, (240, 480), (480, 720)),
    )
    rows = lines(compared(20.0, 30.0, script), width=65)[RIBBON_ROWS]
    # Nothing is inside the wedge but its rim.
    gaps = [row[5 + 20 : 5 + 40].count(" ") for row in rows]
    assert gaps == sorted(gaps)
    assert gaps[-1] >= 15


def test_moved_piece_crosses_the_others(compared):
    """It is drawn in front of them, from its old place to its new one."""
    script = make_script(make_edit(MATCHED, (48, 480), (0, 432)), make_edit(MOVED, (0, 48), (432, 480)))
    drawn = draw_timelines(compared(20.0, 20.0, script), width=45)
    rows = drawn[RIBBON_ROWS]
    starts = []
    for row in rows:
        spans = [span for span in row.spans if "magenta" in str(span.style)]
        assert spans
        starts.append(min(span.start for span in spans))
    assert starts == sorted(starts)
    assert starts[0] < 10
    assert starts[-1] > 20
    assert ">" in "".join(lines(compared(20.0, 20.0, script), ascii_only=True)[RIBBON_ROWS])


@pytest.mark.parametrize("ascii_only", [False, True])
def test_film_against_itself_has_only_straight_ribbons(compared, ascii_only):
    script = make_script(make_edit(MATCHED, (0, 480), (0, 480)))
    drawn = lines(compared(20.0, 20.0, script), ascii_only=ascii_only)
    rows = drawn[RIBBON_ROWS]
    assert len({*rows}) == 1
    assert drawn[1][5:] == drawn[6][5:]
    assert drawn[-1].split() == ["=" if ascii_only else "█", "same"]


def test_swapping_the_films_swaps_the_bars_and_what_is_inserted_and_deleted(compared):
    old_to_new = lines(compared(20.0, 500 / 24, PICTURE), ascii_only=True)
    new_to_old = lines(compared(500 / 24, 20.0, swapped(PICTURE)), ascii_only=True)
    turned = str.maketrans("+-", "-+")
    assert new_to_old[1][5:] == old_to_new[6][5:].translate(turned)
    assert new_to_old[6][5:] == old_to_new[1][5:].translate(turned)


def test_sound_has_a_lane_in_the_time_of_the_new_film(compared):
    drawn = lines(compared(20.0, 500 / 24, PICTURE, SOUND), width=80)
    (lane,) = [line for line in drawn if line.startswith("snd")]
    assert lane[5:].startswith("~~~")
    assert lane.endswith("~~~")
    assert "+" not in lane, "its cuts are those of the picture"


@pytest.mark.parametrize("width", [15, 24, 40, 80, 200])
@pytest.mark.parametrize("ascii_only", [False, True])
def test_picture_fits_every_width(compared, width, ascii_only):
    drawn = lines(compared(20.0, 500 / 24, PICTURE, SOUND), width=width, ascii_only=ascii_only)
    assert max(map(len, drawn[:-5])) <= width
    assert all(line.isascii() for line in drawn) == ascii_only
    assert {line[:4].strip() for line in drawn} == {"", "old", "new", "snd"}


def test_nothing_is_drawn_without_room_or_length(compared):
    assert lines(compared(20.0, 500 / 24, PICTURE), width=14) == []
    assert lines(compared(0.0, 0.0, make_script())) == []


def test_edit_of_one_frame_in_two_hours_has_a_column(compared):
    hours = 2 * 3600 * 24
    script = make_script(
        make_edit(MATCHED, (0, 90_000), (0, 90_000)),
        make_edit(INSERTED, None, (90_000, 90_001)),
        make_edit(MATCHED, (90_000, hours), (90_001, hours + 1)),
    )
    drawn = lines(compared(7200.0, 7200.04, script))
    assert drawn[6].count("+") == 1


def test_lines_are_texts_without_trailing_blanks(compared):
    for line in draw_timelines(compared(20.0, 500 / 24, PICTURE), width=80):
        assert isinstance(line, Text)
        assert line.plain == line.plain.rstrip()
