"""The gRPC adapter of `FingerprintReader`."""

import asyncio

import grpc
from sage.embed.v1 import fingerprint_pb2, fingerprint_pb2_grpc
from sage_fingerprint.codec import decode
from sage_fingerprint.model import Fingerprint
from sage_runtime.client import to_sage_error

from sage_compare.inputs.client import state_name
from sage_compare.inputs.fingerprints import FingerprintReader, StoredFingerprint

_SERVICE = "embed"


class GrpcFingerprintReader(FingerprintReader):
    """Reads from the embed service.

    Args:
        channel: To the embed service, from `sage_runtime.client.open_channel`.
        timeout_s: Seconds allowed for reading a fingerprint. The caller's deadline applies if it is earlier.
        max_frames: Fingerprints with more frames are refused while they are decoded.
    """

    def __init__(self, channel: grpc.aio.Channel, *, timeout_s: float, max_frames: int) -> None:
        self._embed = fingerprint_pb2_grpc.FingerprintServiceStub(channel)
        self._timeout_s = timeout_s
        self._max_frames = max_frames

    async def get(self, video_id: str) -> StoredFingerprint:
        """Call `GetFingerprint`."""
        try:
            response = await self._embed.GetFingerprint(fingerprint_pb2.GetFingerprintRequest(video_id=video_id))
        except grpc.aio.AioRpcError as error:
            raise to_sage_error(error, service=_SERVICE) from error
        found = response.fingerprint
        return StoredFingerprint(
            video_id=found.video_id,
            version=found.version,
            state=state_name(found.state),
            revision=found.revision,
            frame_count=found.frame_count,
        )

    async def read(self, fingerprint: StoredFingerprint) -> Fingerprint:
        """Collect the stream of `ReadFingerprint`, and decode it in threads."""
        call = self._embed.ReadFingerprint(
            fingerprint_pb2.ReadFingerprintRequest(video_id=fingerprint.video_id), timeout=self._timeout_s
        )
        try:
            chunks = [message.data async for message in call]
        except grpc.aio.AioRpcError as error:
            raise to_sage_error(error, service=_SERVICE) from error
        finally:
            call.cancel()
        return await asyncio.to_thread(decode, chunks, max_frames=self._max_frames)
