"""Counting frames."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sage_compare.inputs.embedding import FrameClock

RATES = [Fraction(24), Fraction(25), Fraction(30000, 1001), Fraction(60)]
HOUR = 3600


@pytest.mark.parametrize("rate", RATES)
def test_start_of_a_frame_is_that_frame_throughout_a_film(rate):
    count = int(2 * HOUR * rate)
    clock = FrameClock(float(count / rate), rate)
    assert clock.count == count
    for frame in range(0, count, 97):
        exact = float(frame / rate)
        assert clock.frame_at(exact) == frame
        # As Matroska stores it: rounded to milliseconds, or cut off.
        assert clock.frame_at(round(exact, 3)) == frame
        assert clock.frame_at(int(frame * 1000 / rate) / 1000) == frame


@pytest.mark.parametrize("rate", RATES)
def test_time_within_a_frame_is_that_frame(rate):
    clock = FrameClock(100.0, rate)
    for frame in (0, 1, 47, 500):
        assert clock.frame_at(float((frame + Fraction(1, 2)) / rate)) == frame
        assert clock.frame_at(float((frame + Fraction(9, 10)) / rate)) == frame


@pytest.mark.parametrize(
    ("rate", "first", "end"),
    [(Fraction(24), 48, 96), (Fraction(25), 50, 100), (Fraction(30000, 1001), 59, 119), (Fraction(60), 120, 240)],
)
def test_segment_from_2_to_4_seconds(rate, first, end):
    clock = FrameClock(60.0, rate)
    assert (clock.frame_at(2.0), clock.frame_at(4.0)) == (first, end)


@pytest.mark.parametrize("rate", RATES)
def test_end_of_the_film_is_the_number_of_frames(rate):
    for count in (1, 239, 240, 241):
        clock = FrameClock(float(count / rate), rate)
        assert clock.frame_at(clock.duration) == count
        assert clock.frame_at(clock.duration + 0.5) == count
        assert clock.frame_at(round(clock.duration, 3)) == count


@pytest.mark.parametrize(
    ("duration", "stated", "count"),
    [
        pytest.param(10.02, None, 240, id="nearest if none is stated"),
        pytest.param(10.02, 240, 240, id="stated"),
        pytest.param(10.02, 241, 241, id="stated, the other way"),
        pytest.param(10.0, 300, 240, id="stated with frames that an edit list cuts off"),
        pytest.param(10.0, 0, 240, id="stated as zero"),
    ],
)
def test_stated_count_decides_how_the_last_frame_rounds(duration, stated, count):
    clock = FrameClock(duration, Fraction(24), stated_count=stated)
    assert (clock.count, clock.frame_at(duration)) == (count, count)


def test_frames_are_0_if_the_rate_is_unknown():
    clock = FrameClock(10.0, None, stated_count=240)
    assert (clock.count, clock.frame_at(0.0), clock.frame_at(5.0), clock.frame_at(10.0)) == (0, 0, 0, 0)


def test_start_of_a_frame_is_that_frame_at_very_high_rates():
    clock = FrameClock(1.0, Fraction(2000))
    assert [clock.frame_at(frame / 2000) for frame in range(1990)] == list(range(1990))


@given(
    st.sampled_from([*RATES, Fraction(24000, 1001), Fraction(120), Fraction(1, 2)]),
    st.floats(0.0, 10 * HOUR),
    st.one_of(st.none(), st.integers(0, 10**6)),
    st.lists(st.floats(0.0, 10 * HOUR), min_size=2, max_size=20),
)
def test_frames_never_decrease_with_time_and_stay_within_the_film(rate, duration, stated, moments):
    clock = FrameClock(duration, rate, stated_count=stated)
    frames = [clock.frame_at(moment) for moment in sorted(moments)]
    assert frames == sorted(frames)
    assert all(0 <= frame <= clock.count for frame in frames)
