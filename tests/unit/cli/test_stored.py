"""Which picture track the server takes, so that a stored video of the same content is found."""

import pytest
from sage.ingest.v1 import media_pb2
from sage_cli.films.stored import default_video_track


def media_of(*tracks: dict[str, object]) -> media_pb2.Media:
    return media_pb2.Media(
        video_track=7,
        video_tracks=[media_pb2.VideoTrack(**{"codec": "h264", "duration_seconds": 60.0, **track}) for track in tracks],
    )


SMALL, LARGE = {"width": 640, "height": 360}, {"width": 1920, "height": 1080}


@pytest.mark.parametrize(
    ("tracks", "chosen"),
    [
        ([{}], 0),
        ([SMALL, LARGE], 1),
        ([LARGE, LARGE], 0),
        ([SMALL | {"is_default": True}, LARGE], 0),
        ([SMALL | {"is_default": True}, LARGE | {"is_default": True}], 1),
        ([LARGE | {"duration_seconds": 20.0}, SMALL], 1),
        ([LARGE | {"duration_seconds": 58.0}, SMALL], 0),
        ([LARGE | {"is_cover": True}, SMALL], 1),
        ([LARGE | {"duration_seconds": 0.04, "is_default": True}, SMALL], 1),
        ([LARGE | {"codec": "unknown"}, SMALL], 1),
        ([{"duration_seconds": 0.0}, {"duration_seconds": 0.0}], 0),
        ([{"is_cover": True}], 7),
        ([], 7),
    ],
)
def test_default_track_then_the_longest_then_the_largest(tracks, chosen):
    assert default_video_track(media_of(*tracks)) == chosen
