"""The embed service as the `sage` command sees it: embeddings and the provider's key in memory."""

from typing import TYPE_CHECKING

import grpc
from fakes.cli_errors import abort
from sage.embed.v1 import api_key_pb2, api_key_pb2_grpc, embed_pb2, embed_pb2_grpc
from sage.errors.v1 import error_reason_pb2
from sage_runtime.errors import Reason, SageError

if TYPE_CHECKING:
    from fakes.cli_services import FakeSage

FINAL = {
    embed_pb2.EMBEDDING_STATE_COMPLETED,
    embed_pb2.EMBEDDING_STATE_FAILED,
    embed_pb2.EMBEDDING_STATE_CANCELLED,
}


class FakeEmbedService(embed_pb2_grpc.EmbedServiceServicer):
    def __init__(self, sage: "FakeSage") -> None:
        self._sage = sage

    async def CreateEmbedding(self, request, context):
        sage = self._sage
        if sage.read_only:
            await abort(context, SageError(Reason.FORBIDDEN, needs="write", has="read"))
        recipe = (request.video_id, request.model, request.clip_seconds, set(request.tracks))
        for embedding in reversed(sage.embeddings.values()):
            made = (embedding.video_id, embedding.model, embedding.clip_seconds, set(embedding.requested_tracks))
            reusable = embedding.state not in FINAL - {embed_pb2.EMBEDDING_STATE_COMPLETED}
            if made == recipe and reusable and not request.force:
                sage.received[embedding.id].add(request.request_id)
                return embed_pb2.CreateEmbeddingResponse(embedding=embedding, reused=True)
        sage.creations += 1
        embedding = sage.add_embedding(
            request.video_id,
            state=embed_pb2.EMBEDDING_STATE_PENDING,
            clip_seconds=request.clip_seconds,
            model=request.model,
            tracks=request.tracks,
        )
        sage.received[embedding.id].add(request.request_id)
        return embed_pb2.CreateEmbeddingResponse(embedding=embedding)

    async def _find(self, embedding_id: str, context: grpc.aio.ServicerContext) -> embed_pb2.Embedding:
        if embedding_id not in self._sage.embeddings:
            await abort(context, SageError(Reason.EMBEDDING_NOT_FOUND, embedding_id=embedding_id))
        return self._sage.embeddings[embedding_id]

    async def GetEmbedding(self, request, context):
        return embed_pb2.GetEmbeddingResponse(embedding=await self._find(request.embedding_id, context))

    async def ListEmbeddings(self, request, context):
        return embed_pb2.ListEmbeddingsResponse(
            embeddings=[
                embedding
                for embedding in reversed(self._sage.embeddings.values())
                if request.video_id in {"", embedding.video_id}
                and request.model in {"", embedding.model}
                and request.state in {embed_pb2.EMBEDDING_STATE_UNSPECIFIED, embedding.state}
            ]
        )

    async def WatchEmbedding(self, request, context):
        sage = self._sage
        embedding = await self._find(request.embedding_id, context)
        sage.watches += 1
        sage.watched_after.append(request.after_revision)
        if sage.fail_watches:
            await abort(context, SageError(Reason.INTERNAL, request_id="request-7"))
        yield embed_pb2.WatchEmbeddingResponse(heartbeat=embed_pb2.Heartbeat())
        if embedding.state not in FINAL:
            embedding.state = embed_pb2.EMBEDDING_STATE_PROCESSING
            embedding.revision += 1
            embedding.progress.fraction = 0.5
            embedding.progress.message = "Embedded 10 of 20 s."
            yield embed_pb2.WatchEmbeddingResponse(embedding=embedding)
            sage.working.set()
            if sage.break_watches:
                sage.break_watches -= 1
                await context.abort(grpc.StatusCode.UNAVAILABLE, "connection reset")
            if sage.hang_embeddings:
                sage.watched[embedding.id] += not request.request_id
                try:
                    await sage.cancelled[embedding.id].wait()
                finally:
                    sage.watched[embedding.id] -= not request.request_id
        if embedding.state not in FINAL:
            embedding.revision += 1
            if sage.fail_embeddings:
                embedding.state = embed_pb2.EMBEDDING_STATE_FAILED
                embedding.failure.reason = error_reason_pb2.ERROR_REASON_PROVIDER_FAILED
                embedding.failure.message = "local failed: the stream cannot be decoded after 12.4 s."
            else:
                embedding.state = embed_pb2.EMBEDDING_STATE_COMPLETED
                embedding.progress.fraction = 1.0
                embedding.progress.message = "Embedded 20 of 20 s."
        yield embed_pb2.WatchEmbeddingResponse(embedding=embedding, last=True)

    async def CancelEmbedding(self, request, context):
        embedding = await self._find(request.embedding_id, context)
        requests = self._sage.received[embedding.id]
        requests.discard(request.request_id)
        watched = self._sage.watched[embedding.id] > 0
        if request.request_id and (requests or watched or embedding.state in FINAL):
            return embed_pb2.CancelEmbeddingResponse(embedding=embedding)
        if embedding.state == embed_pb2.EMBEDDING_STATE_COMPLETED:
            await abort(context, SageError(Reason.EMBEDDING_FINISHED, embedding_id=embedding.id, state="COMPLETED"))
        embedding.state = embed_pb2.EMBEDDING_STATE_CANCELLED
        embedding.revision += 1
        self._sage.cancelled[embedding.id].set()
        return embed_pb2.CancelEmbeddingResponse(embedding=embedding)

    async def DeleteEmbedding(self, request, context):
        await self._find(request.embedding_id, context)
        del self._sage.embeddings[request.embedding_id]
        return embed_pb2.DeleteEmbeddingResponse()

    async def ListModels(self, request, context):
        usable = self._sage.marengo or self._sage.key.present
        local = embed_pb2.Model(
            name="local",
            revision="1",
            provider="local",
            dimensions=112,
            tracks=["visual"],
            min_clip_seconds=0.5,
            max_clip_seconds=10,
            usable=True,
        )
        marengos = [
            embed_pb2.Model(
                name=name,
                revision=self._sage.revisions[name],
                provider="twelvelabs",
                dimensions=512,
                tracks=["visual", "audio", "video"],
                min_clip_seconds=2,
                max_clip_seconds=10,
                usable=usable,
                unusable_reason="" if usable else "no API key is set. Set one with SetApiKey.",
            )
            for name in ("marengo3.0", "marengo3.5", "Marengo-retrieval-2.7")
        ]
        models = [*marengos, local] if usable else [local, *marengos]
        return embed_pb2.ListModelsResponse(models=models)


class FakeApiKeyService(api_key_pb2_grpc.ApiKeyServiceServicer):
    def __init__(self, sage: "FakeSage") -> None:
        self._sage = sage

    async def SetApiKey(self, request, context):
        sage = self._sage
        sage.keys.append(request.key)
        if sage.key_refusal:
            await abort(context, sage.key_refusal)
        found = api_key_pb2.ApiKey(provider="twelvelabs", last_four=request.key.strip()[-4:], status=sage.key_status)
        found.check_time.FromSeconds(1_800_000_000)
        if request.validate_only:
            if not request.key:
                found.last_four, found.present, found.source = (
                    sage.key.last_four,
                    sage.key.present,
                    sage.key.source,
                )
            return api_key_pb2.SetApiKeyResponse(api_key=found)
        found.present, found.source = True, api_key_pb2.API_KEY_SOURCE_STORED
        sage.key = found
        return api_key_pb2.SetApiKeyResponse(api_key=found)

    async def GetApiKey(self, request, context):
        return api_key_pb2.GetApiKeyResponse(api_key=self._sage.key)

    async def DeleteApiKey(self, request, context):
        self._sage.key = self._sage.environment_key
        return api_key_pb2.DeleteApiKeyResponse()
