"""The byte format of a fingerprint."""

import itertools
import struct
import zlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy
from sage_fingerprint.blocks import MAX_BLOCK_FRAMES, Block, encode_block, nanoseconds, sound_steps
from sage_fingerprint.codec import (
    DamagedFingerprintError,
    FingerprintFormatError,
    FingerprintTooLargeError,
    OtherVersionError,
    decode,
    encode,
)
from sage_fingerprint.model import CHROMA_COLUMNS, CHROMA_ROWS, COLUMNS, ROWS, SOUND_BANDS, VERSION, Fingerprint

HEADER = struct.Struct("<4sHH3IQ5I")


def _fingerprint(starts: list[float], duration: float, *, seed: int = 0, sound: bool = True) -> Fingerprint:
    chance, count = np.random.default_rng(seed), len(starts)
    # Mostly still, as films are.
    luma = np.cumsum(chance.integers(0, 2, (count, ROWS, COLUMNS)), axis=0).astype(np.uint8)
    steps = sound_steps(0, nanoseconds(duration)).stop if duration <= 10 else -(-round(duration * 25e9) // 10**9)
    return Fingerprint(
        luma,
        chance.integers(0, 256, (count, ROWS, COLUMNS), np.uint8),
        chance.integers(120, 130, (count, 2, CHROMA_ROWS, CHROMA_COLUMNS), np.uint8),
        np.array([nanoseconds(start) for start in starts]) / 1e9,
        nanoseconds(duration) / 1e9,
        chance.integers(0, 256, (steps, SOUND_BANDS), np.uint8) if sound else None,
    )


def _even(seconds: float, rate: float = 24.0, **how) -> Fingerprint:
    return _fingerprint([index / rate for index in range(round(seconds * rate))], seconds, **how)


def _same(one: Fingerprint, other: Fingerprint) -> bool:
    pairs = [(getattr(one, name), getattr(other, name)) for name in ("luma", "texture", "chroma", "frame_seconds")]
    if one.sound is not None and other.sound is not None:
        pairs.append((one.sound, other.sound))
    return (
        all(np.array_equal(mine, theirs) for mine, theirs in pairs)
        and one.duration_seconds == other.duration_seconds
        and (one.sound is None) == (other.sound is None)
    )


@st.composite
def fingerprints(draw: st.DrawFn) -> Fingerprint:
    duration = draw(st.floats(0.001, 65.0))
    last = nanoseconds(duration) - 1
    starts = sorted(draw(st.sets(st.integers(0, last), max_size=40)))
    return _fingerprint(
        [start / 1e9 for start in starts], duration, seed=draw(st.integers(0, 9)), sound=draw(st.booleans())
    )


@given(fingerprints(), st.lists(st.integers(0, 100_000), max_size=20), st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_what_is_encoded_is_decoded_from_any_chunks(fingerprint: Fingerprint, cuts: list[int], threads: int) -> None:
    data = b"".join(encode(fingerprint))
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    chunks = [data[start:end] for start, end in itertools.pairwise(places)]
    assert _same(decode(chunks, threads=threads), fingerprint)


@given(st_numpy.arrays(np.uint8, (9, ROWS, COLUMNS)))
@settings(max_examples=20, deadline=None)
def test_every_value_survives(values: np.ndarray) -> None:
    fingerprint = replace(_even(9 / 24), luma=values, texture=values[::-1])
    assert _same(decode(encode(fingerprint)), fingerprint)


def test_single_bytes_are_enough() -> None:
    fingerprint = _even(0.2)
    (data,) = encode(fingerprint)
    assert _same(decode(bytes([one]) for one in data), fingerprint)


def test_blocks_that_have_more_frames_than_the_first_one_fit() -> None:
    fingerprint = _fingerprint([0.0, *(12 + index / 50 for index in range(1400))], 41.0)
    assert _same(decode(encode(fingerprint)), fingerprint)


def test_a_block_does_not_depend_on_those_before_it() -> None:
    long = _even(35.0)
    part = Fingerprint(
        long.luma[240:480], long.texture[240:480], long.chroma[240:480], long.frame_seconds[240:480], 35.0, None
    )
    block = Block(1, np.rint(part.frame_seconds * 1e9).astype(np.int64), part.luma, part.texture, part.chroma, None)
    assert encode_block(block, duration_ns=35 * 10**9) == list(encode(replace(long, sound=None)))[1]


@pytest.mark.parametrize("keep", [0.0, 0.3, 0.999])
def test_bytes_that_are_cut_off_are_refused(keep: float) -> None:
    data = b"".join(encode(_even(25.0)))
    with pytest.raises(DamagedFingerprintError):
        decode([data[: int(len(data) * keep)]])


def test_a_missing_last_block_is_noticed() -> None:
    blocks = list(encode(_even(25.0)))
    with pytest.raises(DamagedFingerprintError, match="ends after 2 of 3 blocks"):
        decode(blocks[:2])


@pytest.mark.parametrize("order", [[1, 0, 2], [0, 0, 1, 2], [0, 2]])
def test_blocks_in_another_order_are_refused(order: list[int]) -> None:
    blocks = list(encode(_even(25.0)))
    with pytest.raises(DamagedFingerprintError, match="expected"):
        decode(blocks[index] for index in order)


def test_blocks_of_two_films_are_refused() -> None:
    one, other = list(encode(_even(25.0))), list(encode(_even(26.0)))
    with pytest.raises(DamagedFingerprintError, match="different films"):
        decode([one[0], other[1], one[2]])


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_a_changed_byte_is_noticed(data: st.DataObject) -> None:
    encoded = bytearray(b"".join(encode(_even(11.0, rate=5.0))))
    at = data.draw(st.integers(0, len(encoded) - 1))
    encoded[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(FingerprintFormatError):
        decode([bytes(encoded)])


@given(st.binary(max_size=300))
@settings(max_examples=100, deadline=None)
def test_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(FingerprintFormatError):
        decode([data])


def test_another_version_is_named() -> None:
    data = bytearray(next(encode(_even(1.0))))
    data[4:6] = struct.pack("<H", VERSION + 1)
    with pytest.raises(OtherVersionError, match=f"version {VERSION + 1}") as raised:
        decode([bytes(data)])
    assert raised.value.version == VERSION + 1


def _with_header(**changes: int) -> bytes:
    """Return a block that states other sizes, with the right checksum."""
    names = (
        "magic",
        "version",
        "flags",
        "index",
        "frames",
        "steps",
        "duration_ns",
        *("size" + str(n) for n in range(5)),
    )
    block = next(encode(_even(1.0)))
    values = {**dict(zip(names, HEADER.unpack_from(block), strict=True)), **changes}
    header, parts = HEADER.pack(*values.values()), block[HEADER.size + 4 :]
    return header + struct.pack("<I", zlib.crc32(parts, zlib.crc32(header))) + parts


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"frames": 2**32 - 1}, FingerprintTooLargeError),
        ({"duration_ns": 2**63}, FingerprintTooLargeError),
        ({"frames": 23}, DamagedFingerprintError),
        ({"frames": 25}, DamagedFingerprintError),
        ({"frames": 0}, DamagedFingerprintError),
        ({"steps": 2**32 - 1}, DamagedFingerprintError),
        ({"index": 7}, DamagedFingerprintError),
        ({"flags": 0}, DamagedFingerprintError),
        ({"size1": 2**32 - 1}, DamagedFingerprintError),
        ({"size1": 0}, DamagedFingerprintError),
    ],
    ids=str,
)
def test_sizes_that_cannot_be_are_refused(changes: dict[str, int], error: type[Exception]) -> None:
    with pytest.raises(error):
        decode([_with_header(**changes)])


def test_a_part_that_would_unpack_to_more_is_refused() -> None:
    bomb = zlib.compress(bytes(50_000_000))
    header = HEADER.pack(b"SGFP", VERSION, 0, 0, 100, 0, 10**9, 0, len(bomb), 0, 0, 0)
    data = header + struct.pack("<I", zlib.crc32(bomb, zlib.crc32(header))) + bomb
    with pytest.raises(DamagedFingerprintError):
        decode([data])


def test_more_frames_than_accepted_are_refused() -> None:
    encoded = list(encode(_even(25.0)))
    with pytest.raises(FingerprintTooLargeError, match="more than 500 frames"):
        decode(encoded, max_frames=500)
    assert len(decode(encoded, max_frames=600)) == 600


def test_more_frames_than_a_block_may_have_are_not_encoded() -> None:
    fingerprint = _even(1.0, rate=MAX_BLOCK_FRAMES + 1.0, sound=False)
    with pytest.raises(FingerprintTooLargeError):
        list(encode(fingerprint))
