"""Gathering chunks into parts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sage_ingest.parts import MAX_PARTS, MIB, PartBuffers, PartGatherer, part_size
from sage_runtime.errors import Reason, SageError


def _gatherer(total_bytes: int, part_bytes: int) -> PartGatherer:
    return PartGatherer(
        total_bytes=total_bytes, part_bytes=part_bytes, buffers=PartBuffers(part_bytes=part_bytes, kept=1)
    )


@given(chunks=st.lists(st.binary(max_size=40), max_size=30), part_bytes=st.integers(1, 50))
def test_parts_are_the_file_however_it_is_chunked(chunks: list[bytes], part_bytes: int) -> None:
    """Joined, the parts are the chunks joined; all are full but the last, which is not empty."""
    whole = b"".join(chunks)
    gathering = _gatherer(len(whole), part_bytes)
    parts = [bytes(part) for chunk in chunks for part in gathering.feed(chunk)]
    gathering.finish()
    assert b"".join(parts) == whole
    assert all(len(part) == part_bytes for part in parts[:-1])
    assert all(0 < len(part) <= part_bytes for part in parts)


@given(
    data=st.binary(min_size=1, max_size=100), extra=st.binary(min_size=1, max_size=10), part_bytes=st.integers(1, 50)
)
def test_a_byte_too_many_is_refused_when_it_comes(data: bytes, extra: bytes, part_bytes: int) -> None:
    """Bytes past the declared size raise SIZE_MISMATCH with both sizes, before the stream ends."""
    gathering = _gatherer(len(data), part_bytes)
    list(gathering.feed(data))
    with pytest.raises(SageError) as raised:
        list(gathering.feed(extra))
    assert raised.value.reason is Reason.SIZE_MISMATCH
    assert raised.value.facts == {"declared_bytes": str(len(data)), "received_bytes": str(len(data) + len(extra))}


def test_an_early_end_is_refused() -> None:
    """A stream that ends before the declared size raises SIZE_MISMATCH."""
    gathering = _gatherer(10, 4)
    list(gathering.feed(b"123456789"))
    with pytest.raises(SageError, match="SIZE_MISMATCH"):
        gathering.finish()


@given(total_bytes=st.integers(1, 5 * 1024**4), default_bytes=st.integers(5 * MIB, 64 * MIB))
def test_no_file_has_more_than_10000_parts(total_bytes: int, default_bytes: int) -> None:
    """Parts have the default size, and grow by whole MiB only where there would be too many."""
    size = part_size(total_bytes, default_bytes=default_bytes)
    assert -(-total_bytes // size) <= MAX_PARTS
    assert size == default_bytes or total_bytes > default_bytes * MAX_PARTS
    assert size == default_bytes or -(-total_bytes // (size - MIB)) > MAX_PARTS


def test_buffers_are_used_again() -> None:
    """A buffer of the usual size that was given back is handed out again, up to the number that is kept."""
    buffers = PartBuffers(part_bytes=8, kept=1)
    first, second = buffers.take(8), buffers.take(8)
    buffers.give_back(first)
    buffers.give_back(second)
    assert buffers.take(8) is first
    assert buffers.take(8) is not second


def test_buffers_of_other_sizes_are_not_kept() -> None:
    """The short last part of a file never stands in for a whole part."""
    buffers = PartBuffers(part_bytes=8, kept=1)
    buffers.give_back(buffers.take(3))
    assert len(buffers.take(8)) == 8
