"""Which picture track is the film."""

from dataclasses import replace

import pytest
from sage_film.tracks import NoSuchTrackError, PictureTrack, choose_track

FILM = PictureTrack("h264", 1920, 1080, is_default=False, is_cover=False, duration_seconds=60.0, is_still=False)
DEFAULT = replace(FILM, is_default=True)
COVER = replace(FILM, is_cover=True, is_default=True, codec="mjpeg", duration_seconds=0.04, is_still=True)
STILL = replace(COVER, is_cover=False)
UNKNOWN = replace(DEFAULT, codec="unknown")


@pytest.mark.parametrize(
    ("tracks", "chosen"),
    [
        pytest.param([FILM], 0, id="the only one"),
        pytest.param([STILL], 0, id="a film of one frame"),
        pytest.param([COVER, FILM], 1, id="no cover"),
        pytest.param([STILL, FILM], 1, id="no still, marked or not"),
        pytest.param([replace(FILM, duration_seconds=90.0), replace(DEFAULT, width=640)], 1, id="the default one"),
        pytest.param([FILM, replace(FILM, duration_seconds=90.0, width=640)], 1, id="else the longest"),
        pytest.param([replace(FILM, width=640, duration_seconds=60.5), FILM], 1, id="else the largest"),
        pytest.param([DEFAULT, replace(DEFAULT, duration_seconds=90.0)], 1, id="the longest of several defaults"),
        pytest.param([UNKNOWN, FILM], 1, id="one that can be decoded"),
        pytest.param([FILM, FILM], 0, id="else the first"),
    ],
)
def test_the_film_is_chosen_as_players_do(tracks: list[PictureTrack], chosen: int) -> None:
    assert choose_track(tracks) == chosen


def test_the_requested_track_is_chosen_whatever_it_is() -> None:
    assert choose_track([DEFAULT, COVER], 1) == 1


@pytest.mark.parametrize(
    ("tracks", "requested", "why"),
    [
        ([FILM], 1, "it has no picture track 1: it has one, track 0"),
        ([FILM, FILM], 2, "it has no picture track 2: it has 2, counted from 0"),
        ([FILM, UNKNOWN], 1, "the codec of its picture track 1 is not supported by this server"),
        ([COVER], None, "it has no picture track"),
        ([UNKNOWN], None, "its video codec is not supported by this server"),
    ],
)
def test_there_may_be_no_such_track(tracks: list[PictureTrack], requested: int | None, why: str) -> None:
    with pytest.raises(NoSuchTrackError, match=why):
        choose_track(tracks, requested)
