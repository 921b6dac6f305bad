"""Parts of a multipart upload: gathering them from a stream of chunks, and sending several at once."""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from typing import TypeVar

from sage_runtime.process.settings import MIB

from sage_ingest import errors
from sage_ingest.config import IngestSettings
from sage_ingest.errors import size_mismatch
from sage_ingest.videos.ports import VideoObjects

# Source: "Amazon S3 multipart upload limits", Amazon S3 User Guide.
MAX_PARTS = 10_000

_Message = TypeVar("_Message")


class PartBuffers:
    """Buffers of the usual part size, reused.

    Buffers that are allocated and freed among gRPC's messages fragment the heap: with four uploads at once it grew by
    half.

    Args:
        part_bytes: The usual part size. Buffers of other sizes are not reused.
        kept: Maximum number of unused buffers to keep.
    """

    def __init__(self, *, part_bytes: int, kept: int) -> None:
        self._part_bytes = part_bytes
        self._kept = kept
        self._unused: list[bytearray] = []

    def acquire(self, size: int) -> bytearray:
        """Return a buffer of this size with undefined content."""
        if size == self._part_bytes and self._unused:
            return self._unused.pop()
        return bytearray(size)

    def release(self, buffer: bytearray) -> None:
        """Return a buffer, which the caller must not use afterwards."""
        if len(buffer) == self._part_bytes and len(self._unused) < self._kept:
            self._unused.append(buffer)


class Capacity:
    """Bounds the concurrent byte streams of a process: videos and single parts alike.

    Besides its parts in flight, every stream holds one part that is being filled or waits for a slot. So memory
    is at most `part_bytes * (total_parts_in_flight + max_concurrent_uploads)`.

    Args:
        settings: The limits.

    Attributes:
        part_slots: One slot for each part that may be in flight to or from the object store.
        buffers: Memory for parts.
    """

    def __init__(self, settings: IngestSettings) -> None:
        self.part_slots = asyncio.Semaphore(settings.total_parts_in_flight)
        self.buffers = PartBuffers(part_bytes=settings.part_bytes, kept=settings.total_parts_in_flight)
        self._max_uploads = settings.max_concurrent_uploads
        self._running = 0

    @contextlib.contextmanager
    def admitted(self) -> Iterator[None]:
        """Count one more stream of bytes while the block runs.

        Raises:
            SageError: LIMIT_EXCEEDED.
        """
        if self._running >= self._max_uploads:
            raise errors.too_many_uploads(self._max_uploads)
        self._running += 1
        try:
            yield
        finally:
            self._running -= 1


async def next_in_time(messages: AsyncIterator[_Message], *, idle_s: float) -> _Message | None:
    """Return the next message of a client, or `None` if the stream has ended.

    Raises:
        SageError: LIMIT_EXCEEDED if no message arrives within `idle_s`.
    """
    try:
        async with asyncio.timeout(idle_s):
            return await anext(messages, None)
    except TimeoutError:
        raise errors.upload_idle(idle_s) from None


async def at_least(chunks: AsyncIterator[bytes], *, bytes_per_s: float, over_s: float) -> AsyncGenerator[bytes, None]:
    """Yield the chunks as they arrive, if enough bytes do.

    An upload occupies memory and one of few slots. Empty chunks are no progress, nor is a byte now and then. Only the
    time spent waiting for the client counts, not the time that the store takes.

    Args:
        chunks: What the client sends.
        bytes_per_s: The lowest rate; at least one byte in `over_s` is required even if it is 0.
        over_s: Seconds of waiting over which the rate is measured.

    Raises:
        SageError: LIMIT_EXCEEDED if they arrive more slowly.
    """
    enough_bytes = max(1.0, bytes_per_s * over_s)
    loop = asyncio.get_running_loop()
    received_bytes, waited_s = 0, 0.0
    while True:
        begin = loop.time()
        try:
            async with asyncio.timeout(over_s - waited_s):
                chunk = await anext(chunks, None)
        except TimeoutError:
            error = errors.upload_too_slow(bytes_per_s, over_s=over_s) if received_bytes else errors.upload_idle(over_s)
            raise error from None
        if chunk is None:
            return
        waited_s += loop.time() - begin
        received_bytes += len(chunk)
        if received_bytes >= enough_bytes:
            received_bytes, waited_s = 0, 0.0
        yield chunk


def part_size(total_bytes: int, *, default_bytes: int) -> int:
    """Return the size of a file's parts: the default, or as many whole MiB as 10,000 parts need."""
    if total_bytes <= default_bytes * MAX_PARTS:
        return default_bytes
    return -(-total_bytes // (MAX_PARTS * MIB)) * MIB


class PartGatherer:
    """Copies chunks of any size into parts of one size; the last part has the rest.

    S3 refuses parts under 5 MiB except for the last, so chunks cannot be sent on as they arrive. It holds one
    part that is being filled; full parts belong to the caller.

    Args:
        total_bytes: Declared size of the file, at least 1.
        part_bytes: Size of every part but the last.
        buffers: Memory for parts; the caller releases it.
        field: Field in which the client declared the size.
    """

    def __init__(
        self, *, total_bytes: int, part_bytes: int, buffers: PartBuffers, field: str = "spec.size_bytes"
    ) -> None:
        self._buffers = buffers
        self._field = field
        self._total_bytes = total_bytes
        self._part_bytes = part_bytes
        self._received_bytes = 0
        self._part: bytearray | None = None
        self._filled_bytes = 0

    def feed(self, chunk: bytes) -> Iterator[bytearray]:
        """Accept the next bytes of the file and yield each part that they fill.

        Raises:
            SageError: SIZE_MISMATCH if the chunk exceeds the declared size, before any of it is used.
        """
        received = self._received_bytes + len(chunk)
        if received > self._total_bytes:
            raise size_mismatch(self._field, declared_bytes=self._total_bytes, received_bytes=received)
        rest = memoryview(chunk)
        while rest:
            if self._part is None:
                self._part = self._buffers.acquire(min(self._part_bytes, self._total_bytes - self._received_bytes))
                self._filled_bytes = 0
            size = min(len(rest), len(self._part) - self._filled_bytes)
            # Through a view: assigning to a slice of a bytearray would copy the bytes twice.
            memoryview(self._part)[self._filled_bytes : self._filled_bytes + size] = rest[:size]
            self._filled_bytes += size
            self._received_bytes += size
            rest = rest[size:]
            if self._filled_bytes == len(self._part):
                part, self._part = self._part, None
                yield part

    def finish(self) -> None:
        """Check that the entire file has arrived.

        Raises:
            SageError: SIZE_MISMATCH if the stream ended early.
        """
        if self._received_bytes != self._total_bytes:
            raise size_mismatch(self._field, declared_bytes=self._total_bytes, received_bytes=self._received_bytes)


class PartSender:
    """Sends the parts of one multipart upload to the store, several at once, and computes the file's checksum.

    Memory is bounded by two limits: the parts that this upload may have in flight, and those that all uploads together
    may have. The second cannot deadlock: a part in flight depends on the store alone, never on a client.

    Args:
        objects: The store.
        key: The object.
        multipart_id: The multipart upload.
        in_flight: Parts that this upload may have in flight.
        capacity: Slots and memory that all uploads share; parts are released once they are sent.
        tasks: The group that sends the parts; when it ends, all parts are sent.
    """

    def __init__(
        self,
        objects: VideoObjects,
        *,
        key: str,
        multipart_id: str,
        in_flight: int,
        capacity: Capacity,
        tasks: asyncio.TaskGroup,
    ) -> None:
        self._objects = objects
        self._key = key
        self._multipart_id = multipart_id
        self._capacity = capacity
        self._own_slots = asyncio.Semaphore(in_flight)
        self._tasks = tasks
        self._sha256 = hashlib.sha256()
        self._hash_turn = asyncio.Lock()
        self._tags: list[str] = []

    @property
    def sha256(self) -> str:
        """Checksum of the parts so far, in hexadecimal digits; of the file once the task group has ended."""
        return self._sha256.hexdigest()

    @property
    def tags(self) -> list[str]:
        """Tags of the parts, complete once the task group has ended."""
        return list(self._tags)

    async def send(self, part: bytearray) -> None:
        """Start sending the next part, as soon as there is room for it."""
        await self._own_slots.acquire()
        try:
            await self._capacity.part_slots.acquire()
        except BaseException:
            self._own_slots.release()
            raise
        self._tags.append("")
        task = self._tasks.create_task(self._put(part, part_number=len(self._tags)))
        # Not in the task itself: a task that is cancelled before its first step does not run at all.
        task.add_done_callback(lambda _: self._release(part))

    def _release(self, part: bytearray) -> None:
        self._capacity.buffers.release(part)
        self._own_slots.release()
        self._capacity.part_slots.release()

    async def _put(self, part: bytearray, *, part_number: int) -> None:
        # Tasks start in the order of their creation and the lock is fair, so parts are hashed in order.
        async with self._hash_turn:
            await asyncio.to_thread(self._sha256.update, part)
        self._tags[part_number - 1] = await self._objects.put_part(
            self._key, multipart_id=self._multipart_id, part_number=part_number, data=part
        )
