"""Damaged files end in a description that the decoder agrees with, or are refused in words.

A damaged film may be shorter than it was: what is lost is not there. It is longer only by frames that are there twice.
"""

import io

import pytest
from corpus.films import CONTAINERS, Film
from corpus.maker import mutated
from sage_embed.engines.local.frames import ClipGrid, End, read_samples
from sage_film.frames import FrameDecoder, UndecodableError
from sage_ingest.probing.measure import measure
from sage_ingest.probing.ports import UnreadableError

pytestmark = pytest.mark.slow

MUTATIONS = 10
# Length of picture that may be lost to decoding errors.
LOST_SECONDS = 1.0


@pytest.mark.parametrize("film", CONTAINERS, ids=lambda film: film.name)
def test_a_damaged_film_is_described_as_it_decodes_or_refused(film: Film) -> None:
    for seed in range(MUTATIONS):
        content = mutated(film.content, seed)
        try:
            media = measure(io.BytesIO(content), size_bytes=len(content))
        except UnreadableError:
            continue
        assert 0 < media.duration_seconds <= 172_800
        reader = FrameDecoder(
            io.BytesIO(content),
            start_offset_seconds=media.start_offset_seconds,
            threads=1,
            video_track=media.video_track,
            timestamps_jump=media.timestamps_jump,
        )
        # A wrong time may make a film of hours of which a frame is shown for most.
        grid = ClipGrid(media.duration_seconds, max(2.0, media.duration_seconds / 100))
        try:
            *_, end = read_samples(reader, grid, first_clip=0)
        except UndecodableError:
            continue
        assert isinstance(end, End)
        assert media.duration_seconds - LOST_SECONDS - 0.1 <= end.at_seconds <= media.duration_seconds, seed
        longer_s = media.duration_seconds - film.seconds - LOST_SECONDS
        if longer_s > 0:
            doubled = sum(1 for _ in reader.frames(end_seconds=grid.duration_seconds)) - film.frames
            assert longer_s <= doubled / film.rate, seed
