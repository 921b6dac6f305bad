"""Timecode, which editors use to name frames. All formatting of times and frame rates is here."""

from dataclasses import dataclass
from fractions import Fraction

from google.protobuf.timestamp_pb2 import Timestamp
from sage.ingest.v1 import media_pb2

# Containers state an average, which deviates slightly from 30000/1001 if the duration of a file was rounded.
_DROP_FRAME_RATES = (Fraction(30_000, 1001), Fraction(60_000, 1001))
_TOLERANCE = Fraction(1, 200)
# 23.976 is 0.1% off 24, and editors count it as 24. A rate that is further off a whole number, such as 12.5 or the
# average of a phone's recording, would move timecode seconds away from the clock within a minute.
_MAX_DRIFT = Fraction(1, 500)


def date_and_time(timestamp: Timestamp) -> str:
    """Return a time to the minute, in UTC."""
    return timestamp.ToDatetime().strftime("%Y-%m-%d %H:%MZ")


@dataclass(frozen=True)
class FrameRate:
    """A frame rate as an exact fraction of frames per second, greater than zero."""

    frames_per_second: Fraction

    @classmethod
    def read(cls, media: media_pb2.Media) -> "FrameRate | None":
        """Return the frame rate of a video, or None if its file does not state one."""
        rate = media.frame_rate
        if rate.numerator <= 0 or rate.denominator <= 0:
            return None
        return cls(Fraction(rate.numerator, rate.denominator))

    @property
    def nominal(self) -> int:
        """Frames in one second of timecode: 24 for 23.976, 30 for 29.97."""
        return max(1, round(self.frames_per_second))

    @property
    def has_timecode(self) -> bool:
        """Whether films of this rate are counted in timecode."""
        return abs(self.frames_per_second - self.nominal) <= self.nominal * _MAX_DRIFT

    @property
    def dropped_per_minute(self) -> int:
        """Frame numbers skipped in each minute except every tenth: 2 at 29.97, 4 at 59.94, else 0."""
        for rate in _DROP_FRAME_RATES:
            if abs(self.frames_per_second - rate) < _TOLERANCE:
                return self.nominal // 15
        return 0

    def frame_at(self, seconds: float) -> int:
        """Return the number of the frame that starts nearest to a time, from 0."""
        return int(Fraction(seconds) * self.frames_per_second + Fraction(1, 2))

    def __str__(self) -> str:
        return f"{float(self.frames_per_second):.5g} fps"


def time_name(seconds: float, rate: FrameRate | None) -> str:
    """Return the timecode of a time, or clock time if the frame rate is unknown or has no timecode.

    Args:
        seconds: Time from the first frame, not negative.
        rate: The frame rate of the film.
    """
    return frame_timecode(rate.frame_at(seconds), rate) if rate and rate.has_timecode else clock(seconds)


def frame_timecode(frame: int, rate: FrameRate) -> str:
    """Return the timecode of a frame counted from 0: ``HH:MM:SS:FF``, or ``HH:MM:SS;FF`` with drop-frame.

    Drop-frame keeps timecode in step with the clock at 29.97 and 59.94 frames a second: it skips numbers, never
    pictures. Hours continue after 23.

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
    digits = len(str(max(10, rate.nominal - 1)))
    return _join(hours, minutes, seconds, frames, drop_frame=bool(dropped), digits=digits)


def start_timecode(media: media_pb2.Media) -> str:
    """Return the timecode that a file gives to its first frame; empty if it gives none."""
    if not media.HasField("start_timecode"):
        return ""
    start = media.start_timecode
    return _join(start.hours, start.minutes, start.seconds, start.frames, drop_frame=start.drop_frame)


def clock(seconds: float) -> str:
    """Return a time as ``HH:MM:SS.mmm``."""
    milliseconds = round(seconds * 1000)
    whole, milliseconds = divmod(milliseconds, 1000)
    minutes, whole = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{whole:02}.{milliseconds:03}"


def short_clock(seconds: int) -> str:
    """Return whole seconds as ``M:SS`` or ``H:MM:SS``."""
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def _join(hours: int, minutes: int, seconds: int, frames: int, *, drop_frame: bool, digits: int = 2) -> str:
    return f"{hours:02}:{minutes:02}:{seconds:02}{';' if drop_frame else ':'}{frames:0{digits}}"
