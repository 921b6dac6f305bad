"""Stills of local films: the right frame, upright."""

import io

import av
import numpy as np
import pytest
from sage.ingest.v1 import media_pb2
from sage_cli.films.stills import read_stills
from sage_cli.show.images import Picture
from support.moving_films import moving_film, picture

SIZE = (160, 96)


def media_of(film: bytes) -> media_pb2.Media:
    with av.open(io.BytesIO(film)) as container:
        stream = container.streams.video[0]
        first = next(container.decode(stream))
        return media_pb2.Media(duration_seconds=9, start_offset_seconds=float(first.pts * stream.time_base))


def shown(still: Picture) -> np.ndarray:
    return np.frombuffer(still.rgb, np.uint8).reshape(still.height, still.width, 3).astype(int)


@pytest.mark.parametrize(
    "options",
    [{}, {"container": "mpegts", "start_seconds": 7.0}, {"quarter_turns": 1}, {"quarter_turns": 3}],
    ids=["mp4", "late", "turned", "turned back"],
)
def test_still_is_the_frame_that_is_shown_then(tmp_path, options):
    film = moving_film(9.0, **options)
    path = tmp_path / "film"
    path.write_bytes(film)
    frames = (0, 47, 48, 130, 215)
    # The middle of each frame; the last time is after the end.
    times = [(frame + 0.5) / 24 for frame in frames]
    stills = read_stills(path, media_of(film), times, size=SIZE)
    assert list(stills) == times
    for frame, time in zip(frames, times, strict=True):
        errors = [np.abs(shown(stills[time]) - picture(near / 24)).mean() for near in range(frame - 2, frame + 3)]
        assert np.argmin(errors) == 2, (frame, errors)
        assert errors[2] < 12


def test_film_that_cannot_be_decoded_has_no_stills(tmp_path):
    path = tmp_path / "film.mp4"
    path.write_bytes(b"no film" * 1000)
    assert read_stills(path, media_pb2.Media(), [0.5], size=SIZE) == {}
