"""Timecode against SMPTE's numbers and against plain counting."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sage.compare.v1 import compare_pb2
from sage.ingest.v1 import media_pb2
from sage_cli.show.timecode import FrameRate, TimeNames, clock, frame_timecode, short_clock, start_timecode

NTSC = Fraction(30_000, 1001)
CONSTANT = media_pb2.FRAME_RATE_MODE_CONSTANT
VARIABLE = media_pb2.FRAME_RATE_MODE_VARIABLE

RATES = st.sampled_from([Fraction(24), Fraction(24_000, 1001), Fraction(25), Fraction(30), Fraction(50), Fraction(120)])


def media_of(
    rate: Fraction | None,
    *,
    mode: media_pb2.FrameRateMode.ValueType = CONSTANT,
    start: tuple[int, int, int, int] | None = None,
    drop_frame: bool = False,
) -> media_pb2.Media:
    """Return what the file of a film holds."""
    media = media_pb2.Media(frame_rate_mode=mode)
    if rate:
        media.frame_rate.numerator, media.frame_rate.denominator = rate.as_integer_ratio()
    if start:
        hours, minutes, seconds, frames = start
        timecode = media_pb2.Timecode(
            hours=hours, minutes=minutes, seconds=seconds, frames=frames, drop_frame=drop_frame
        )
        media.start_timecode.CopyFrom(timecode)
    return media


@pytest.mark.parametrize(
    ("nominal", "frame", "expected"),
    [
        (24, 0, "00:00:00:00"),
        (24, 23, "00:00:00:23"),
        (24, 24, "00:00:01:00"),
        (24, 24 * 3600 * 25, "25:00:00:00"),
        (30, 1800, "00:01:00:00"),
        (120, 119, "00:00:00:119"),
    ],
)
def test_known_frames_have_their_timecode(nominal, frame, expected):
    assert frame_timecode(frame, nominal) == expected


@pytest.mark.parametrize(
    ("nominal", "frame", "expected"),
    [
        (30, 1799, "00:00:59;29"),
        (30, 1800, "00:01:00;02"),
        (30, 3597, "00:01:59;29"),
        (30, 3598, "00:02:00;02"),
        (30, 17_981, "00:09:59;29"),
        (30, 17_982, "00:10:00;00"),
        (30, 107_892, "01:00:00;00"),
        (60, 3599, "00:00:59;59"),
        (60, 3600, "00:01:00;04"),
        (60, 35_964, "00:10:00;00"),
        (60, 215_784, "01:00:00;00"),
    ],
)
def test_known_frames_have_their_drop_frame_timecode(nominal, frame, expected):
    """The numbers around dropped ones are those of SMPTE ST 12-1."""
    assert frame_timecode(frame, nominal, drop_frame=True) == expected


@pytest.mark.parametrize(("nominal", "dropped"), [(30, 2), (60, 4)])
def test_drop_frame_counts_on_and_skips_numbers(nominal, dropped):
    """Over half an hour, every frame has the next number that is not dropped."""
    expected = [
        f"00:{minute:02}:{second:02};{frame:02}"
        for minute in range(30)
        for second in range(60)
        for frame in range(nominal)
        if not (second == 0 and frame < dropped and minute % 10)
    ]
    assert [frame_timecode(frame, nominal, drop_frame=True) for frame in range(len(expected))] == expected


@given(frame=st.integers(0, 10**8), nominal=st.sampled_from([24, 25, 30, 50, 120]))
def test_timecode_can_be_read_back(frame, nominal):
    """Without drop-frame, the parts of a timecode add up to the frame."""
    hours, minutes, seconds, frames = map(int, frame_timecode(frame, nominal).split(":"))
    assert ((hours * 60 + minutes) * 60 + seconds) * nominal + frames == frame
    assert frames < nominal


@given(frame=st.integers(0, 10**8), drop=st.sampled_from([(30, 2), (60, 4)]))
def test_drop_frame_timecode_can_be_read_back(frame, drop):
    """Less the dropped numbers, the parts of a timecode add up to the frame."""
    nominal, dropped = drop
    clock_part, frames = frame_timecode(frame, nominal, drop_frame=True).split(";")
    hours, minutes, seconds = map(int, clock_part.split(":"))
    total_minutes = hours * 60 + minutes
    number = (total_minutes * 60 + seconds) * nominal + int(frames)
    assert number - dropped * (total_minutes - total_minutes // 10) == frame


@given(frame=st.integers(0, 10**7), rate=st.one_of(RATES, st.just(NTSC)))
def test_time_of_a_frame_finds_the_frame(frame, rate):
    assert FrameRate(rate).frame_at(float(frame / rate)) == frame


@given(seconds=st.floats(0, 80_000))
def test_drop_frame_stays_in_step_with_the_clock(seconds):
    """Drop-frame timecode is never more than a few frames off the elapsed time."""
    names = TimeNames.read(media_of(NTSC, start=(0, 0, 0, 0), drop_frame=True))
    hours, minutes, rest = names.at(seconds).split(":")
    whole, frames = rest.split(";")
    shown = int(hours) * 3600 + int(minutes) * 60 + int(whole) + int(frames) / 30
    # The standard's own error is 3.6 ms an hour, plus the numbers that are yet to be dropped.
    assert abs(shown - seconds) < 0.12 + 1.1e-6 * seconds


@pytest.mark.parametrize(
    ("rate", "start", "drop_frame", "seconds", "expected"),
    [
        (Fraction(25), (10, 0, 0, 0), False, 4.0, "10:00:04:00"),
        (Fraction(24_000, 1001), (1, 0, 0, 12), False, 1.001, "01:00:01:12"),
        (NTSC, (1, 0, 0, 0), False, 60.06, "01:01:00:00"),
        (NTSC, (1, 0, 0, 0), True, 60.06, "01:01:00;02"),
        (NTSC, (0, 59, 59, 29), True, 1001 / 30_000, "01:00:00;00"),
        (Fraction(60_000, 1001), (1, 1, 0, 4), True, 0.0, "01:01:00;04"),
    ],
)
def test_times_start_at_the_timecode_of_the_file(rate, start, drop_frame, seconds, expected):
    """Numbers are dropped only if the file says so."""
    assert TimeNames.read(media_of(rate, start=start, drop_frame=drop_frame)).at(seconds) == expected


@pytest.mark.parametrize("drop_frame", [False, True])
def test_times_from_zero_ignore_the_timecode_of_the_file_but_not_how_it_counts(drop_frame):
    media = media_of(NTSC, start=(10, 0, 0, 0), drop_frame=drop_frame)
    assert TimeNames.read(media, from_zero=True).at(60.06) == ("00:01:00;02" if drop_frame else "00:01:00:00")


@pytest.mark.parametrize("rate", [Fraction(24_000, 1001), NTSC, Fraction(60_000, 1001), Fraction(2997, 100)])
def test_file_without_a_timecode_drops_no_numbers(rate):
    assert ";" not in TimeNames.read(media_of(rate)).at(100.0)


def test_drop_frame_at_a_rate_that_has_none_is_ignored():
    assert TimeNames.read(media_of(Fraction(25), start=(1, 0, 0, 0), drop_frame=True)).at(0.0) == "01:00:00:00"


@pytest.mark.parametrize(
    ("rate", "start", "drop_frame", "seconds", "expected"),
    [
        (Fraction(25), (23, 59, 59, 0), False, 2.0, "00:00:01:00"),
        (NTSC, (23, 59, 59, 29), True, 1001 / 30_000, "00:00:00;00"),
        (NTSC, (23, 59, 59, 29), False, 1001 / 30_000, "00:00:00:00"),
    ],
)
def test_timecode_starts_again_after_24_hours(rate, start, drop_frame, seconds, expected):
    assert TimeNames.read(media_of(rate, start=start, drop_frame=drop_frame)).at(seconds) == expected


def test_length_counts_from_zero_and_does_not_start_again():
    names = TimeNames.read(media_of(Fraction(25), start=(23, 0, 0, 0)))
    assert names.length(25 * 3600) == "25:00:00:00"
    assert names.start == "23:00:00:00"
    assert TimeNames.read(media_of(Fraction(25))).start == ""


def test_range_is_named_by_its_frames():
    where = compare_pb2.FrameRange(first_frame=25, end_frame=50, start_seconds=1.0, end_seconds=2.0)
    names = TimeNames.read(media_of(Fraction(25), start=(10, 0, 0, 0)))
    assert names.ends_of(where) == ("10:00:01:00", "10:00:02:00")
    assert TimeNames.read(media_of(None, start=(10, 0, 0, 0))).ends_of(where) == ("00:00:01.000", "00:00:02.000")


def test_rates_are_printed_as_people_write_them():
    rates = [Fraction(24), Fraction(24_000, 1001), NTSC, Fraction(60_000, 1001)]
    assert [str(FrameRate(rate)) for rate in rates] == ["24 fps", "23.976 fps", "29.97 fps", "59.94 fps"]


def test_clock_has_milliseconds_and_carries_them_over():
    assert [clock(0), clock(61.5), clock(3599.9996)] == ["00:00:00.000", "00:01:01.500", "01:00:00.000"]


@pytest.mark.parametrize(
    ("rate", "mode", "has"),
    [
        (Fraction(24_000, 1001), CONSTANT, True),
        (Fraction(60_000, 1001), CONSTANT, True),
        (Fraction(19_001, 317), CONSTANT, True),
        (Fraction(25), CONSTANT, True),
        (Fraction(25, 2), CONSTANT, False),
        (Fraction(294, 10), CONSTANT, False),
        (Fraction(25), VARIABLE, False),
        (Fraction(2995, 100), VARIABLE, False),
        (Fraction(25), media_pb2.FRAME_RATE_MODE_UNSPECIFIED, True),
        (NTSC, media_pb2.FRAME_RATE_MODE_UNSPECIFIED, True),
        (Fraction(2999, 100), media_pb2.FRAME_RATE_MODE_UNSPECIFIED, False),
    ],
)
def test_only_constant_rates_near_those_of_editors_have_timecode(rate, mode, has):
    """Others move away from the clock: an average of 29.95 by a second in ten minutes. They have clock time."""
    assert (TimeNames.read(media_of(rate, mode=mode)).at(4.0) != "00:00:04.000") is has


def test_time_without_a_frame_rate_is_clock_time():
    assert TimeNames.read(media_of(None)).at(4.0) == "00:00:04.000"
    assert TimeNames.read(media_of(None)).length(4.0) == "00:00:04.000"


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
    assert FrameRate.read(media_pb2.Media(frame_rate=rate)) == FrameRate(NTSC)
