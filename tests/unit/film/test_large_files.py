"""Files that are too large to be read whole are measured from their ends and a few places between."""

import io
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

import pytest
from corpus.films import FRAGMENTED
from corpus.maker import Track, copy_film, make_film
from sage_ingest.probing.measure import measure
from sage_ingest.probing.ports import Limits
from sage_ingest.videos.model import Media

pytestmark = pytest.mark.slow

LARGE = Track(frames=200, options=(("qp", "4"), ("preset", "ultrafast")), noise=True)
MPEG_2 = replace(LARGE, codec="mpeg2video", size=(176, 144), options=(("b", "6000000"),))


def _joined(container: str, track: Track, *starts: int) -> bytes:
    return b"".join(make_film(container, replace(track, start=Fraction(start))) for start in starts)


FILMS: dict[str, Callable[[], bytes]] = {
    "mp4 in fragments": lambda: make_film("mp4", LARGE, options=FRAGMENTED),
    "matroska": lambda: make_film("matroska", LARGE),
    "matroska without index": lambda: make_film("matroska", LARGE, options=[("live", "1")]),
    "avi": lambda: make_film("avi", LARGE),
    "avi with empty slots": lambda: copy_film(make_film("mpegts", LARGE), "avi"),
    "flv": lambda: make_film("flv", LARGE),
    "mpegts": lambda: make_film("mpegts", LARGE),
    "vob": lambda: make_film("vob", MPEG_2),
    "mxf": lambda: make_film("mxf", replace(MPEG_2, size=(720, 576), frames=50)),
    "mpegts whose clock starts again": lambda: _joined("mpegts", LARGE, 10, 10),
    "mpegts whose clock jumps ahead": lambda: _joined("mpegts", LARGE, 10, 5000),
    "mpegts of parts in no order": lambda: _joined("mpegts", LARGE, 900, 10, 300, 10),
    "vob whose clock starts again": lambda: _joined("vob", MPEG_2, 10, 10),
}


@pytest.mark.parametrize("kind", FILMS)
def test_a_part_of_the_file_tells_the_same_as_all_of_it(kind: str) -> None:
    film = FILMS[kind]()

    def measured(limits: Limits) -> Media:
        return measure(io.BytesIO(film), size_bytes=len(film), limits=limits)

    whole, partly = measured(Limits()), measured(Limits(whole_bytes=0))
    assert partly.duration_seconds == pytest.approx(whole.duration_seconds, abs=1e-6)
    for name in ("start_offset_seconds", "frame_rate", "frame_rate_mode", "timestamps_jump"):
        assert getattr(partly, name) == getattr(whole, name)
