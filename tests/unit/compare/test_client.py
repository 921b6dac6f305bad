"""The messages of the embed service."""

import pytest
from sage.embed.v1 import embed_pb2
from sage_compare.inputs.client import SegmentRows, to_embedding


def test_unknown_state_is_not_completed():
    embedding = to_embedding(embed_pb2.Embedding(state=77))
    assert (embedding.completed, embedding.in_progress, embedding.state) == (False, False, "77")


def rows_message(first: int, count: int, *, dimensions: int = 2, width: int = 2) -> embed_pb2.ReadSegmentsResponse:
    """Return segments whose vectors consist of ones, `width` numbers per row."""
    return embed_pb2.ReadSegmentsResponse(
        first_index=first,
        start_seconds=[2.0 * i for i in range(first, first + count)],
        end_seconds=[2.0 * i + 2 for i in range(first, first + count)],
        dimensions=dimensions,
        vectors=b"\x00\x00\x80\x3f" * width * count,
    )


def test_messages_become_one_array():
    rows = SegmentRows(count=3, dimensions=2)
    rows.add(rows_message(0, 2))
    rows.add(rows_message(2, 1))
    rows.check_complete()
    assert rows.starts.tolist() == [0, 2, 4]
    assert rows.vectors.tolist() == [[1, 1]] * 3


@pytest.mark.parametrize(
    "bad",
    [rows_message(1, 1), rows_message(0, 4), rows_message(0, 1, dimensions=3), rows_message(0, 1, width=3)],
    ids=["not the next", "too many", "other dimensions", "too many bytes"],
)
def test_unexpected_segments_are_refused(bad):
    with pytest.raises(ValueError, match="expected"):
        SegmentRows(count=3, dimensions=2).add(bad)


def test_incomplete_track_is_refused():
    rows = SegmentRows(count=3, dimensions=2)
    rows.add(rows_message(0, 2))
    with pytest.raises(ValueError, match="2 of 3"):
        rows.check_complete()
