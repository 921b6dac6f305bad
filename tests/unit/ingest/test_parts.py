"""Gathering chunks into parts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sage_ingest.uploads.parts import MAX_PARTS, PartBuffers, PartGatherer, part_size
from sage_runtime.errors import Reason, SageError
from sage_runtime.process.settings import MIB


def _gatherer(total_bytes: int, part_bytes: int) -> PartGatherer:
    return PartGatherer(
        total_bytes=total_bytes, part_bytes=part_bytes, buffers=PartBuffers(part_bytes=part_bytes, kept=1)
    )


@given(chunks=st.lists(st.binary(max_size=40), max_size=30), part_bytes=st.integers(1, 50))
def test_the_parts_joined_are_the_file_whatever_the_chunks(chunks: list[bytes], part_bytes: int) -> None:
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
def test_excess_bytes_are_refused_when_they_arrive(data: bytes, extra: bytes, part_bytes: int) -> None:
    gathering = _gatherer(len(data), part_bytes)
    list(gathering.feed(data))
    with pytest.raises(SageError) as raised:
        list(gathering.feed(extra))
    assert raised.value.reason is Reason.SIZE_MISMATCH
    assert raised.value.facts == {"declared_bytes": str(len(data)), "received_bytes": str(len(data) + len(extra))}


def test_an_early_end_is_refused() -> None:
    gathering = _gatherer(10, 4)
    list(gathering.feed(b"123456789"))
    with pytest.raises(SageError, match="SIZE_MISMATCH"):
        gathering.finish()


@given(total_bytes=st.integers(1, 5 * 1024**4), default_bytes=st.integers(5 * MIB, 64 * MIB))
def test_no_file_has_more_than_10000_parts(total_bytes: int, default_bytes: int) -> None:
    size = part_size(total_bytes, default_bytes=default_bytes)
    assert -(-total_bytes // size) <= MAX_PARTS
    assert size == default_bytes or total_bytes > default_bytes * MAX_PARTS
    assert size == default_bytes or -(-total_bytes // (size - MIB)) > MAX_PARTS


def test_buffers_are_reused() -> None:
    buffers = PartBuffers(part_bytes=8, kept=1)
    first, second = buffers.acquire(8), buffers.acquire(8)
    buffers.release(first)
    buffers.release(second)
    assert buffers.acquire(8) is first
    assert buffers.acquire(8) is not second


def test_buffers_of_other_sizes_are_not_kept() -> None:
    buffers = PartBuffers(part_bytes=8, kept=1)
    buffers.release(buffers.acquire(3))
    assert len(buffers.acquire(8)) == 8
