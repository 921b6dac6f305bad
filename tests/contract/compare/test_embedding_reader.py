"""The `EmbeddingReader` port: one suite, run against the fake and over gRPC."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from fractions import Fraction

import numpy as np
import pytest
from fakes.compare import FakeEmbedServicer, InMemoryEmbeddingReader, StoredEmbedding, StoredTrack, stored, stored_track
from sage.ingest.v1 import media_pb2
from sage_compare.inputs.client import GrpcEmbeddingReader
from sage_compare.inputs.embedding import FrameClock, TimeRange
from sage_compare.inputs.segments import EmbeddingReader
from sage_runtime.api import new_id
from sage_runtime.client import open_channel
from sage_runtime.errors import Reason, SageError
from sage_runtime.process.settings import ServerSettings
from sage_runtime.server import running_server

VECTORS = np.random.default_rng(0).standard_normal((10, 5)).astype(np.float32)
EMPTY = StoredTrack(np.zeros(0), np.zeros(0), np.zeros((0, 5), np.float32))


@asynccontextmanager
async def reading_from(servicer: FakeEmbedServicer) -> AsyncIterator[GrpcEmbeddingReader]:
    """Serve a fake of the embed service and yield a reader for it."""
    async with (
        running_server(settings=ServerSettings(grace_s=0), services=[servicer.registration()]) as server,
        open_channel(server.address) as channel,
    ):
        yield GrpcEmbeddingReader(channel, timeout_s=10)


@pytest.fixture(params=["in memory", "grpc"])
async def reader_of(request):
    """Return a function that makes a reader of some embeddings."""
    async with AsyncExitStack() as stack:

        async def make(*embeddings: StoredEmbedding) -> EmbeddingReader:
            if request.param == "in memory":
                return InMemoryEmbeddingReader(*embeddings)
            return await stack.enter_async_context(reading_from(FakeEmbedServicer(*embeddings)))

        yield make


async def test_embedding_is_described(reader_of):
    one = stored(VECTORS, duration=21.5, model="marengo3.0", model_revision="3", revision=12)
    found = await (await reader_of(one)).get(one.id)
    assert (found.id, found.video_id, found.duration) == (one.id, one.video_id, 21.5)
    assert (found.model, found.model_revision, found.dimensions, found.clip_seconds) == ("marengo3.0", "3", 5, 2.0)
    assert (found.completed, found.revision) == (True, 12)
    track = found.track("visual")
    assert (track.segment_count, track.covered) == (10, TimeRange(0.0, 20.0))
    assert found.track("audio") is None
    assert (found.has_requested("visual"), found.has_requested("audio")) == (True, False)


async def test_requested_track_is_known_even_if_it_is_absent(reader_of):
    one = stored(VECTORS, requested_tracks=("visual", "audio"))
    found = await (await reader_of(one)).get(one.id)
    assert found.track("audio") is None
    assert (found.has_requested("audio"), found.has_requested("transcription")) == (True, False)


@pytest.mark.parametrize(
    ("fields", "rate", "stated_count"),
    [
        ({"frame_rate": Fraction(30000, 1001), "frame_count": 599}, Fraction(30000, 1001), 599),
        ({"frame_rate": Fraction(25)}, Fraction(25), None),
        ({"frame_rate": Fraction(25), "frame_count": 498, "frame_rate_mode": "VARIABLE"}, Fraction(25), None),
        ({"frame_rate": Fraction(25), "frame_count": 498, "frame_rate_mode": "UNSPECIFIED"}, Fraction(25), None),
        ({"frame_rate": None}, None, None),
    ],
)
async def test_media_is_passed_through_and_says_how_frames_are_counted(reader_of, fields, rate, stated_count):
    one = stored(VECTORS, **fields)
    found = await (await reader_of(one)).get(one.id)
    assert media_pb2.Media.FromString(found.media_message) == one.media
    assert found.clock == FrameClock(20.0, rate=rate, stated_count=stated_count)


async def test_segments_have_their_times_and_unit_vectors(reader_of):
    one = stored(VECTORS).but(tracks={"visual": stored_track(VECTORS, end=19.25)})
    reader = await reader_of(one)
    segments = await reader.read_segments(await reader.get(one.id), "visual")
    assert segments.starts.tolist() == [2.0 * i for i in range(10)]
    assert segments.ends.tolist() == [*(2.0 * i for i in range(1, 10)), 19.25]
    np.testing.assert_allclose(segments.units, VECTORS / np.linalg.norm(VECTORS, axis=1, keepdims=True), rtol=1e-6)
    assert segments.zero is None


async def test_only_the_named_track_is_read(reader_of):
    one = stored(VECTORS).but(tracks={"visual": stored_track(VECTORS), "audio": stored_track(VECTORS[:2] * 0)})
    reader = await reader_of(one)
    segments = await reader.read_segments(await reader.get(one.id), "audio")
    assert (len(segments), segments.zero.tolist()) == (2, [True, True])


async def test_track_without_segments_is_read_as_empty(reader_of):
    one = StoredEmbedding(tracks={"visual": EMPTY}, duration=3.0, dimensions=5)
    reader = await reader_of(one)
    embedding = await reader.get(one.id)
    assert embedding.track("visual").covered is None
    assert len(await reader.read_segments(embedding, "visual")) == 0


async def test_unknown_embedding_is_not_found(reader_of):
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
async def test_reading_absent_vectors_is_an_error_and_not_an_empty_track(reader_of, change, reason):
    one = stored(VECTORS).but(**change)
    reader = await reader_of(one)
    with pytest.raises(SageError) as refused:
        await reader.read_segments(await reader.get(one.id), "visual")
    assert refused.value.reason is reason


async def test_check_passes_while_embeddings_can_be_read(reader_of):
    await (await reader_of()).check()


async def test_track_that_ends_early_is_refused():
    one = stored(VECTORS)
    servicer = FakeEmbedServicer(one)
    servicer.tamper = lambda message: type(message)() if message.first_index else message
    async with reading_from(servicer) as reader:
        with pytest.raises(ValueError, match="3 of 10 segments"):
            await reader.read_segments(await reader.get(one.id), "visual")
