"""Two replicas of each service behind one gateway, as `make up REPLICAS=2` runs them: one of each may go away."""

import asyncio
import os
import signal
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator

import grpc
import psutil
import pytest
from sage.embed.v1 import embed_pb2, embed_pb2_grpc
from sage_local.stack import RunningStack, running_stack
from support.films import SAMPLES
from support.mixed_load import MixedLoad
from support.waiting import until

SERVICES = ("ingest", "embed", "compare")
# Every call has a deadline, and two of each service fill the machine.
pytestmark = pytest.mark.serial


@pytest.fixture(scope="module")
def replicas() -> Iterator[RunningStack]:
    """A stack with two of each. compare has no cache, so that it calls embed each time."""
    with running_stack(replicas=2, environment={"SAGE_COMPARE_CACHE_BYTES": "0"}) as running:
        yield running


@pytest.fixture(scope="module")
async def load(replicas: RunningStack) -> AsyncIterator[MixedLoad]:
    """Mixed calls at that stack's gateway."""
    async with grpc.aio.insecure_channel(replicas.address) as channel:
        yield await MixedLoad.prepare(channel, SAMPLES / "old.mp4")


async def _until_healthy(stack: RunningStack) -> None:
    """Wait until the gateway considers two replicas of each service healthy."""

    def healthy() -> bool:
        url = f"{stack.probe_url}/stats/prometheus?filter=membership_healthy$"
        with urllib.request.urlopen(url, timeout=5) as answer:
            found = dict(
                line.rsplit(" ", 1) for line in answer.read().decode().splitlines() if not line.startswith("#")
            )
        gauge = "envoy_cluster_membership_healthy"
        return all(found[f'{gauge}{{envoy_cluster_name="{name}"}}'] == "2" for name in SERVICES)

    await until(healthy, timeout_s=30)


async def test_both_replicas_receive_calls(replicas: RunningStack, load: MixedLoad) -> None:
    async with load.running():
        await load.more(60)
    assert load.failed() == []
    for name in SERVICES:
        for replica in (name, f"{name}-2"):
            assert '"event": "call_finished"' in (replicas.logs / f"{replica}.log").read_text()


async def test_an_embedding_created_on_one_replica_can_be_watched_on_the_other(
    replicas: RunningStack, load: MixedLoad
) -> None:
    async with (
        grpc.aio.insecure_channel(replicas.addresses["embed"]) as one,
        grpc.aio.insecure_channel(replicas.addresses["embed-2"]) as other,
    ):
        # Connect first, so that the embedding does not finish before.
        await other.channel_ready()
        request = embed_pb2.CreateEmbeddingRequest(video_id=load.video_id, model="local", force=True)
        created = await embed_pb2_grpc.EmbedServiceStub(one).CreateEmbedding(request)
        watch = embed_pb2.WatchEmbeddingRequest(embedding_id=created.embedding.id)
        messages = [message async for message in embed_pb2_grpc.EmbedServiceStub(other).WatchEmbedding(watch)]
    assert messages[-1].last
    assert messages[-1].embedding.state == embed_pb2.EMBEDDING_STATE_COMPLETED
    assert len(messages) > 1


async def test_no_call_fails_when_one_of_each_is_stopped(replicas: RunningStack, load: MixedLoad) -> None:
    load.calls.clear()
    victims = {name: replicas.pids[name] for name in SERVICES}
    async with load.running():
        await load.more(20)
        for pid in victims.values():
            os.kill(pid, signal.SIGTERM)
        await until(lambda: not any(map(psutil.pid_exists, victims.values())), timeout_s=30)
        # Their replacements receive calls as well.
        await _until_healthy(replicas)
        await load.more(20)
    assert load.failed() == []


async def test_only_calls_under_way_fail_when_one_is_killed(replicas: RunningStack, load: MixedLoad) -> None:
    for name in SERVICES:
        await _until_healthy(replicas)
        load.calls.clear()
        process = psutil.Process(replicas.pids[f"{name}-2"])
        async with load.running():
            await load.more(20)
            process.kill()
            await asyncio.to_thread(process.wait, 30)
            gone = time.monotonic()
            await load.more(60)
        later = [call for call in load.failed() if call.begin > gone]
        assert later == [], name
