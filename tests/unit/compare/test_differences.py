"""The rule that turns a series into differences."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sage_compare.inputs.embedding import TimeRange
from sage_compare.time_mode.differences import Difference, DifferenceKind, Series, find_differences

CASES = json.loads((Path(__file__).parents[2] / "cases" / "series.json").read_text())


def as_series(message: dict) -> Series:
    """Read a series of the shared cases."""
    return Series(
        np.array(message["aStartSeconds"], np.float64),
        np.array(message["bStartSeconds"], np.float64),
        np.array(message["lengthSeconds"], np.float64),
        np.array(message["distances"], np.float32),
    )


def as_difference(message: dict) -> Difference:
    """Read a difference of the shared cases."""

    def where(side: str) -> TimeRange | None:
        return TimeRange(message[side]["startSeconds"], message[side]["endSeconds"]) if side in message else None

    kind = DifferenceKind[message["kind"].removeprefix("DIFFERENCE_KIND_")]
    return Difference(kind, where("a"), where("b"), message.get("maxDistance"), message.get("meanDistance"))


def numbers(difference: Difference) -> list[float | None]:
    """Return the numbers of a difference, for an approximate comparison."""
    times = [time for where in (difference.a, difference.b) if where for time in (where.start, where.end)]
    return [*times, difference.max_distance, difference.mean_distance]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_shared_case_holds(case):
    found = find_differences(
        as_series(case["series"]),
        unpaired=[as_difference(message) for message in case["unpaired"]],
        threshold=case["threshold"],
    )
    expected = [as_difference(message) for message in case["expected"]["differences"]]
    assert [difference.kind for difference in found.differences] == [difference.kind for difference in expected]
    for ours, theirs in zip(found.differences, expected, strict=True):
        assert (ours.a is None, ours.b is None) == (theirs.a is None, theirs.b is None)
        assert numbers(ours) == pytest.approx(numbers(theirs), abs=1e-6)
    assert found.similarity_percent == pytest.approx(case["expected"]["similarityPercent"], abs=1e-6)
    assert found.differing_count == case["expected"]["differingCount"]


def naive(series: Series, unpaired: list[Difference], threshold: float) -> tuple[list[Difference], float]:
    """Apply the rule as the contract words it, one interval after the other."""
    groups: list[list[int]] = []
    for i, distance in enumerate(series.distances):
        if not distance > np.float32(threshold):
            continue
        previous = groups[-1][-1] if groups else None
        joins = previous == i - 1 and all(
            abs(starts[previous] + series.lengths[previous] - starts[i]) < 1e-6
            for starts in (series.a_starts, series.b_starts)
        )
        if joins:
            groups[-1].append(i)
        else:
            groups.append([i])
    differences = list(unpaired)
    for group in groups:
        first, last = group[0], group[-1]
        weights = [float(series.lengths[i]) for i in group]
        distances = [float(series.distances[i]) for i in group]
        mean = sum(w * d for w, d in zip(weights, distances, strict=True)) / sum(weights)
        ranges = [
            TimeRange(float(starts[first]), float(starts[last] + series.lengths[last]))
            for starts in (series.a_starts, series.b_starts)
        ]
        differences.append(Difference(DifferenceKind.CHANGED, *ranges, max(distances), mean))
    lost = sum(float(series.lengths[i]) for group in groups for i in group)
    union = float(series.lengths.sum()) + sum(difference.length for difference in unpaired)
    similarity = 100.0 if not differences else 100.0 * (float(series.lengths.sum()) - lost) / union
    return differences, similarity


@st.composite
def series_and_unpaired(draw):
    """Intervals with gaps between some of them, and an ending that only one has."""
    count = draw(st.integers(0, 30))
    lengths = np.array(draw(st.lists(st.floats(0.04, 10), min_size=count, max_size=count)))
    gaps = np.array(draw(st.lists(st.sampled_from([0.0, 0.0, 0.0, 1.5]), min_size=count, max_size=count)))
    distances = np.array(
        draw(st.lists(st.sampled_from([0.0, 0.05, 0.1, 0.2, 1.0, 2.0]), min_size=count, max_size=count)), np.float32
    )
    a_starts = np.cumsum(lengths + gaps) - lengths if count else np.zeros(0)
    end = float(a_starts[-1] + lengths[-1]) if count else 0.0
    unpaired = [
        Difference(DifferenceKind.NOT_COMPARED, TimeRange(float(s - g), float(s)), TimeRange(float(s - g), float(s)))
        for s, g in zip(a_starts, gaps, strict=True)
        if g
    ]
    if draw(st.booleans()):
        unpaired.append(Difference(DifferenceKind.ONLY_IN_B, None, TimeRange(end, end + 3)))
    return Series(a_starts, a_starts + draw(st.sampled_from([0.0, 5.0])), lengths, distances), unpaired


@given(series_and_unpaired(), st.sampled_from([0.0, 0.05, 0.1, 0.15, 2.0]))
def test_vectorised_rule_equals_a_plain_loop_over_the_contracts_words(inputs, threshold):
    series, unpaired = inputs
    found = find_differences(series, unpaired=unpaired, threshold=threshold)
    differences, similarity = naive(series, unpaired, threshold)

    def by_place(difference: Difference) -> tuple:
        return difference.start, difference.kind.name

    ours, theirs = sorted(found.differences, key=by_place), sorted(differences, key=by_place)
    assert [difference.kind for difference in ours] == [difference.kind for difference in theirs]
    for one, other in zip(ours, theirs, strict=True):
        assert numbers(one) == pytest.approx(numbers(other), abs=1e-6)
    assert found.similarity_percent == pytest.approx(similarity, abs=1e-6)


@given(series_and_unpaired(), st.floats(0, 2))
def test_differences_are_ordered_and_only_none_means_100_percent(inputs, threshold):
    series, unpaired = inputs
    found = find_differences(series, unpaired=unpaired, threshold=threshold)
    starts = [difference.start for difference in found.differences]
    assert starts == sorted(starts)
    assert 0.0 <= found.similarity_percent <= 100.0
    assert (found.similarity_percent == 100.0) == (not found.differences)


def test_tiny_difference_in_a_very_long_film_is_below_100_percent():
    series = Series(np.array([0.0, 1e9]), np.array([0.0, 1e9]), np.array([1e9, 1e-9]), np.array([0.0, 1.0], np.float32))
    assert find_differences(series, unpaired=[], threshold=0.1).similarity_percent < 100.0
