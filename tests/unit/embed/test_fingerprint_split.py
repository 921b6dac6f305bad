"""How a long fingerprint is split into parts."""

import itertools

from hypothesis import given
from hypothesis import strategies as st
from sage_embed.fingerprints.model import Part, split_blocks


@given(first=st.integers(0, 5000), count=st.integers(1, 5000), part_blocks=st.integers(1, 400))
def test_parts_follow_each_other_and_are_about_equal(first: int, count: int, part_blocks: int) -> None:
    parts = split_blocks(first, first + count, part_blocks=part_blocks)
    assert parts[0].next_block == first
    assert parts[-1].end_block == first + count
    for one, other in itertools.pairwise(parts):
        assert one.end_block == other.next_block
    sizes = [part.end_block - part.next_block for part in parts]
    assert min(sizes) >= 1
    assert max(sizes) <= min(part_blocks, min(sizes) + 1)
    assert (len(parts) == 1) == (count <= part_blocks)
    assert len(parts) == 1 or len(parts) % 2 == 0 or part_blocks == 1


def test_a_film_a_little_longer_than_a_part_has_two_halves() -> None:
    assert split_blocks(0, 61, part_blocks=60) == [Part(0, 30), Part(30, 61)]
