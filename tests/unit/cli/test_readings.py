"""Several tracks read together."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sage.compare.v1 import compare_pb2
from sage_cli.show.comparison import KIND_NAMES
from sage_cli.show.readings import describe, read_together, summarize

CHANGED, ONLY_IN_OLD, ONLY_IN_NEW, NOT_COMPARED = KIND_NAMES


def make_difference(kind, a=None, b=None):
    spans = {
        side: compare_pb2.FrameRange(start_seconds=span[0], end_seconds=span[1])
        for side, span in (("a", a), ("b", b))
        if span
    }
    return compare_pb2.Difference(kind=kind, **spans)


def changed(start, end):
    return make_difference(CHANGED, (start, end), (start, end))


@pytest.fixture
def together(make_comparison, track):
    """A call returns when and how the picture and other tracks with these differences differ."""

    def read(picture, *others):
        names = ("audio", "transcription")
        comparison = make_comparison(
            differences=picture,
            others=[track(name=name, differences=found) for name, found in zip(names, others, strict=False)],
        )
        readings = read_together(comparison.tracks)
        return [(one.start_seconds, one.end_seconds, describe(one, comparison)) for one in readings]

    return read


def test_ranges_that_overlap_in_part_are_split(together):
    assert together([changed(4, 8)], [changed(6, 10)]) == [
        (4, 6, "picture differs, sound the same"),
        (6, 8, "picture and sound differ"),
        (8, 10, "picture the same, sound differs"),
    ]


def test_equal_neighbours_are_joined_and_equal_stretches_left_out(together):
    assert together([], [changed(2, 4), changed(4, 6), changed(8, 10)]) == [
        (2, 6, "picture the same, sound differs"),
        (8, 10, "picture the same, sound differs"),
    ]
    assert together([], []) == []


def test_other_kinds_are_named(together):
    longer = make_difference(ONLY_IN_NEW, None, (20, 22.5))
    tail = make_difference(NOT_COMPARED, (18, 20), (18, 20))
    dub = make_difference(ONLY_IN_OLD, (0, 20))
    assert together([tail, longer], [dub, longer]) == [
        (0, 18, "picture the same, sound only in old"),
        (18, 20, "picture not compared, sound only in old"),
        (20, 22.5, "picture and sound only in new"),
    ]


def test_three_tracks_are_grouped_by_what_they_do(together):
    assert together([], [changed(2, 6)], [changed(4, 6)]) == [
        (2, 4, "picture and speech the same, sound differs"),
        (4, 6, "picture the same, sound and speech differ"),
    ]
    assert together([changed(2, 4)], [changed(2, 4)], [changed(2, 4)]) == [
        (2, 4, "picture, sound and speech differ"),
    ]


def test_rounding_errors_make_no_stretches(together):
    assert together([changed(4, 8 + 1e-9)], [changed(4 - 1e-9, 8)]) == [(4, 8, "picture and sound differ")]


@pytest.mark.parametrize(
    ("picture", "sound", "words"),
    [
        ([], [], "No differences, picture and sound the same"),
        ([], [changed(0, 2)], "Picture the same, sound differs"),
        ([changed(0, 2)], [], "Picture differs, sound the same"),
        ([changed(0, 2)], [changed(8, 10)], "Picture and sound differ"),
    ],
)
def test_headline_sums_up_every_track(make_comparison, track, picture, sound, words):
    comparison = make_comparison(differences=picture, others=[track(name="audio", differences=sound)])
    assert summarize(comparison) == words


marks = st.lists(st.tuples(st.integers(0, 7), st.integers(1, 4)), max_size=8)


def disjoint(pairs):
    """Return differences one after the other, from gaps and lengths."""
    at, found = 0, []
    for gap, length in pairs:
        found.append(changed(at + gap, at + gap + length))
        at += gap + length
    return found


@given(pairs=st.tuples(marks, marks, marks))
def test_readings_combine_the_tracks_for_each_second(pairs):
    tracks = [
        compare_pb2.TrackComparison(name=name, time=compare_pb2.TimeComparison(differences=disjoint(found)))
        for name, found in zip(("visual", "audio", "transcription"), pairs, strict=True)
    ]
    readings = read_together(tracks)

    def kind_at(track, second):
        hits = (d.kind for d in track.time.differences if d.a.start_seconds <= second < d.a.end_seconds)
        return next(hits, None)

    for moment in range(100):
        expected = tuple(kind_at(track, moment) for track in tracks)
        hits = [one.states for one in readings if one.start_seconds <= moment < one.end_seconds]
        assert hits == ([expected] if any(expected) else [])
