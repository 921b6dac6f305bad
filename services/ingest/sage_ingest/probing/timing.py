"""Length, frame rate and its mode, from the times at which frames are shown."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from av.video.stream import VideoStream
from sage_film.timeline import JUMP_AHEAD_SECONDS

from sage_ingest.videos.model import FrameRateMode

_MAX_RATE = 1000
# Of two rates that FFmpeg reports, the nominal one is exact if they are this close.
_RATE_TOLERANCE = Fraction(1, 1000)
# Timestamps are rounded to the container's ticks, or were rounded to milliseconds in an earlier container.
_ROUNDING_SECONDS = Fraction(1, 1000)
# A container that states a frame's length in ticks has rounded it. Never by as much as 24 differs from 24000/1001.
_MAX_ROUNDED = Fraction(1, 10_000)
# Rates as editors name them: whole ones, their NTSC versions, halves of PAL's, and one frame every few seconds.
_NTSC_BASES = (12, 15, 24, 30, 48, 60, 72, 90, 96, 120, 144, 240)
_MAX_DENOMINATOR = 1_000_000


@dataclass(frozen=True)
class FrameTimes:
    """When frames are shown, as far as it is known.

    Attributes:
        tick: Seconds of a tick.
        ticks: When each starts, in order and without repetition.
        last_length: Ticks for which the last is shown; 0: as long as the one before it.
        is_whole: Whether these are all frames of the film.
        end: When the last frame of the film ends, in ticks, if that is known from elsewhere.
    """

    tick: Fraction
    ticks: Sequence[int]
    last_length: int
    is_whole: bool
    end: Fraction | None = None


@dataclass(frozen=True)
class Timing:
    """The film's timing.

    Attributes:
        end: When the last frame ends, in seconds on the container's clock.
        rate: Frames per second; the average if it varies.
        mode: Whether it varies.
    """

    end: Fraction
    rate: Fraction
    mode: FrameRateMode


def timing(stream: VideoStream, times: FrameTimes) -> Timing:
    """Return the timing of a film from its frames.

    If all frames are known they decide. Otherwise those at the end of the film must be evenly spaced at the rate that
    FFmpeg found at its beginning and that the container states as the average.
    """
    ticks, tick = times.ticks, times.tick
    stated = stated_rate(stream)
    even = _evenly_spaced(ticks, tick=tick)
    mode = {None: FrameRateMode.UNSPECIFIED, True: FrameRateMode.CONSTANT, False: FrameRateMode.VARIABLE}[even]
    if even and not times.is_whole:
        mode = _mode_of_the_whole(stream, times)
    if even and (times.is_whole or mode is FrameRateMode.CONSTANT):
        rate = _even_rate(ticks, tick=tick, stated=stated)
    elif times.is_whole and len(ticks) > 2:
        rate = _simple(len(ticks) / ((ticks[-1] - ticks[0] + _last_length(times, stated)) * tick))
    else:
        rate = snapped(stated, tolerance=Fraction(1, 100_000)) if stated else _rate_of_few(times)
    if mode is FrameRateMode.CONSTANT:
        last = ticks[-1] * tick + 1 / rate
        length, exact = last - ticks[0] * tick, len(ticks) / rate
        if abs(exact - length) <= 2 * max(tick, _ROUNDING_SECONDS):
            last = ticks[0] * tick + exact
    else:
        last = (ticks[-1] + _last_length(times, stated or rate)) * tick
    return Timing(max(last, (times.end or 0) * tick), rate, mode)


def stated_rate(stream: VideoStream) -> Fraction | None:
    """Return the frame rate that the file states or that FFmpeg found at its beginning."""
    average, nominal = stream.average_rate, stream.base_rate
    if average and nominal and abs(nominal - average) <= average * _RATE_TOLERANCE:
        average = nominal
    return next((rate for rate in (average, stream.guessed_rate, nominal) if rate and 0 < rate <= _MAX_RATE), None)


def snapped(rate: Fraction, *, tolerance: Fraction, wanted: Fraction | None = None) -> Fraction:
    """Return the rate as editors name it, such as 30000/1001, or the simplest fraction if it is none of theirs.

    Args:
        rate: Measured.
        tolerance: How far that may be from the film's, relative to it.
        wanted: What the file states: of several rates that are close enough, the nearest to this one.
    """
    wanted = rate if wanted is None else wanted
    whole = round(wanted)
    names = [Fraction(base * 1000, 1001) for base in _NTSC_BASES]
    names += [Fraction(number) for number in (whole - 1, whole, whole + 1) if number > 0]
    names += [Fraction(15, 2), Fraction(25, 2)]
    names += [Fraction(1, round(1 / wanted))] if wanted < 1 else []
    near = [name for name in names if abs(name - rate) <= tolerance * rate]
    if near:
        return min(near, key=lambda name: abs(name - wanted))
    return _simple(wanted if abs(wanted - rate) <= tolerance * rate else rate)


def _even_rate(ticks: Sequence[int], *, tick: Fraction, stated: Fraction | None) -> Fraction:
    steps, length = len(ticks) - 1, ticks[-1] - ticks[0]
    measured = steps / (length * tick)
    if len({following - one for one, following in itertools.pairwise(ticks)}) == 1:
        # The container states this length for each frame. It has rounded it once for all.
        return snapped(measured, tolerance=min(_MAX_ROUNDED, Fraction(steps, 2 * length)))
    # The times are rounded one by one: to ticks, or coarser if some are further off the line from first to last.
    on_line = all(abs((one - ticks[0]) * steps - index * length) <= steps for index, one in enumerate(ticks))
    rounding = tick if on_line else max(tick, _ROUNDING_SECONDS)
    tolerance = 2 * rounding / (length * tick)
    near = stated is not None and abs(stated - measured) <= tolerance * measured
    return snapped(measured, tolerance=tolerance, wanted=stated if near else None)


def _rate_of_few(times: FrameTimes) -> Fraction:
    if len(times.ticks) > 1:
        return _simple((len(times.ticks) - 1) / ((times.ticks[-1] - times.ticks[0]) * times.tick))
    return _simple(1 / (times.last_length * times.tick)) if times.last_length else Fraction(1)


def _simple(rate: Fraction) -> Fraction:
    return min(Fraction(rate).limit_denominator(_MAX_DENOMINATOR), Fraction(_MAX_RATE)) or Fraction(1, _MAX_DENOMINATOR)


def _last_length(times: FrameTimes, rate: Fraction | None) -> Fraction:
    if times.last_length:
        return Fraction(times.last_length)
    usual = 1 / (rate * times.tick) if rate else Fraction(1)
    if len(times.ticks) < 2:
        return usual
    before = Fraction(times.ticks[-1] - times.ticks[-2])
    # So long a still is a pause, or damage.
    return before if before * times.tick <= JUMP_AHEAD_SECONDS else usual


def _mode_of_the_whole(stream: VideoStream, times: FrameTimes) -> FrameRateMode:
    ticks, tick = times.ticks, times.tick
    nominal, length = stream.base_rate, ticks[-1] - ticks[0]
    if not nominal:
        return FrameRateMode.UNSPECIFIED
    at_end = (len(ticks) - 1) / (length * tick)
    agree = _same_rate(nominal, at_end, tolerance=_RATE_TOLERANCE + max(tick, _ROUNDING_SECONDS) / (length * tick))
    if stream.average_rate:
        agree = agree and _same_rate(nominal, stream.average_rate, tolerance=_RATE_TOLERANCE)
    return FrameRateMode.CONSTANT if agree else FrameRateMode.VARIABLE


def _same_rate(nominal: Fraction, rate: Fraction, *, tolerance: Fraction) -> bool:
    # The nominal rate of an interlaced picture may be that of its fields.
    return any(abs(nominal - multiple * rate) <= multiple * rate * tolerance for multiple in (1, 2))


def _evenly_spaced(ticks: Sequence[int], *, tick: Fraction) -> bool | None:
    """Return whether times are evenly spaced except for rounding; `None` if there are too few to tell."""
    steps = len(ticks) - 1
    # Frames that are all stated for one moment have no spacing.
    if steps < 2 or tick <= 0 or ticks[-1] <= ticks[0]:
        return None
    first, length = ticks[0], ticks[-1] - ticks[0]
    # Each may be off the line from the first to the last by rounding, which is less than a frame.
    allowed = min(max(Fraction(1), _ROUNDING_SECONDS / tick), Fraction(length, 4 * steps))
    # Multiplied by the number of steps, so that all are whole numbers.
    most = math.floor(allowed * steps)
    return all(abs((one - first) * steps - index * length) <= most for index, one in enumerate(ticks))
