"""Embed with the real engine for TwelveLabs and a stand-in for its API. Ingest is a stand-in as well."""

import asyncio
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
from fakes.twelvelabs.server import StandIn
from fakes.twelvelabs.studio import FastStudio
from sage.embed.v1 import embed_pb2
from sage_embed.config import SCHEMA, EmbedSettings, LocalSettings, TwelveLabsSettings
from sage_embed.engines.engine import Engine
from sage_embed.engines.local.engine import LocalEngine
from sage_embed.engines.twelvelabs.engine import TwelveLabsEngine
from sage_embed.engines.twelvelabs.pace import PaceOptions, PostgresProviderPace
from sage_embed.engines.twelvelabs.session import Clock
from sage_embed.keys.model import ProviderKeys
from sage_runtime.api import new_id
from sage_runtime.postgres import Pool

DURATION_S = 9.5
WORKER_PROCESS = Path(__file__).with_name("worker_process.py")

# The environment of subprocesses: they wait hundredths of a second where production waits seconds.
FAST_PROVIDER = {
    "SAGE_TWELVELABS_POLL_SECONDS": "0.05",
    "SAGE_TWELVELABS_POLL_MAX_SECONDS": "0.2",
    "SAGE_TWELVELABS_LOOKUP_SECONDS": "0.3",
    # The create request of a killed worker may arrive this late, so the next worker waits for it.
    "SAGE_TWELVELABS_CREATE_TIMEOUT_SECONDS": "5",
    "SAGE_TWELVELABS_REQUESTS_PER_SECOND": "1000",
}
SETTINGS = TwelveLabsSettings(poll_first_s=0.02, poll_max_s=0.1, timeout_s=1.0, create_timeout_s=1.0, lookup_s=0.3)
PACE = PaceOptions(
    window_s=0.02, min_interval_s=0.001, relax_after_s=0.1, min_rest_s=0.05, first_rest_s=0.05, max_rest_s=60.0
)
LONGEST_SLEEP_S = 0.1


@pytest.fixture(scope="session")
def twelvelabs_server() -> Iterator[StandIn]:
    """The stand-in with made-up footage: these tests are about the lifecycle, not about pictures."""
    with StandIn(FastStudio(duration_seconds=DURATION_S, sound=True)).running() as stand_in:
        yield stand_in


@pytest.fixture(autouse=True)
def environment(twelvelabs: StandIn, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Configure this process and its children to use the stand-in with a valid key."""
    variables = {**twelvelabs.environment, **FAST_PROVIDER}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return variables


async def _hurried(seconds: float) -> None:
    await asyncio.sleep(min(LONGEST_SLEEP_S, seconds))


@pytest.fixture
def make_engines() -> Callable:
    """Return a function that makes the engines of production with short waits."""

    def make(pool: Pool, settings: EmbedSettings, keys: ProviderKeys) -> list[Engine]:
        pace = PostgresProviderPace(pool, PACE)
        return [TwelveLabsEngine(keys, pace, SETTINGS, clock=Clock(sleep=_hurried)), LocalEngine(LocalSettings())]

    return make


@pytest.fixture
def worker_command() -> list[str]:
    """The command that starts a worker process with the engines of production."""
    return [sys.executable, str(WORKER_PROCESS)]


@pytest.fixture
def database_url(database_url: str) -> str:
    """An empty database, without a pace of requests."""
    with psycopg.connect(database_url, options=f"-c search_path={SCHEMA}") as connection:
        connection.execute("TRUNCATE provider_pace, api_keys CASCADE")
    return database_url


@pytest.fixture
def video(ingest) -> str:
    """A video of 9.5 s with sound."""
    return ingest.add(new_id("video"), duration_seconds=DURATION_S, sound=True)


@pytest.fixture
def read(embed) -> Callable:
    """Return a function that reads starts, ends and vectors of a track."""

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
    """Return a function that embeds a new video for each request, all at once, and returns the finished embeddings.

    A request is a dict of fields of CreateEmbedding and `meet`, which is called with the video's ID beforehand.
    """

    async def one(meet: Callable[[str], object], **fields: object) -> embed_pb2.Embedding:
        video = ingest.add(new_id("video"), duration_seconds=DURATION_S, sound=True)
        meet(video)
        return await finish((await create(video_id=video, **fields)).id)

    async def call(requests: list[dict[str, Any]]) -> list[embed_pb2.Embedding]:
        return await asyncio.gather(*(one(**request) for request in requests))

    return call
