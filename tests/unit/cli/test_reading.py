"""Two tracks read together."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sage_cli.comparison import Difference, Kind, TimeRange, TrackComparison
from sage_cli.reading import describe, read_together, summarize


def changed(start, end):
    """Return a change."""
    return Difference(Kind.CHANGED, TimeRange(start, end), TimeRange(start, end), 0.4, 0.3)


@pytest.fixture
def together(make_comparison, track):
    """A call returns when and how two tracks with these differences differ."""

    def read(first, second):
        comparison = make_comparison(differences=first, second=track(track="audio", differences=second))
        readings = read_together(comparison.first, comparison.second)
        return [(one.start_seconds, one.end_seconds, describe(one, comparison)) for one in readings]

    return read


def test_each_stretch_says_what_each_track_does(together):
    """Where the ranges of the tracks overlap in part, each part is a stretch of its own."""
    assert together([changed(4, 8)], [changed(6, 10)]) == [
        (4, 6, "picture differs, sound the same"),
        (6, 8, "picture and sound differ"),
        (8, 10, "picture the same, sound differs"),
    ]


def test_what_is_the_same_in_both_is_left_out(together):
    """Stretches of one reading that touch are one, and those with a gap between them are not."""
    assert together([], [changed(2, 4), changed(4, 6), changed(8, 10)]) == [
        (2, 6, "picture the same, sound differs"),
        (8, 10, "picture the same, sound differs"),
    ]
    assert together([], []) == []


def test_other_kinds_are_named(together):
    """What only one has, and what was not compared, is not called a difference of the other track."""
    longer = Difference(Kind.ONLY_IN_NEW, None, TimeRange(20, 22.5))
    tail = Difference(Kind.NOT_COMPARED, TimeRange(18, 20), TimeRange(18, 20))
    dub = Difference(Kind.ONLY_IN_OLD, TimeRange(0, 20), None)
    assert together([tail, longer], [dub, longer]) == [
        (0, 18, "picture the same, sound only in old"),
        (18, 20, "picture not compared, sound only in old"),
        (20, 22.5, "picture and sound only in new"),
    ]


def test_rounding_makes_no_stretches(together):
    """Ranges that miss each other by a rounding error leave no sliver of a reading behind."""
    assert together([changed(4, 8 + 1e-9)], [changed(4 - 1e-9, 8)]) == [(4, 8, "picture and sound differ")]


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        ([], [], "No differences, picture and sound the same"),
        ([], [changed(0, 2)], "Picture the same, sound differs"),
        ([changed(0, 2)], [], "Picture differs, sound the same"),
        ([changed(0, 2)], [changed(8, 10)], "Picture and sound differ"),
    ],
)
def test_headline_says_what_each_track_does(make_comparison, track, first, second, words):
    """One sentence sums up both tracks."""
    comparison = make_comparison(differences=first, second=track(track="audio", differences=second))
    assert summarize(comparison) == words


marks = st.lists(st.tuples(st.integers(0, 7), st.integers(1, 4)), max_size=8)


def disjoint(pairs):
    """Return differences one after the other, from gaps and lengths."""
    at, found = 0, []
    for gap, length in pairs:
        found.append(changed(at + gap, at + gap + length))
        at += gap + length
    return found


@given(first=marks, second=marks)
def test_every_second_is_read_as_both_tracks_have_it(first, second):
    """Second by second, the readings say of each track what its differences say."""
    ours, theirs = (
        TrackComparison(name, 0.1, 50.0, 0, 0, disjoint(pairs), [])
        for name, pairs in (("visual", first), ("audio", second))
    )
    readings = read_together(ours, theirs)

    def kind_at(track, second_):
        hits = (d.kind for d in track.differences if d.old.start_seconds <= second_ < d.old.end_seconds)
        return next(hits, None)

    for moment in range(100):
        expected = kind_at(ours, moment), kind_at(theirs, moment)
        hits = [(r.first, r.second) for r in readings if r.start_seconds <= moment < r.end_seconds]
        assert hits == ([] if expected == (None, None) else [expected])
