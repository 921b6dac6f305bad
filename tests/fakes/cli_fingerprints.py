"""The fingerprint service as the `sage` command sees it: fingerprints in memory, one per video."""

from typing import TYPE_CHECKING

import grpc
from fakes.cli_embeddings import FINAL
from fakes.cli_errors import abort
from sage.embed.v1 import embed_pb2, fingerprint_pb2, fingerprint_pb2_grpc
from sage.errors.v1 import error_reason_pb2
from sage_runtime.errors import Reason, SageError

if TYPE_CHECKING:
    from fakes.cli_services import FakeSage

UNUSABLE = {embed_pb2.EMBEDDING_STATE_FAILED, embed_pb2.EMBEDDING_STATE_CANCELLED}


class FakeFingerprintService(fingerprint_pb2_grpc.FingerprintServiceServicer):
    def __init__(self, sage: "FakeSage") -> None:
        self._sage = sage

    async def CreateFingerprint(self, request, context):
        sage = self._sage
        if sage.read_only:
            await abort(context, SageError(Reason.FORBIDDEN, needs="write", has="read"))
        if request.video_id not in sage.videos:
            await abort(context, SageError(Reason.VIDEO_NOT_FOUND, video_id=request.video_id))
        found = sage.fingerprints.get(request.video_id)
        if found is None or found.state in UNUSABLE:
            sage.fingerprint_creations += 1
            found = sage.add_fingerprint(request.video_id, state=embed_pb2.EMBEDDING_STATE_PENDING)
        sage.received[request.video_id].add(request.request_id)
        return fingerprint_pb2.CreateFingerprintResponse(fingerprint=found)

    async def _find(self, video_id: str, context: grpc.aio.ServicerContext) -> fingerprint_pb2.Fingerprint:
        if video_id not in self._sage.fingerprints:
            await abort(context, SageError(Reason.FINGERPRINT_NOT_FOUND, video_id=video_id))
        return self._sage.fingerprints[video_id]

    async def GetFingerprint(self, request, context):
        return fingerprint_pb2.GetFingerprintResponse(fingerprint=await self._find(request.video_id, context))

    async def WatchFingerprint(self, request, context):
        sage = self._sage
        found = await self._find(request.video_id, context)
        sage.fingerprint_watches.append(request.after_revision)
        yield fingerprint_pb2.WatchFingerprintResponse(heartbeat=embed_pb2.Heartbeat())
        if found.state not in FINAL:
            found.state = embed_pb2.EMBEDDING_STATE_PROCESSING
            found.revision += 1
            found.progress.fraction = 0.25
            found.progress.message = "Fingerprinted 5 of 20 s."
            yield fingerprint_pb2.WatchFingerprintResponse(fingerprint=found)
            sage.working.set()
            if sage.break_watches:
                sage.break_watches -= 1
                await context.abort(grpc.StatusCode.UNAVAILABLE, "connection reset")
            if sage.hang_fingerprints:
                await sage.cancelled[request.video_id].wait()
        if found.state not in FINAL:
            found.revision += 1
            if sage.fail_fingerprints:
                found.state = embed_pb2.EMBEDDING_STATE_FAILED
                found.failure.reason = error_reason_pb2.ERROR_REASON_VIDEO_UNREADABLE
                found.failure.message = "film.mp4 cannot be read: the stream ends after 12.4 s."
            else:
                found.state = embed_pb2.EMBEDDING_STATE_COMPLETED
                found.progress.fraction = 1.0
        yield fingerprint_pb2.WatchFingerprintResponse(fingerprint=found, last=True)

    async def DeleteFingerprint(self, request, context):
        await self._find(request.video_id, context)
        del self._sage.fingerprints[request.video_id]
        return fingerprint_pb2.DeleteFingerprintResponse()

    async def CancelFingerprint(self, request, context):
        found = await self._find(request.video_id, context)
        requests = self._sage.received[request.video_id]
        requests.discard(request.request_id)
        embedded = any(
            one.video_id == request.video_id and one.state not in FINAL for one in self._sage.embeddings.values()
        )
        if not (requests or embedded or found.state in FINAL):
            found.state = embed_pb2.EMBEDDING_STATE_CANCELLED
            found.revision += 1
            self._sage.cancelled[request.video_id].set()
        return fingerprint_pb2.CancelFingerprintResponse(fingerprint=found)
