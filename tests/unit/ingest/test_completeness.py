"""Distinguishing complete files from truncated ones."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sage_ingest.probing.completeness import missing_bytes
from support.small_films import small_film


def _missing(data: bytes) -> int:
    return missing_bytes(lambda offset, length: data[offset : offset + length], size_bytes=len(data))


@pytest.mark.parametrize(
    ("container", "codec"), [("mp4", "libx264"), ("matroska", "libx264"), ("webm", "libvpx"), ("avi", "mpeg4")]
)
def test_a_complete_file_lacks_nothing_and_a_truncated_one_what_was_cut(container: str, codec: str) -> None:
    film = small_film(container, codec=codec)
    assert _missing(film) == 0
    assert _missing(film[:-10]) == 10


@given(st.binary(max_size=200))
def test_any_bytes_are_accepted(data: bytes) -> None:
    assert _missing(data) >= 0


@pytest.mark.parametrize("head", [b"\0\0\0\x08ftyp", b"\x1a\x45\xdf\xa3", b"RIFF"])
@given(rest=st.binary(max_size=200))
def test_any_bytes_after_a_known_header_are_accepted(head: bytes, rest: bytes) -> None:
    assert _missing(head + rest) >= 0


def test_a_large_box_is_read_by_its_long_size() -> None:
    ftyp = b"\0\0\0\x08ftyp"
    assert _missing(ftyp + b"\0\0\0\x01mdat" + (5 * 1024**3).to_bytes(8, "big")) == 5 * 1024**3 - 16


def test_a_segment_of_unknown_size_lacks_nothing() -> None:
    header = b"\x1a\x45\xdf\xa3\x80"
    assert _missing(header + b"\x18\x53\x80\x67\x01\xff\xff\xff\xff\xff\xff\xff" + b"cluster") == 0
