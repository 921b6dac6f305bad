"""Embed with the real engine for Marengo, which talks to the stand-in for TwelveLabs; ingest is a stand-in too."""

import asyncio
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import psycopg
import pytest
from fakes.twelvelabs.server import StandIn
from fakes.twelvelabs.studio import FastStudio
from sage.embed.v1 import embed_pb2
from sage_embed.adapters.local.engine import LocalEngine
from sage_embed.adapters.pace import PacePolicy, PostgresProviderPace
from sage_embed.adapters.twelvelabs.engine import TwelveLabsEngine
from sage_embed.adapters.twelvelabs.policy import TwelveLabsPolicy
from sage_embed.adapters.twelvelabs.session import Clock
from sage_embed.config import SCHEMA, EmbedSettings
from sage_embed.engine import Engine
from sage_embed.ports import ProviderKeys
from sage_runtime.ids import new_id
from sage_runtime.postgres import Pool

DURATION_S = 9.5

# What a process of its own takes from its environment: production waits seconds where these wait hundredths.
FAST_PROVIDER = {
    "SAGE_TWELVELABS_POLL_SECONDS": "0.05",
    "SAGE_TWELVELABS_POLL_MAX_SECONDS": "0.2",
    "SAGE_TWELVELABS_LOOKUP_SECONDS": "0.3",
    # For so long the create of a worker that was killed may arrive: who goes on waits for that.
    "SAGE_TWELVELABS_CREATE_TIMEOUT_SECONDS": "5",
    "SAGE_TWELVELABS_REQUESTS_PER_SECOND": "1000",
}
POLICY = TwelveLabsPolicy(
    poll_first_s=0.02, poll_max_s=0.1, timeout_s=1.0, create_timeout_s=1.0, lookup_s=0.3, lookup_undecided_s=0.6
)
PACE = PacePolicy(window_s=0.02, min_interval_s=0.001, relax_after_s=0.1, min_rest_s=0.05, first_rest_s=0.05)
LONGEST_SLEEP_S = 0.1


@pytest.fixture(scope="session")
def twelvelabs_server() -> Iterator[StandIn]:
    """The stand-in with footage that costs nothing: these tests are about the lifecycle, not about pictures."""
    with StandIn(FastStudio(duration_seconds=DURATION_S, sound=True)).running() as stand_in:
        yield stand_in


@pytest.fixture(autouse=True)
def environment(twelvelabs: StandIn, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Lead this process and those that it starts to the stand-in, with a valid key."""
    variables = {**twelvelabs.environment, **FAST_PROVIDER}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return variables


async def _hurried(seconds: float) -> None:
    await asyncio.sleep(min(LONGEST_SLEEP_S, seconds))


@pytest.fixture
def make_engines() -> Callable:
    """Make the engines that production has, in a hurry."""

    def make(pool: Pool, settings: EmbedSettings, keys: ProviderKeys) -> list[Engine]:
        pace = PostgresProviderPace(pool, PACE)
        return [TwelveLabsEngine(keys, pace, policy=POLICY, clock=Clock(sleep=_hurried)), LocalEngine()]

    return make


@pytest.fixture
def worker_command() -> list[str]:
    """Start workers as production does."""
    return [sys.executable, "-m", "sage_embed", "worker"]


@pytest.fixture
def database_url(database_url: str) -> str:
    """Return a database with nothing in it, no pace of requests either."""
    with psycopg.connect(database_url, options=f"-c search_path={SCHEMA}") as connection:
        connection.execute("TRUNCATE provider_pace, api_keys CASCADE")
    return database_url


@pytest.fixture
def video(ingest) -> str:
    """Return a video of 9.5 s with sound."""
    return ingest.add(new_id("video"), duration_seconds=DURATION_S, sound=True)


@pytest.fixture
def read(embed) -> Callable:
    """Read one track of an embedding; return starts, ends and vectors."""

    async def call(embedding: embed_pb2.Embedding, track: str) -> tuple[list[float], list[float], np.ndarray]:
        request = embed_pb2.ReadSegmentsRequest(embedding_id=embedding.id, track=track)
        chunks = [chunk async for chunk in embed.ReadSegments(request)]
        starts = [start for chunk in chunks for start in chunk.start_seconds]
        ends = [end for chunk in chunks for end in chunk.end_seconds]
        vectors = np.frombuffer(b"".join(chunk.vectors for chunk in chunks), dtype="<f4")
        return starts, ends, vectors.reshape(len(starts), embedding.dimensions)

    return call


@pytest.fixture
def embed_all(create, finish, ingest) -> Callable:
    """Embed a video of its own for each of some requests, all at once; return the embeddings at their end.

    Each request is a dict of the fields of CreateEmbedding and of `meet`, which is called with the video's id first.
    """

    async def one(meet: Callable[[str], object], **fields: object) -> embed_pb2.Embedding:
        video = ingest.add(new_id("video"), duration_seconds=DURATION_S, sound=True)
        meet(video)
        return await finish((await create(video_id=video, **fields)).id)

    async def call(requests: list[dict[str, Any]]) -> list[embed_pb2.Embedding]:
        return await asyncio.gather(*(one(**request) for request in requests))

    return call
