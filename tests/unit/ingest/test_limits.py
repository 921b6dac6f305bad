"""Films that are too large are refused, and those that are just not are accepted."""

import io

import pytest
from corpus.maker import Track, make_film
from sage_ingest.probing.measure import measure
from sage_ingest.probing.ports import Limits, UnreadableError
from sage_ingest.videos.model import Media

DAY = 24 * 3600


def _measured(film: bytes, limits: Limits) -> Media:
    return measure(io.BytesIO(film), size_bytes=len(film), limits=limits)


def _film_of(seconds: int) -> bytes:
    return make_film("matroska", Track(times=(0, 0.04, seconds - 0.04)))


@pytest.mark.parametrize(
    ("most", "too_few", "why"),
    [
        (Limits(max_pixels=128 * 64), Limits(max_pixels=128 * 64 - 1), "128 x 64 pixels|more than 8,191 pixels"),
        (Limits(max_frames=50), Limits(max_frames=49), "it has more than 49 frames"),
        (Limits(max_duration_s=2.0), Limits(max_duration_s=1.999), "it is 2 s long, and at most 2 s"),
        (Limits(max_decoded_bytes=2**20), Limits(max_decoded_bytes=500_000), r"decoding it makes \d{3},\d{3} bytes"),
    ],
    ids=["pixels", "frames", "seconds", "bytes"],
)
@pytest.mark.parametrize("container", ["mp4", "mpegts", "flv"])
def test_a_film_may_be_as_large_as_a_limit(container: str, most: Limits, too_few: Limits, why: str) -> None:
    film = make_film(container, Track(size=(128, 64)))
    assert _measured(film, most).frame_count == 50
    with pytest.raises(UnreadableError, match=why):
        _measured(film, too_few)


def test_the_longest_film_is_two_days() -> None:
    assert _measured(_film_of(2 * DAY - 1), Limits()).duration_seconds == pytest.approx(2 * DAY - 1)
    with pytest.raises(UnreadableError, match="it is 172,801 s long, and at most 172,800 s are accepted"):
        _measured(_film_of(2 * DAY + 1), Limits())


def test_a_day_may_be_the_longest() -> None:
    """As `SAGE_MAX_DURATION_SECONDS` sets it."""
    limits = Limits(max_duration_s=DAY)
    assert _measured(_film_of(DAY - 1), limits).duration_seconds == pytest.approx(DAY - 1)
    with pytest.raises(UnreadableError, match="it is 86,401 s long, and at most 86,400 s are accepted"):
        _measured(_film_of(DAY + 1), limits)
