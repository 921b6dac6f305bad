"""The use cases of fingerprints: create or reuse, get, cancel, delete, and read."""

from collections.abc import AsyncGenerator

from sage_runtime.errors import SageError

from sage_embed.embeddings.model import State
from sage_embed.embeddings.ports import VideoCatalog
from sage_embed.errors import (
    fingerprint_finished,
    fingerprint_not_completed,
    fingerprint_not_found,
    fingerprint_object_lost,
    limit_exceeded,
)
from sage_embed.fingerprints.model import Fingerprint
from sage_embed.fingerprints.ports import FingerprintObjects, FingerprintRepository

# Bytes in one message: below the 1 MiB that the contract promises, with room for the other fields.
_MESSAGE_BYTES = 768 * 1024


async def create(
    video_id: str, *, request_id: str, repository: FingerprintRepository, videos: VideoCatalog, max_unfinished: int
) -> Fingerprint:
    """Return the fingerprint of a video; a new one if there is none that can be used.

    Raises:
        SageError: VIDEO_NOT_FOUND, LIMIT_EXCEEDED, STORE_UNAVAILABLE, SERVICE_UNAVAILABLE.
    """
    existing = await repository.reuse(video_id, request_id=request_id)
    if existing is not None:
        return existing
    video = await videos.get(video_id)
    # Concurrent calls may exceed the limit by a few: it bounds the queue, but not exactly.
    if await repository.count_unfinished() >= max_unfinished:
        what_to_do = "Wait for some to finish, or cancel some."
        raise limit_exceeded(limit="unfinished fingerprints", maximum=max_unfinished, what_to_do=what_to_do)
    return await repository.create(video, request_id=request_id)


async def get(video_id: str, *, repository: FingerprintRepository) -> Fingerprint:
    """Return the fingerprint of a video in its current state.

    Raises:
        SageError: FINGERPRINT_NOT_FOUND, STORE_UNAVAILABLE.
    """
    fingerprint = await repository.get(video_id)
    if fingerprint is None:
        raise fingerprint_not_found(video_id)
    return fingerprint


async def cancel(video_id: str, *, withdrawing: str, repository: FingerprintRepository) -> Fingerprint:
    """Cancel a fingerprint and return it. Cancelling it again returns it unchanged.

    With a request ID to withdraw, it is cancelled only if no other request for it is left and no embedding of the video
    is unfinished; finished ones are returned as they are.

    Raises:
        SageError: FINGERPRINT_NOT_FOUND, FINGERPRINT_FINISHED, STORE_UNAVAILABLE.
    """
    fingerprint = await repository.cancel(video_id, withdrawing=withdrawing)
    if fingerprint is None:
        raise fingerprint_not_found(video_id)
    if fingerprint.state is not State.CANCELLED and not withdrawing:
        raise fingerprint_finished(video_id, fingerprint.state)
    return fingerprint


async def delete(video_id: str, *, repository: FingerprintRepository) -> None:
    """Delete a fingerprint and stop its work.

    Raises:
        SageError: FINGERPRINT_NOT_FOUND, STORE_UNAVAILABLE.
    """
    if not await repository.delete(video_id):
        raise fingerprint_not_found(video_id)


async def read(
    video_id: str, *, repository: FingerprintRepository, objects: FingerprintObjects
) -> AsyncGenerator[bytes, None]:
    """Yield the bytes of a completed fingerprint in order.

    Only what is yielded is held in memory, however slow the caller is. One that is deleted meanwhile can be read to
    its end for some minutes.

    Raises:
        SageError: FINGERPRINT_NOT_FOUND (also if it is deleted while it is read), FINGERPRINT_NOT_COMPLETED,
            STORE_UNAVAILABLE.
    """
    fingerprint = await get(video_id, repository=repository)
    if fingerprint.state is not State.COMPLETED:
        raise fingerprint_not_completed(video_id, fingerprint.state)
    for stored in await repository.objects(video_id):
        for offset in range(0, stored.size_bytes, _MESSAGE_BYTES):
            length = min(_MESSAGE_BYTES, stored.size_bytes - offset)
            try:
                data = await objects.read(stored.key, offset=offset, length=length)
            except KeyError as error:
                raise await _gone(fingerprint, stored.key, repository=repository) from error
            yield data


async def _gone(fingerprint: Fingerprint, key: str, *, repository: FingerprintRepository) -> SageError:
    """Return the error for an object that is missing: it was deleted, or the store has lost it."""
    now = await repository.get(fingerprint.id)
    if now is not None and now.revision == fingerprint.revision:
        return fingerprint_object_lost(key)
    return fingerprint_not_found(fingerprint.id)
