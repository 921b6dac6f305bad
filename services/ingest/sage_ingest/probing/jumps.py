"""Finds where the clock of a transport or program stream jumps, without reading all of it."""

import statistics
from fractions import Fraction
from itertools import pairwise

from av.container import InputContainer
from av.video.stream import VideoStream
from sage_film.timeline import JUMP_AHEAD_SECONDS, SteadyPackets, picture_packets
from sage_runtime.process.confined import BudgetExceededError

# Places in the file at which the clock is read.
_SAMPLES = 64
# An interval in which the clock moves more than this many times as fast as in most may have a jump.
_TOO_FAST = 4
# A jump is narrowed down to this many bytes, which are then read.
_NARROW_BYTES = 256 * 1024
# Bytes behind a jump that are read with it, for the frames that it separates.
_BEHIND_BYTES = 2 * 1024 * 1024


def can_sample(container: InputContainer) -> bool:
    """Whether a container has a clock that can be read at any byte."""
    return container.format.name in ("mpegts", "mpeg")


class ClockSamples:
    """The clock of a film, read at some places of its file.

    A part that is much shorter than the distance between two places may be missed.

    Args:
        container: An open file.
        stream: Its picture track. All other tracks should be discarded.
        size_bytes: Size of the file.
    """

    def __init__(self, container: InputContainer, stream: VideoStream, *, size_bytes: int) -> None:
        self._container = container
        self._stream = stream
        self._tick = stream.time_base or Fraction(1)
        self._size_bytes = size_bytes
        self._samples = list[tuple[int, int]]()
        try:
            self._read_samples()
        except BudgetExceededError:
            # Without a sign of a jump, what the file states must do.
            if any(after < before for (_, before), (_, after) in pairwise(self._samples)):
                raise
            self._samples = []
        speeds = [(clock - before) / (at - start) for (start, before), (at, clock) in pairwise(self._samples)]
        # Ticks a byte.
        self._speed = statistics.median(speeds) if speeds else 0.0

    def shift(self) -> int:
        """Return by how many ticks the last part is moved so that each follows the one before; 0 if none jumps.

        Raises:
            BudgetExceededError: Too much would have to be read.
        """
        if self._speed <= 0:
            # No place to rely on. Parts may be shorter than the distance between places.
            return 0
        return sum(self._shift_between(*one, *other) for one, other in pairwise(self._samples))

    def end(self) -> SteadyPackets:
        """Seek to where the last seconds begin, and return the packets from there."""
        bytes_of_end = int(JUMP_AHEAD_SECONDS / 2 / self._tick / self._speed) if self._speed > 0 else 0
        start = self._size_bytes - max(_BEHIND_BYTES, min(bytes_of_end, 16 * _BEHIND_BYTES))
        # Nothing but padding may follow the last place that has a clock.
        last = self._samples[-1][0] if self._samples else 0
        self._seek(max(0, min(start, last)))
        return SteadyPackets(self._container, self._stream)

    def _read_samples(self) -> None:
        for at in range(0, self._size_bytes, max(1, self._size_bytes // _SAMPLES)):
            clock = self._clock(at)
            if clock is not None:
                self._samples.append((at, clock))

    def _shift_between(self, start: int, before: int, end: int, after: int) -> int:
        if not self._may_jump(start, before, end, after):
            return 0
        if end - start <= _NARROW_BYTES:
            return self._shift_within(start, end)
        middle = (start + end) // 2
        clock = self._clock(middle)
        if clock is None:
            return self._shift_within(start, end)
        return self._shift_between(start, before, middle, clock) + self._shift_between(middle, clock, end, after)

    def _may_jump(self, start: int, before: int, end: int, after: int) -> bool:
        usual = (end - start) * self._speed
        return after < before or after - before > _TOO_FAST * usual + float(JUMP_AHEAD_SECONDS / self._tick)

    def _shift_within(self, start: int, end: int) -> int:
        # A little earlier, because the first packet after seeking is the reference.
        self._seek(max(0, start - _NARROW_BYTES))
        packets = SteadyPackets(self._container, self._stream)
        for packet in packets:
            if packet.pos is not None and packet.pos > end + _BEHIND_BYTES:
                break
        return packets.shift

    def _clock(self, at: int) -> int | None:
        """Return the decoding time of the first packet at a place."""
        self._seek(at)
        packets = picture_packets(self._container, self._stream)
        return next((packet.dts for packet in packets if packet.dts is not None), None)

    def _seek(self, at: int) -> None:
        self._container.seek(at, unsupported_byte_offset=True)
