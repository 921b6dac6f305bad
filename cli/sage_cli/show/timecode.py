"""Timecode, which editors use to name frames. All formatting of times and frame rates is here."""

from dataclasses import dataclass
from fractions import Fraction

from google.protobuf.timestamp_pb2 import Timestamp
from sage.compare.v1 import compare_pb2
from sage.ingest.v1 import media_pb2

# Editors count 23.976 as 24 and 29.97 as 30. A rate this close to such a rate is that rate, stated as an average.
_NTSC = Fraction(1000, 1001)
_MAX_DEVIATION = Fraction(1, 2000)
# If it is unknown whether frame times vary, only a rate that is hardly the average of varying ones will do.
_MAX_UNSURE_DEVIATION = Fraction(1, 100_000)


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

    def frame_at(self, seconds: float) -> int:
        """Return the number of the frame that starts nearest to a time, from 0."""
        return int(Fraction(seconds) * self.frames_per_second + Fraction(1, 2))

    def is_counted_in_timecode(self, mode: media_pb2.FrameRateMode.ValueType) -> bool:
        """Return whether films of this rate have timecode. If frame times vary, it would move away from the clock."""
        if mode == media_pb2.FRAME_RATE_MODE_VARIABLE:
            return False
        known = mode == media_pb2.FRAME_RATE_MODE_CONSTANT
        allowed = _MAX_DEVIATION if known else _MAX_UNSURE_DEVIATION
        standard = (Fraction(self.nominal), self.nominal * _NTSC)
        return any(abs(self.frames_per_second - rate) <= rate * allowed for rate in standard)

    def __str__(self) -> str:
        return f"{float(self.frames_per_second):.5g} fps"


@dataclass(frozen=True)
class TimeNames:
    """Names the times of one film: in timecode, or in clock time from 0 if its frames have no timecode.

    Attributes:
        rate: The rate at which frames are counted. None for clock time.
        start_frame: Timecode of the first frame, as the number of frames since midnight.
        drop_frame: Whether numbers are dropped. Only the file says so: films at 29.97 exist with and without.
    """

    rate: FrameRate | None
    start_frame: int = 0
    drop_frame: bool = False

    @classmethod
    def read(cls, media: media_pb2.Media, *, from_zero: bool = False) -> "TimeNames":
        """Return the names for a film.

        Args:
            media: What its file holds.
            from_zero: Whether the first frame is 00:00:00:00 whatever its timecode in the file.
        """
        rate = FrameRate.read(media)
        if rate is None or not rate.is_counted_in_timecode(media.frame_rate_mode):
            return cls(None)
        start = media.start_timecode
        drop_frame = start.drop_frame and rate.nominal % 30 == 0
        if from_zero:
            return cls(rate, 0, drop_frame)
        minutes = start.hours * 60 + start.minutes
        frame = (minutes * 60 + start.seconds) * rate.nominal + start.frames
        if drop_frame:
            frame -= _dropped_per_minute(rate.nominal) * (minutes - minutes // 10)
        return cls(rate, frame, drop_frame)

    def at(self, seconds: float) -> str:
        """Return the name of a time, in seconds from the first frame."""
        return clock(seconds) if self.rate is None else self._position(self.rate.frame_at(seconds))

    def ends_of(self, where: compare_pb2.FrameRange) -> tuple[str, str]:
        """Return the names of a range's first frame and of the frame after its last."""
        if self.rate is None:
            return clock(where.start_seconds), clock(where.end_seconds)
        return self._position(where.first_frame), self._position(where.end_frame)

    def length(self, seconds: float) -> str:
        """Return a length, which counts from 0. Its hours continue after 23."""
        return clock(seconds) if self.rate is None else self._timecode(self.rate.frame_at(seconds))

    @property
    def start(self) -> str:
        """The timecode of the first frame; empty if times are counted from 0."""
        return self._position(0) if self.start_frame else ""

    def _position(self, frame: int) -> str:
        return self._timecode((self.start_frame + frame) % self._frames_per_day)

    def _timecode(self, frame: int) -> str:
        return frame_timecode(frame, self._nominal, drop_frame=self.drop_frame)

    @property
    def _frames_per_day(self) -> int:
        return 24 * 6 * _frames_per_ten_minutes(self._nominal, drop_frame=self.drop_frame)

    @property
    def _nominal(self) -> int:
        return self.rate.nominal if self.rate else 1


def frame_timecode(frame: int, nominal: int, *, drop_frame: bool = False) -> str:
    """Return the timecode of a frame counted from 0: ``HH:MM:SS:FF``, or ``HH:MM:SS;FF`` with drop-frame.

    Drop-frame keeps timecode in step with the clock at 29.97 and 59.94 frames a second: it skips numbers, never
    pictures. Hours continue after 23.

    Args:
        frame: The frame.
        nominal: Frames in one second of timecode.
        drop_frame: Whether the first 2 numbers (4 at 59.94) of each minute are skipped, except every tenth minute.

    Source: SMPTE ST 12-1, 5.2.
    """
    if drop_frame:
        dropped = _dropped_per_minute(nominal)
        ten_minutes, rest = divmod(frame, _frames_per_ten_minutes(nominal, drop_frame=True))
        # The first of ten minutes drops nothing, so it is longer than the nine after it.
        minutes = max(0, rest - dropped) // (nominal * 60 - dropped)
        frame += dropped * (9 * ten_minutes + minutes)
    seconds, frames = divmod(frame, nominal)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    digits = len(str(max(10, nominal - 1)))
    return f"{hours:02}:{minutes:02}:{seconds:02}{';' if drop_frame else ':'}{frames:0{digits}}"


def _dropped_per_minute(nominal: int) -> int:
    return nominal // 15


def _frames_per_ten_minutes(nominal: int, *, drop_frame: bool) -> int:
    return nominal * 600 - (9 * _dropped_per_minute(nominal) if drop_frame else 0)


def start_timecode(media: media_pb2.Media) -> str:
    """Return the timecode that a file gives to its first frame; empty if it gives none."""
    if not media.HasField("start_timecode"):
        return ""
    start = media.start_timecode
    separator = ";" if start.drop_frame else ":"
    return f"{start.hours:02}:{start.minutes:02}:{start.seconds:02}{separator}{start.frames:02}"


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
