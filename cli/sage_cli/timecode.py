"""Timecode: the names that editors give to frames."""

from dataclasses import dataclass
from fractions import Fraction

# Containers give an average, which is a little off 30000/1001 where the length of a file was rounded.
_DROP_FRAME_RATES = (Fraction(30_000, 1001), Fraction(60_000, 1001))
_TOLERANCE = Fraction(1, 200)
# 23.976 is a thousandth off 24, and editors count it so. A rate that is further off a whole number, such as 12.5 or the
# average of a phone's recording, would take timecode seconds away from the clock within a minute.
_MAX_DRIFT = Fraction(1, 500)


@dataclass(frozen=True)
class FrameRate:
    """A frame rate as an exact fraction of frames per second, more than zero."""

    frames_per_second: Fraction

    @property
    def nominal(self) -> int:
        """How many frames timecode counts in one of its seconds: 24 for 23.976, 30 for 29.97."""
        return max(1, round(self.frames_per_second))

    @property
    def has_timecode(self) -> bool:
        """Whether films of this rate are counted in timecode."""
        return abs(self.frames_per_second - self.nominal) <= self.nominal * _MAX_DRIFT

    @property
    def dropped_per_minute(self) -> int:
        """How many frame numbers each minute leaves out, but every tenth: 2 at 29.97, 4 at 59.94, else 0."""
        for rate in _DROP_FRAME_RATES:
            if abs(self.frames_per_second - rate) < _TOLERANCE:
                return self.nominal // 15
        return 0

    def frame_at(self, seconds: float) -> int:
        """Return the number of the frame that starts nearest to a time, from 0."""
        return int(Fraction(seconds) * self.frames_per_second + Fraction(1, 2))

    def __str__(self) -> str:
        return f"{float(self.frames_per_second):.5g} fps"


def timecode(seconds: float, rate: FrameRate) -> str:
    """Return the timecode of the frame at a time, ``HH:MM:SS:FF``, or ``HH:MM:SS;FF`` where it drops frame numbers.

    Hours go on counting after 23.

    Args:
        seconds: Time from the first frame, not negative.
        rate: The frame rate of the film.
    """
    return frame_timecode(rate.frame_at(seconds), rate)


def frame_timecode(frame: int, rate: FrameRate) -> str:
    """Return the timecode of a frame, counted from 0.

    Drop-frame keeps the clock true at 29.97 and 59.94 frames a second: it skips numbers, never pictures.

    Source: SMPTE ST 12-1, 5.2.
    """
    dropped = rate.dropped_per_minute
    if dropped:
        ten_minutes, rest = divmod(frame, rate.nominal * 600 - 9 * dropped)
        # The first of ten minutes drops nothing, so it is longer than the nine after it.
        minutes = max(0, rest - dropped) // (rate.nominal * 60 - dropped)
        frame += dropped * (9 * ten_minutes + minutes)
    seconds, frames = divmod(frame, rate.nominal)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    separator = ";" if dropped else ":"
    digits = len(str(max(10, rate.nominal - 1)))
    return f"{hours:02}:{minutes:02}:{seconds:02}{separator}{frames:0{digits}}"


def clock(seconds: float) -> str:
    """Return a time as ``HH:MM:SS.mmm``, for a film whose frame rate is not known or has no timecode."""
    milliseconds = round(seconds * 1000)
    whole, milliseconds = divmod(milliseconds, 1000)
    minutes, whole = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{whole:02}.{milliseconds:03}"
