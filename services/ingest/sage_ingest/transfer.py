"""Sending parts to the store while more are read, with the checksum of the whole on the way."""

import asyncio
import hashlib

from sage_ingest.parts import PartBuffers
from sage_ingest.ports import VideoObjects


class PartSender:
    """Sends the parts of one multipart upload, several at once.

    Memory is bounded by two limits: how many parts this upload may have in flight, and how many all uploads together
    may. The second one cannot deadlock: a part in flight depends on the store alone, never on a client.

    Args:
        objects: The store.
        key: The object.
        multipart_id: The multipart upload.
        in_flight: Parts that this upload may have in flight.
        buffers: Where parts are given back when they were sent.
        shared_slots: One slot for each part that all uploads together may have in flight.
        tasks: The group that the parts are sent in; its end is the end of the last part.
    """

    def __init__(
        self,
        objects: VideoObjects,
        *,
        key: str,
        multipart_id: str,
        in_flight: int,
        buffers: PartBuffers,
        shared_slots: asyncio.Semaphore,
        tasks: asyncio.TaskGroup,
    ) -> None:
        self._objects = objects
        self._key = key
        self._multipart_id = multipart_id
        self._buffers = buffers
        self._own_slots = asyncio.Semaphore(in_flight)
        self._shared_slots = shared_slots
        self._tasks = tasks
        self._sha256 = hashlib.sha256()
        self._hash_turn = asyncio.Lock()
        self._tags: list[str] = []

    @property
    def sha256(self) -> str:
        """The checksum of the parts so far, in hexadecimal digits; of the whole once the task group has ended."""
        return self._sha256.hexdigest()

    @property
    def tags(self) -> list[str]:
        """The tags of the parts, complete once the task group has ended."""
        return list(self._tags)

    async def send(self, part: bytearray) -> None:
        """Send the next part. Returns when it is under way, which is when there is room for it."""
        await self._own_slots.acquire()
        try:
            await self._shared_slots.acquire()
        except BaseException:
            self._own_slots.release()
            raise
        self._tags.append("")
        task = self._tasks.create_task(self._put(part, part_number=len(self._tags)))
        # Not in the task itself: one that is cancelled before its first step runs nothing of its own.
        task.add_done_callback(lambda _: self._release(part))

    def _release(self, part: bytearray) -> None:
        self._buffers.give_back(part)
        self._own_slots.release()
        self._shared_slots.release()

    async def _put(self, part: bytearray, *, part_number: int) -> None:
        # Tasks start in the order they were made and the lock is fair, so parts are hashed in order.
        async with self._hash_turn:
            await asyncio.to_thread(self._sha256.update, part)
        self._tags[part_number - 1] = await self._objects.put_part(
            self._key, multipart_id=self._multipart_id, part_number=part_number, data=part
        )
