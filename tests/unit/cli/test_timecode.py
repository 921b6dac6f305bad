"""Timecode against SMPTE's numbers and against plain counting."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sage.ingest.v1 import media_pb2
from sage_cli.show.timecode import FrameRate, clock, frame_timecode, short_clock, start_timecode, time_name

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
    """The numbers around dropped ones are those of SMPTE ST 12-1."""
    assert frame_timecode(frame, rate) == expected


@pytest.mark.parametrize("rate", [NTSC, NTSC_60])
def test_drop_frame_counts_on_and_skips_numbers(rate):
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
    """Without drop-frame, the parts of a timecode add up to the frame."""
    frame_rate = FrameRate(rate)
    hours, minutes, seconds, frames = map(int, frame_timecode(frame, frame_rate).split(":"))
    assert ((hours * 60 + minutes) * 60 + seconds) * frame_rate.nominal + frames == frame
    assert frames < frame_rate.nominal


@given(frame=st.integers(0, 10**8), rate=st.sampled_from([NTSC, NTSC_60]))
def test_drop_frame_timecode_can_be_read_back(frame, rate):
    """Less the dropped numbers, the parts of a timecode add up to the frame."""
    clock_part, frames = frame_timecode(frame, rate).split(";")
    hours, minutes, seconds = map(int, clock_part.split(":"))
    total_minutes = hours * 60 + minutes
    number = (total_minutes * 60 + seconds) * rate.nominal + int(frames)
    assert number - rate.dropped_per_minute * (total_minutes - total_minutes // 10) == frame


@given(frame=st.integers(0, 10**7), rate=st.one_of(RATES, st.just(NTSC.frames_per_second)))
def test_time_of_a_frame_finds_the_frame(frame, rate):
    assert FrameRate(rate).frame_at(float(frame / rate)) == frame


@given(seconds=st.floats(0, 10**6))
def test_drop_frame_stays_in_step_with_the_clock(seconds):
    """Drop-frame timecode is never more than a few frames off the elapsed time."""
    hours, minutes, rest = time_name(seconds, NTSC).split(":")
    whole, frames = rest.split(";")
    shown = int(hours) * 3600 + int(minutes) * 60 + int(whole) + int(frames) / 30
    # The standard's own error is 3.6 ms an hour, plus the numbers that are yet to be dropped.
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
    """29.97 and 59.94 drop numbers, exact or as an average; other rates do not."""
    assert bool(FrameRate(rate).dropped_per_minute) is expected


def test_rates_are_printed_as_people_write_them():
    rates = [Fraction(24), Fraction(24_000, 1001), Fraction(30_000, 1001), Fraction(60_000, 1001)]
    assert [str(FrameRate(rate)) for rate in rates] == ["24 fps", "23.976 fps", "29.97 fps", "59.94 fps"]


def test_clock_has_milliseconds_and_carries_them_over():
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
def test_only_rates_near_a_whole_number_have_timecode(rate: Fraction, has: bool) -> None:
    """Other rates would drift away from the clock."""
    assert FrameRate(rate).has_timecode is has


def test_time_without_a_timecode_is_clock_time():
    assert time_name(4.0, FILM) == "00:00:04:00"
    assert time_name(4.0, None) == time_name(4.0, FrameRate(Fraction(25, 2))) == "00:00:04.000"


def test_short_clock_omits_zero_hours():
    assert [short_clock(seconds) for seconds in (0, 65, 3600)] == ["0:00", "1:05", "1:00:00"]


def test_start_timecode_is_that_of_the_file():
    media = media_pb2.Media()
    assert start_timecode(media) == ""
    media.start_timecode.hours = 10
    media.start_timecode.frames = 2
    assert start_timecode(media) == "10:00:00:02"
    media.start_timecode.drop_frame = True
    assert start_timecode(media) == "10:00:00;02"


def test_frame_rate_that_the_file_does_not_state_is_none():
    assert FrameRate.read(media_pb2.Media()) is None
    rate = media_pb2.FrameRate(numerator=30_000, denominator=1001)
    assert FrameRate.read(media_pb2.Media(frame_rate=rate)) == NTSC
