"""The provider's key appears in clear neither in the database nor in logs or traces."""

import asyncio
import base64
import os
import signal
import sys

import grpc
from fakes.collector import TraceCollector
from fakes.twelvelabs.facts import RefusedError
from fakes.twelvelabs.faults import Answers, Drops, Moment, Step
from fakes.twelvelabs.misbehaviour import empty, fails, not_json, says
from fakes.twelvelabs.server import KEY
from sage.embed.v1 import api_key_pb2, api_key_pb2_grpc, embed_pb2, embed_pb2_grpc
from sage_local.ports import free_port
from sage_runtime.api import new_id
from support.leaks import everything_in, leaks

SIGNATURE = "5d41402abc4b2a76b9719d911017c5925d41402abc4b2a76b9719d911017c592"


async def test_database_logs_and_traces_do_not_contain_the_key(
    spawn, ingest, serving, twelvelabs, database_url, tmp_path
):
    # An error response and the failure of a task that quote the key and the signature of the video's URL.
    quoting = RefusedError(400, "parameter_invalid", f"The key {KEY} cannot fetch X-Amz-Signature={SIGNATURE}.")
    address, log = f"127.0.0.1:{free_port()}", tmp_path / "log"
    settings = {
        "SAGE_LOG_LEVEL": "debug",
        "SAGE_KEY_ENCRYPTION_KEYS": f"test:{base64.b64encode(os.urandom(32)).decode()}",
        "TWELVELABS_API_KEY": "",
    }
    async with TraceCollector().running() as collector:
        with log.open("wb") as output:
            settings["SAGE_OTLP_ENDPOINT"] = collector.endpoint
            embed = [sys.executable, "-m", "sage_embed"]
            api = spawn([*embed, "serve"], output=output, SAGE_EMBED_LISTEN=address, **settings)
            worker = spawn([*embed, "worker"], output=output, **settings)
            async with grpc.aio.insecure_channel(address) as channel:
                await serving(channel)
                keys = api_key_pb2_grpc.ApiKeyServiceStub(channel)
                responses = [await keys.SetApiKey(api_key_pb2.SetApiKeyRequest(key=KEY))]
                stub = embed_pb2_grpc.EmbedServiceStub(channel)
                troubles = (
                    (empty(202), Step.CREATE),
                    (not_json(200), Step.FETCH),
                    (Drops(Moment.HALF), Step.FETCH),
                    (Answers(400, quoting.body()), Step.CREATE),
                    (fails(f"HTTP 403 for {KEY} with the signature {SIGNATURE}"), Step.POLL),
                    (says(f"queued for {KEY}"), Step.POLL),
                )
                videos = [ingest.add(new_id("video"), duration_seconds=9.5) for _ in range(1 + len(troubles))]
                for video, (fault, step) in zip(videos, troubles, strict=False):
                    twelvelabs.misbehave(fault, step, times=1, of=video)
                responses += await asyncio.gather(*(_embed(stub, video) for video in videos))
                responses.append(await keys.GetApiKey(api_key_pb2.GetApiKeyRequest()))
                responses.append(await stub.ListModels(embed_pb2.ListModelsRequest()))
            for process in (worker, api):
                process.send_signal(signal.SIGTERM)
                # The last traces are sent during shutdown.
                await asyncio.to_thread(process.wait, 20)
    states = [response.state for response in responses if isinstance(response, embed_pb2.Embedding)]
    assert sorted(states) == [*[embed_pb2.EMBEDDING_STATE_COMPLETED] * 5, *[embed_pb2.EMBEDDING_STATE_FAILED] * 2]
    assert {seen.key for seen in twelvelabs.seen} == {KEY}

    assert responses[-2].api_key.last_four == KEY[-4:]
    assert leaks(KEY, repr(responses).encode()) == []
    assert leaks(SIGNATURE, repr(responses).encode()) == []
    stored, logged = everything_in(database_url), log.read_bytes()
    assert KEY[-4:].encode() in stored
    assert leaks(KEY, stored) == []
    assert leaks(KEY.lower(), stored) == []
    assert leaks(SIGNATURE, stored) == []
    assert b"embedding_completed" in logged
    assert leaks(KEY, logged) == []
    assert any("SetApiKey" in name for name in collector.span_names())
    assert leaks(KEY, b"".join(request.SerializeToString() for request in collector.received)) == []


async def _embed(stub: embed_pb2_grpc.EmbedServiceStub, video_id: str) -> embed_pb2.Embedding:
    """Embed a video and return the finished embedding."""
    created = await stub.CreateEmbedding(embed_pb2.CreateEmbeddingRequest(video_id=video_id))
    watching = stub.WatchEmbedding(embed_pb2.WatchEmbeddingRequest(embedding_id=created.embedding.id), timeout=60)
    return [message.embedding async for message in watching][-1]
