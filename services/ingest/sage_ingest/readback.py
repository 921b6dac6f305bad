"""The checksum of an object, read back from the store."""

import asyncio
import hashlib
from collections import deque

from sage_ingest.capacity import Capacity
from sage_ingest.parts import MIB
from sage_ingest.ports import VideoObjects
from sage_ingest.tasks import task_group

# Large enough that a request's own time does not show; no larger than the smallest part, so that the bound on memory
# that holds for parts holds for reading too.
_READ_BYTES = 5 * MIB


async def read_back_sha256(objects: VideoObjects, key: str, *, size_bytes: int, capacity: Capacity) -> str:
    """Return the SHA-256 of an object in hexadecimal digits.

    Several ranges are read ahead of the one that is hashed. Each has one of the slots that parts on their way share,
    and is hashed before another slot is waited for: whoever waits holds nothing that others wait for.

    Raises:
        SageError: STORE_UNAVAILABLE.
    """
    digest = hashlib.sha256()
    slots, reads = capacity.part_slots, deque[asyncio.Task[bytes]]()

    async def read(offset: int) -> bytes:
        return await objects.read_part(key, offset=offset, length=min(_READ_BYTES, size_bytes - offset))

    async def hash_first() -> None:
        await asyncio.to_thread(digest.update, await reads[0])
        reads.popleft()
        slots.release()

    try:
        async with task_group() as tasks:
            for offset in range(0, size_bytes, _READ_BYTES):
                while reads and (slots.locked() or len(reads) == capacity.limits.parts_in_flight):
                    await hash_first()
                await slots.acquire()
                reads.append(tasks.create_task(read(offset)))
            while reads:
                await hash_first()
    finally:
        for _ in reads:
            slots.release()
    return digest.hexdigest()
