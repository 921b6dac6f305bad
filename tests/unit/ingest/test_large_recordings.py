"""Where the clock of a recording jumps is found by reading some places of it, and not without end."""

import functools
import io
from dataclasses import replace
from fractions import Fraction

import pytest
from corpus.maker import Track, make_film
from sage_ingest.probing.measure import measure
from sage_ingest.probing.ports import Limits, UnreadableError
from sage_ingest.videos.model import Media
from sage_runtime.process.confined import BudgetExceededError

# Makes films of megabytes.
pytestmark = pytest.mark.slow

LARGE = Track(frames=200, size=(192, 128), options=(("qp", "4"), ("preset", "ultrafast")), noise=True)
PADDING = (b"\x47\x1f\xff\x10" + b"\xff" * 184) * 40_000


@functools.cache
def _part(start: int, frames: int = 200) -> bytes:
    return make_film("mpegts", replace(LARGE, start=Fraction(start), frames=frames))


class Bounded(io.BytesIO):
    """A file of which only so many bytes may be read."""

    def __init__(self, content: bytes, *, may_read: int) -> None:
        super().__init__(content)
        self.left = may_read

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self.left -= len(data)
        if self.left < 0:
            raise BudgetExceededError
        return data


def _measured(film: bytes, *, may_read: int = 2**40) -> Media:
    return measure(Bounded(film, may_read=may_read), size_bytes=len(film), limits=Limits(whole_bytes=0))


def test_a_clock_that_runs_through_needs_a_part_of_the_file() -> None:
    media = _measured(_part(10), may_read=len(_part(10)))
    assert (media.duration_seconds, media.timestamps_jump) == (8.0, False)


def test_without_a_sign_of_a_jump_what_can_be_read_must_do() -> None:
    film = _part(10) + _part(18)
    media = _measured(film, may_read=10_000_000)
    assert (media.duration_seconds, media.timestamps_jump) == (16.0, False)


@pytest.mark.parametrize("may_read", [9_000_000, 15_000_000], ids=["while sampling", "while searching"])
def test_a_jump_that_cannot_be_located_is_refused(may_read: int) -> None:
    film = _part(900) + _part(10) + _part(900)
    with pytest.raises(UnreadableError, match="too much of it would have to be read"):
        _measured(film, may_read=may_read)


@pytest.mark.parametrize("starts", [(10, 900), (900, 10), (10, 900, 10), (900, 10, 300, 20)])
def test_each_jump_is_found(starts: tuple[int, ...]) -> None:
    media = _measured(b"".join(_part(start) for start in starts))
    assert media.duration_seconds == pytest.approx(8.0 * len(starts), abs=1e-6)
    assert media.timestamps_jump


@pytest.mark.parametrize("starts", [(10,), (900, 10)])
def test_padding_has_no_clock(starts: tuple[int, ...]) -> None:
    media = _measured(b"".join(_part(start) + PADDING for start in starts))
    assert media.duration_seconds == pytest.approx(8.0 * len(starts), abs=1e-6)


def test_a_recording_of_a_moment_has_no_speed() -> None:
    media = _measured(_part(10, frames=2))
    assert media.duration_seconds == pytest.approx(0.08)
