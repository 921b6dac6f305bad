"""Distances between vectors."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sage_compare.inputs.segments import Segments
from sage_compare.time_mode.distance import Metric, distances


def segments_of(vectors) -> Segments:
    """Return segments with these vectors."""
    rows = np.asarray(vectors, np.float32)
    starts = np.arange(len(rows)) * 2.0
    return Segments.of(starts, starts + 2.0, rows)


def measure(a, b, metric=Metric.COSINE):
    """Return the distance of each row to the corresponding row."""
    a_segments, b_segments = segments_of(a), segments_of(b)
    rows = np.arange(len(a_segments))
    return distances(a_segments, b_segments, rows, rows, metric=metric)


@pytest.mark.parametrize(
    ("a", "b", "cosine"),
    [([1, 0], [3, 0], 0.0), ([1, 0], [0, 5], 1.0), ([1, 0], [-2, 0], 2.0), ([1, 0], [1, 1], 1 - 0.5**0.5)],
)
def test_known_angles_have_known_distances_whatever_the_lengths(a, b, cosine):
    assert measure([a], [b]) == pytest.approx([cosine], abs=1e-6)
    assert measure([a], [b], Metric.EUCLIDEAN) == pytest.approx([(2 * cosine) ** 0.5], abs=1e-6)


@pytest.mark.parametrize("metric", Metric)
def test_zero_vectors_have_defined_distances(metric):
    right_angle = 1.0 if metric is Metric.COSINE else 2**0.5
    found = measure([[0, 0], [0, 0], [3, 4]], [[0, 0], [1, 2], [0, 0]], metric)
    assert found == pytest.approx([0.0, right_angle, right_angle], abs=1e-6)


@pytest.mark.parametrize("dimensions", [1, 7, 112, 512, 1024, 1536])
@pytest.mark.parametrize("metric", Metric)
def test_equal_vectors_are_exactly_0_apart(metric, dimensions):
    vectors = np.random.default_rng(0).standard_normal((300, dimensions)).astype(np.float32)
    elsewhere = np.concatenate([np.ones((1, dimensions), np.float32), vectors])
    a, b = segments_of(vectors), segments_of(elsewhere)
    rows = np.arange(300)
    assert not distances(a, b, rows, rows + 1, metric=metric).any()


@given(
    hnp.arrays(
        np.float32,
        st.tuples(st.integers(1, 20), st.integers(1, 9)),
        elements=st.floats(-(2.0**100), 2.0**100, width=32),
    ),
    st.randoms(use_true_random=False),
)
def test_distances_of_any_finite_vectors_equal_the_textbook_in_float64(vectors, random):
    order = list(range(len(vectors)))
    random.shuffle(order)
    others = vectors[order]
    found = measure(vectors, others)
    found_euclidean = measure(vectors, others, Metric.EUCLIDEAN)
    assert ((found >= 0) & (found <= 2)).all()
    assert ((found_euclidean >= 0) & (found_euclidean <= 2)).all()
    for one, other, cosine, euclidean in zip(vectors, others, found, found_euclidean, strict=True):
        u, v = one.astype(np.float64), other.astype(np.float64)
        if u.any() and v.any():
            expected = 1 - (u @ v) / (np.linalg.norm(u) * np.linalg.norm(v))
            assert cosine == pytest.approx(expected, abs=1e-5)
            assert euclidean == pytest.approx(np.sqrt(max(0.0, 2 * expected)), abs=1e-5)


def test_small_distances_keep_their_digits():
    a = np.zeros((1, 512), np.float32)
    a[0, 0] = 1.0
    b = a.copy()
    b[0, 1] = 1e-4
    assert measure(a, b) == pytest.approx([0.5e-8], rel=0.01)


def test_rows_that_repeat_skip_or_span_blocks_are_paired_by_index():
    random = np.random.default_rng(1)
    a, b = random.standard_normal((2000, 256)), random.standard_normal((2000, 256))
    a_rows, b_rows = np.sort(random.integers(0, 2000, 1500)), np.sort(random.integers(0, 2000, 1500))
    found = distances(segments_of(a), segments_of(b), a_rows, b_rows, metric=Metric.COSINE)
    u = a / np.linalg.norm(a, axis=1, keepdims=True)
    v = b / np.linalg.norm(b, axis=1, keepdims=True)
    assert found == pytest.approx(1 - (u[a_rows] * v[b_rows]).sum(axis=1), abs=1e-5)


def test_no_rows_have_no_distances():
    none = np.zeros(0, np.intp)
    assert len(distances(segments_of([[1, 2]]), segments_of([[1, 2]]), none, none, metric=Metric.COSINE)) == 0


@pytest.mark.parametrize(
    ("starts", "ends", "vectors"),
    [
        ([0.0], [2.0], [[np.nan, 1]]),
        ([0.0], [2.0], [[np.inf, 1]]),
        ([0.0, 2.0], [2.0, 4.0], [[1, 2]]),
        ([0.0], [0.0], [[1, 2]]),
        ([2.0, 0.0], [4.0, 2.0], [[1, 2], [1, 2]]),
        ([-1.0], [2.0], [[1, 2]]),
        ([0.0], [np.nan], [[1, 2]]),
        ([0.0], [2.0], [1, 2]),
    ],
)
def test_malformed_segments_are_refused(starts, ends, vectors):
    with pytest.raises(ValueError, match="must"):
        Segments.of(starts, ends, np.asarray(vectors, np.float32))
