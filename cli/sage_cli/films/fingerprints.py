"""Makes sure that videos have fingerprints, by which they are aligned."""

import asyncio
import contextlib
import uuid
from collections import defaultdict

import grpc
from sage.embed.v1 import embed_pb2, fingerprint_pb2

from sage_cli.api.client import Client
from sage_cli.api.errors import CommandError, in_commands, next_step_for, reason_of
from sage_cli.films.watching import FINAL_STATES, watch_fingerprint
from sage_cli.show.progress import AnyLine

_WITHOUT = "--time compares without fingerprints."


class Fingerprints:
    """Requests and follows fingerprints, and keeps track of what it has requested.

    Args:
        client: The client of the server.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        # The requests for unfinished fingerprints, by the video's ID.
        self._requests: dict[str, str] = {}
        self._found: dict[str, fingerprint_pb2.Fingerprint] = {}
        # The fingerprint of a video is requested once, even if both films are that video.
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def ensure(self, video_id: str, line: AnyLine, *, force: bool = False) -> None:
        """Return once a video has a completed fingerprint.

        Args:
            video_id: The video.
            line: Shows the progress.
            force: Whether to make a new one even if one exists, which is deleted.

        Raises:
            CommandError: It failed, another client cancelled it, or there can be none.
        """
        async with self._locks[video_id]:
            if video_id not in self._found:
                if force:
                    await self._delete(video_id)
                self._found[video_id] = await self._begin(video_id, line)
        fingerprint = self._found[video_id]
        if fingerprint.state not in FINAL_STATES:
            line.begin_work("fingerprint")
            self._client.be_patient()
            async for fingerprint in watch_fingerprint(self._client, video_id):
                line.report(fingerprint.progress.fraction, fingerprint.progress.message)
        self._requests.pop(video_id, None)
        if fingerprint.state == embed_pb2.EMBEDDING_STATE_FAILED:
            advice = next_step_for(fingerprint.failure.reason)
            raise CommandError(
                f"{line.label} could not be fingerprinted: "
                f"{in_commands(fingerprint.failure.message, next_step=advice)}",
                next_step=advice or f"Run the command again to retry. {_WITHOUT}",
            )
        if fingerprint.state == embed_pb2.EMBEDDING_STATE_CANCELLED:
            raise CommandError(
                f"{line.label} was not fingerprinted: the fingerprint of {video_id} was cancelled.",
                next_step="Run the command again to start over.",
            )
        line.finish("fingerprinted")

    async def _begin(self, video_id: str, line: AnyLine) -> fingerprint_pb2.Fingerprint:
        """Request a fingerprint, or return the existing one if it may not be requested."""
        request_id = f"sage-cli-{uuid.uuid4().hex}"
        # Sent requests must be known as such, even if this task is cancelled: otherwise they could not be withdrawn.
        creation = asyncio.ensure_future(self._client.create_fingerprint(video_id, request_id=request_id))
        try:
            fingerprint = await asyncio.shield(creation)
        except asyncio.CancelledError:
            with contextlib.suppress(grpc.RpcError):
                await creation
                self._requests[video_id] = request_id
            raise
        except grpc.RpcError as error:
            # A token with scope `read` cannot create one, and that of a deleted video cannot be made again.
            reason = reason_of(error)
            if reason not in {"FORBIDDEN", "VIDEO_NOT_FOUND"}:
                raise
            existing = await self._existing(video_id)
            if existing is None and reason == "VIDEO_NOT_FOUND":
                raise CommandError(
                    f"The video of {line.label} is deleted, and it has no fingerprint.",
                    next_step=f"Upload the film again. {_WITHOUT}",
                ) from error
            if existing is None:
                raise
            return existing
        self._requests[video_id] = request_id
        return fingerprint

    async def _delete(self, video_id: str) -> None:
        try:
            await self._client.delete_fingerprint(video_id)
        except grpc.RpcError as error:
            if reason_of(error) != "FINGERPRINT_NOT_FOUND":
                raise

    async def _existing(self, video_id: str) -> fingerprint_pb2.Fingerprint | None:
        """Return the fingerprint of a video if it is completed or in progress."""
        unusable = {embed_pb2.EMBEDDING_STATE_FAILED, embed_pb2.EMBEDDING_STATE_CANCELLED}
        try:
            found = await self._client.get_fingerprint(video_id)
        except grpc.RpcError as error:
            if reason_of(error) == "FINGERPRINT_NOT_FOUND":
                return None
            raise
        return None if found.state in unusable else found

    async def withdraw(self, *, timeout_s: float) -> list[fingerprint_pb2.Fingerprint]:
        """Withdraw the requests for unfinished fingerprints, and return these as they are then.

        SAGE cancels a fingerprint only if no other client waits for it.

        Args:
            timeout_s: How long to wait for each answer.
        """
        left = []
        for video_id, request_id in sorted(self._requests.items()):
            # If SAGE is gone, there is nothing left to do.
            with contextlib.suppress(grpc.RpcError, TimeoutError):
                async with asyncio.timeout(timeout_s):
                    left.append(await self._client.cancel_fingerprint(video_id, request_id=request_id))
        self._requests.clear()
        return left
