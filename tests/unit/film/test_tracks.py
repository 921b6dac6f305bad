"""Which picture track is the film."""

import io
from dataclasses import replace

import av
import numpy as np
import pytest
from av.stream import Disposition
from sage_film.tracks import NoSuchTrackError, PictureTrack, choose_track, sound_track

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


@pytest.mark.parametrize(("default", "chosen"), [(None, 0), (0, 0), (1, 1)])
def test_the_default_sound_is_chosen_or_the_first(default: int | None, chosen: int) -> None:
    film = io.BytesIO()
    with av.open(film, "w", format="matroska") as out:
        tracks = [out.add_stream("pcm_s16le", rate=8000, layout="mono") for _ in range(2)]
        for index, track in enumerate(tracks):
            track.disposition = Disposition.default if index == default else Disposition(0)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        for track in tracks:
            out.mux(track.encode(frame))
    with av.open(io.BytesIO(film.getvalue())) as opened:
        found = sound_track(opened)
        assert found is not None
        assert found.index == chosen


def test_a_film_without_sound_has_no_track_of_it() -> None:
    film = io.BytesIO()
    with av.open(film, "w", format="matroska") as out:
        stream = out.add_stream("mpeg4", rate=25)
        stream.width = stream.height = 32
        out.mux(stream.encode(av.VideoFrame(32, 32, "yuv420p")))
        out.mux(stream.encode(None))
    with av.open(io.BytesIO(film.getvalue())) as opened:
        assert sound_track(opened) is None
