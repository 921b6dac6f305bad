"""Cells that differ, put together to things."""

import numpy as np
import pytest
from numpy.typing import NDArray
from sage_compare.aligned.components import Component, components

BLOCKS = 40
STRETCH = np.zeros(BLOCKS, np.int64)


def scores_of(*things: tuple[int, int, int, int]) -> NDArray[np.uint8]:
    """Return scores with things on one line, each as its first block, its end, and its left and right cell."""
    scores = np.zeros((BLOCKS, 18, 32), np.uint8)
    for first, end, left, right in things:
        scores[first:end, 14:16, left:right] = 200
    return scores


def times(found: list[Component]) -> list[tuple[int, int]]:
    return [(one.first, one.end) for one in found]


@pytest.mark.parametrize("apart", [2, 4, 5])
def test_parts_of_a_line_that_come_and_go_together_are_one_thing(apart: int) -> None:
    """Two texts may have letters in common at the same place."""
    scores = scores_of((10, 30, 4, 12), (10, 30, 12 + apart, 20 + apart))
    assert times(components(scores, STRETCH, 1.0)) == [(10, 30)]


def test_parts_of_a_line_at_different_times_are_two_things() -> None:
    scores = scores_of((5, 35, 4, 12), (10, 30, 17, 25))
    assert times(components(scores, STRETCH, 1.0)) == [(5, 35), (10, 30)]


def test_things_in_two_corners_are_two_things() -> None:
    scores = scores_of((10, 30, 1, 5), (10, 30, 27, 31))
    assert times(components(scores, STRETCH, 1.0)) == [(10, 30), (10, 30)]
