"""Timecode against SMPTE's numbers and against plain counting."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sage_cli.timecode import FrameRate, clock, frame_timecode, timecode

NTSC = FrameRate(Fraction(30_000, 1001))
NTSC_60 = FrameRate(Fraction(60_000, 1001))
FILM = FrameRate(Fraction(24))

RATES = st.sampled_from([Fraction(24), Fraction(24_000, 1001), Fraction(25), Fraction(30), Fraction(50), Fraction(120)])


@pytest.mark.parametrize(
    ("rate", "frame", "expected"),
    [
        (FILM, 0, "00:00:00:00"),
        (FILM, 23, "00:00:00:23"),
        (FILM, 24, "00:00:01:00"),
        (FILM, 24 * 3600 * 25, "25:00:00:00"),
        (NTSC, 1799, "00:00:59;29"),
        (NTSC, 1800, "00:01:00;02"),
        (NTSC, 3597, "00:01:59;29"),
        (NTSC, 3598, "00:02:00;02"),
        (NTSC, 17_981, "00:09:59;29"),
        (NTSC, 17_982, "00:10:00;00"),
        (NTSC, 107_892, "01:00:00;00"),
        (NTSC_60, 3599, "00:00:59;59"),
        (NTSC_60, 3600, "00:01:00;04"),
        (NTSC_60, 35_964, "00:10:00;00"),
        (NTSC_60, 215_784, "01:00:00;00"),
        (FrameRate(Fraction(120)), 119, "00:00:00:119"),
    ],
)
def test_known_frames_have_their_timecode(rate, frame, expected):
    """Frames around the dropped numbers have the names that SMPTE ST 12-1 gives them."""
    assert frame_timecode(frame, rate) == expected


@pytest.mark.parametrize("rate", [NTSC, NTSC_60])
def test_drop_frame_is_counting_with_numbers_left_out(rate):
    """Over half an hour, every frame has the next number that is not dropped."""
    dropped = rate.dropped_per_minute
    expected = [
        f"00:{minute:02}:{second:02};{frame:02}"
        for minute in range(30)
        for second in range(60)
        for frame in range(rate.nominal)
        if not (second == 0 and frame < dropped and minute % 10)
    ]
    assert [frame_timecode(frame, rate) for frame in range(len(expected))] == expected


@given(frame=st.integers(0, 10**8), rate=RATES)
def test_timecode_can_be_read_back(frame, rate):
    """Where no number is dropped, the parts of a timecode add up to the frame."""
    frame_rate = FrameRate(rate)
    hours, minutes, seconds, frames = map(int, frame_timecode(frame, frame_rate).split(":"))
    assert ((hours * 60 + minutes) * 60 + seconds) * frame_rate.nominal + frames == frame
    assert frames < frame_rate.nominal


@given(frame=st.integers(0, 10**8), rate=st.sampled_from([NTSC, NTSC_60]))
def test_drop_frame_timecode_can_be_read_back(frame, rate):
    """With the dropped numbers taken off again, the parts of a timecode add up to the frame."""
    clock_part, frames = frame_timecode(frame, rate).split(";")
    hours, minutes, seconds = map(int, clock_part.split(":"))
    total_minutes = hours * 60 + minutes
    number = (total_minutes * 60 + seconds) * rate.nominal + int(frames)
    assert number - rate.dropped_per_minute * (total_minutes - total_minutes // 10) == frame


@given(frame=st.integers(0, 10**7), rate=st.one_of(RATES, st.just(NTSC.frames_per_second)))
def test_time_of_a_frame_finds_the_frame(frame, rate):
    """The time at which a frame starts, as a double, leads back to that frame."""
    assert FrameRate(rate).frame_at(float(frame / rate)) == frame


@given(seconds=st.floats(0, 10**6))
def test_drop_frame_stays_beside_the_clock(seconds):
    """Drop-frame timecode is never more than a few frames away from the time that has passed."""
    hours, minutes, rest = timecode(seconds, NTSC).split(":")
    whole, frames = rest.split(";")
    shown = int(hours) * 3600 + int(minutes) * 60 + int(whole) + int(frames) / 30
    # The standard's own error is 3.6 ms an hour, besides the numbers that are yet to be dropped.
    assert abs(shown - seconds) < 0.12 + 1.1e-6 * seconds


@pytest.mark.parametrize(
    ("rate", "expected"),
    [
        (Fraction(30_000, 1001), True),
        (Fraction(2997, 100), True),
        (Fraction(5994, 100), True),
        (Fraction(30), False),
        (Fraction(24_000, 1001), False),
        (Fraction(120_000, 1001), False),
    ],
)
def test_only_ntsc_drops_frames(rate, expected):
    """29.97 and 59.94, exact or as an average, drop numbers; nothing else does."""
    assert bool(FrameRate(rate).dropped_per_minute) is expected


def test_rates_read_like_people_write_them():
    """A frame rate is shown with the digits that it is known by."""
    rates = [Fraction(24), Fraction(24_000, 1001), Fraction(30_000, 1001), Fraction(60_000, 1001)]
    assert [str(FrameRate(rate)) for rate in rates] == ["24 fps", "23.976 fps", "29.97 fps", "59.94 fps"]


def test_clock_has_milliseconds():
    """Without a frame rate, a time has milliseconds and carries them over."""
    assert [clock(0), clock(61.5), clock(3599.9996)] == ["00:00:00.000", "00:01:01.500", "01:00:00.000"]


@pytest.mark.parametrize(
    ("rate", "has"),
    [
        (Fraction(24_000, 1001), True),
        (Fraction(60_000, 1001), True),
        (Fraction(25), True),
        (Fraction(25, 2), False),
        (Fraction(294, 10), False),
    ],
)
def test_only_rates_that_keep_to_the_clock_have_timecode(rate: Fraction, has: bool) -> None:
    """Rates near a whole number are counted in timecode; others would run away from the clock."""
    assert FrameRate(rate).has_timecode is has
