"""The confined processes measure and decode what this process does: nothing that they need is forbidden to them."""

import contextlib
import io
import re

import pytest
from corpus.films import CONTAINERS, Film
from corpus.maker import mutated
from fakes.ingest import BytesSource
from sage_embed.config import LocalSettings
from sage_embed.engines.local.decoder import Decoder
from sage_embed.engines.local.engine import LocalEngine
from sage_embed.engines.local.frames import End
from sage_ingest.probing.measure import measure
from sage_ingest.probing.ports import UnreadableError
from sage_ingest.probing.prober import PyAVProber
from sage_ingest.videos.model import Media
from sage_runtime.errors import SageError
from support.uploads_in_memory import settings

# Starts two processes for each film.
pytestmark = pytest.mark.slow


class Content(io.BytesIO):
    """A film in memory as a source."""

    def abort(self) -> None:
        """Do nothing: reading does not wait."""


@pytest.mark.parametrize("film", CONTAINERS, ids=lambda film: film.name)
async def test_a_film_is_measured_and_decoded_in_confined_processes(film: Film) -> None:
    media = await PyAVProber(settings()).probe(BytesSource(film.content))
    assert media == measure(io.BytesIO(film.content), size_bytes=len(film.content))
    assert _decoded(film.content, media) == End(media.duration_seconds)


@pytest.mark.parametrize("film", CONTAINERS[::8], ids=lambda film: film.name)
async def test_a_damaged_film_harms_neither_process(film: Film) -> None:
    for seed in range(3):
        content = mutated(film.content, seed)
        try:
            expected = measure(io.BytesIO(content), size_bytes=len(content))
        except UnreadableError as error:
            with pytest.raises(UnreadableError, match=re.escape(error.why)):
                await PyAVProber(settings()).probe(BytesSource(content))
            continue
        assert await PyAVProber(settings()).probe(BytesSource(content)) == expected
        with contextlib.suppress(SageError):
            assert _decoded(content, expected).at_seconds <= expected.duration_seconds


def _decoded(content: bytes, media: Media) -> End:
    """Decode a film in a confined process, and return how it ended."""
    request = LocalEngine(LocalSettings(threads=2)).decode_request(
        start_offset_seconds=media.start_offset_seconds,
        duration_seconds=media.duration_seconds,
        clip_seconds=2.0,
        first_clip=0,
        video_track=media.video_track,
        timestamps_jump=media.timestamps_jump,
    )
    *_, end = Decoder(Content(content), request, timeout_s=60).pictures()
    assert isinstance(end, End)
    return end
