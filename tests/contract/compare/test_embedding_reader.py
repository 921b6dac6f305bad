"""The `EmbeddingReader` port: the same suite over the fake and over gRPC."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import numpy as np
import pytest
from fakes.compare import FakeEmbedServicer, InMemoryEmbeddingReader, Segments, StoredEmbedding, segments, stored
from sage_compare.adapters.embed import GrpcEmbeddingReader
from sage_compare.model import TimeRange
from sage_compare.ports import EmbeddingReader
from sage_runtime.channel import open_channel
from sage_runtime.errors import Reason, SageError
from sage_runtime.ids import new_id
from sage_runtime.server import running_server
from sage_runtime.settings import ServerSettings

VECTORS = np.random.default_rng(0).standard_normal((10, 5)).astype(np.float32)
NONE = Segments(np.zeros(0), np.zeros(0), np.zeros((0, 5), np.float32))


@asynccontextmanager
async def reading_from(servicer: FakeEmbedServicer) -> AsyncIterator[GrpcEmbeddingReader]:
    """Serve a stand-in of the embed service and read from it over gRPC."""
    async with (
        running_server(settings=ServerSettings(grace_s=0), services=[servicer.registration()]) as server,
        open_channel(server.address) as channel,
    ):
        yield GrpcEmbeddingReader(channel, timeout_s=10)


@pytest.fixture(params=["in memory", "grpc"])
async def reader_of(request):
    """Return what makes a reader of these embeddings."""
    async with AsyncExitStack() as stack:

        async def make(*embeddings: StoredEmbedding) -> EmbeddingReader:
            if request.param == "in memory":
                return InMemoryEmbeddingReader(*embeddings)
            return await stack.enter_async_context(reading_from(FakeEmbedServicer(*embeddings)))

        yield make


async def test_embedding_is_described(reader_of):
    """What the embedding is made of arrives as it was stored."""
    one = stored(VECTORS, duration=21.5, model="marengo3.0", model_revision="3", revision=12)
    found = await (await reader_of(one)).get(one.id)
    assert (found.id, found.video_id, found.duration) == (one.id, one.video_id, 21.5)
    assert (found.model, found.model_revision, found.dimensions, found.clip_seconds) == ("marengo3.0", "3", 5, 2.0)
    assert (found.completed, found.revision) == (True, 12)
    track = found.track("visual")
    assert (track.segment_count, track.covered) == (10, TimeRange(0.0, 20.0))
    assert found.track("audio") is None
    assert (found.asked_for("visual"), found.asked_for("audio")) == (True, False)


async def test_track_that_was_asked_for_and_is_not_there_is_known_as_such(reader_of):
    """What was asked for arrives beside what is there."""
    one = stored(VECTORS, requested_tracks=("visual", "audio"))
    found = await (await reader_of(one)).get(one.id)
    assert (found.track("audio"), found.asked_for("audio"), found.asked_for("transcription")) == (None, True, False)


async def test_clips_have_their_times_and_unit_vectors(reader_of):
    """Every segment becomes a clip in order, its vector scaled to length 1."""
    one = stored(VECTORS).but(tracks={"visual": segments(VECTORS, end=19.25)})
    reader = await reader_of(one)
    clips = await reader.read_clips(await reader.get(one.id), "visual")
    assert clips.starts.tolist() == [2.0 * i for i in range(10)]
    assert clips.ends.tolist() == [*(2.0 * i for i in range(1, 10)), 19.25]
    np.testing.assert_allclose(clips.units, VECTORS / np.linalg.norm(VECTORS, axis=1, keepdims=True), rtol=1e-6)
    assert clips.zero is None


async def test_track_is_the_one_asked_for(reader_of):
    """Tracks are kept apart."""
    one = stored(VECTORS).but(tracks={"visual": segments(VECTORS), "audio": segments(VECTORS[:2] * 0)})
    reader = await reader_of(one)
    clips = await reader.read_clips(await reader.get(one.id), "audio")
    assert (len(clips), clips.zero.tolist()) == (2, [True, True])


async def test_track_without_segments_has_no_clips(reader_of):
    """A track that is empty is read as empty."""
    one = StoredEmbedding(tracks={"visual": NONE}, duration=3.0, dimensions=5)
    reader = await reader_of(one)
    embedding = await reader.get(one.id)
    assert embedding.track("visual").covered is None
    assert len(await reader.read_clips(embedding, "visual")) == 0


async def test_unknown_embedding_is_not_found(reader_of):
    """An id that nothing has is EMBEDDING_NOT_FOUND with the id."""
    reader = await reader_of()
    missing = new_id("embed")
    with pytest.raises(SageError) as refused:
        await reader.get(missing)
    assert refused.value.reason is Reason.EMBEDDING_NOT_FOUND
    assert refused.value.facts["embedding_id"] == missing


@pytest.mark.parametrize(
    ("change", "reason"),
    [({"state": "PROCESSING"}, Reason.EMBEDDING_NOT_COMPLETED), ({"tracks": {}}, Reason.TRACK_MISSING)],
)
async def test_vectors_that_are_not_there_are_refused(reader_of, change, reason):
    """Reading what is not there is an error with the embedding's own reason, not an empty track."""
    one = stored(VECTORS).but(**change)
    reader = await reader_of(one)
    with pytest.raises(SageError) as refused:
        await reader.read_clips(await reader.get(one.id), "visual")
    assert refused.value.reason is reason


async def test_track_that_arrives_short_is_not_taken_for_the_track():
    """Segments that are missing at the end of the stream are an error, never clips of whatever memory held."""
    one = stored(VECTORS)
    servicer = FakeEmbedServicer(one)
    servicer.tamper = lambda message: type(message)() if message.first_index else message
    async with reading_from(servicer) as reader:
        with pytest.raises(ValueError, match="3 of 10 segments"):
            await reader.read_clips(await reader.get(one.id), "visual")
