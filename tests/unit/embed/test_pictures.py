"""The picture that the local engine's network is given, and films that only it can embed."""

import io
from dataclasses import replace

import av
import numpy as np
import pytest
from corpus.maker import Track, make_film
from sage.ingest.v1 import media_pb2
from sage_embed.embeddings.model import LOCAL_PROVIDER, Picture, Video
from sage_embed.embeddings.pictures import picture_of
from sage_embed.engines.engine import ModelInfo, check_limits
from sage_embed.engines.local.pictures import PictureConverter
from sage_runtime.errors import Reason, SageError

MODEL = ModelInfo("marengo", "1", "twelvelabs", 512, ("visual",), 2.0, 10.0)
VIDEO = Video("video_1", duration_seconds=9.0, start_offset_seconds=0.0)


def _converted(matrix: tuple[int, ...]) -> np.ndarray:
    with av.open(io.BytesIO(make_film("mp4", Track(frames=1, size=(64, 64), matrix=matrix)))) as film:
        return PictureConverter().convert(next(film.decode(video=0))).astype(int)


@pytest.mark.parametrize(
    ("matrix", "displayed"),
    [
        ((0, 1, -1, 0), lambda picture: np.rot90(picture, -1)),
        ((-1, 0, 0, -1), lambda picture: np.rot90(picture, 2)),
        ((0, -1, 1, 0), lambda picture: np.rot90(picture, 1)),
        ((-1, 0, 0, 1), lambda picture: picture[:, ::-1]),
        ((1, 0, 0, -1), lambda picture: picture[::-1]),
        ((0, -1, -1, 0), lambda picture: np.rot90(picture[:, ::-1], -1)),
        ((0, 1, 1, 0), lambda picture: picture.swapaxes(0, 1)),
    ],
)
def test_the_network_sees_the_displayed_picture(matrix, displayed) -> None:
    stored = _converted(())
    # The bright bar is at the left.
    assert stored[:, :20].mean() > stored[:, 40:].mean() + 20
    assert np.array_equal(_converted(matrix), displayed(stored))


def _media(*tracks: media_pb2.VideoTrack, chosen: int = 0) -> media_pb2.Media:
    return media_pb2.Media(video_tracks=tracks, video_track=chosen, timestamps_jump=True)


FILM = media_pb2.VideoTrack(codec="h264", width=96, height=64, duration_seconds=2.0)


def test_the_picture_is_known_from_the_description_of_the_video() -> None:
    assert picture_of(_media(FILM, FILM)) == Picture(0, is_default=True, timestamps_jump=True)
    assert picture_of(_media(FILM, FILM, chosen=1)) == Picture(1, is_default=False, timestamps_jump=True)


def test_a_video_that_was_described_earlier_has_no_known_track() -> None:
    assert picture_of(media_pb2.Media()) == Picture(None, is_default=True, timestamps_jump=False)


def test_a_provider_cannot_be_told_which_track_to_use() -> None:
    chosen = replace(VIDEO, picture=Picture(1, is_default=False))
    check_limits(VIDEO, MODEL)
    check_limits(chosen, replace(MODEL, provider=LOCAL_PROVIDER))
    with pytest.raises(SageError) as raised:
        check_limits(chosen, MODEL)
    assert raised.value.reason is Reason.PROVIDER_REJECTED_VIDEO
    assert "picture track 1" in str(raised.value.facts["why"])
    assert "Use model local instead" in str(raised.value.facts["why"])
