"""What all uploads of a process share: their number, the parts on their way, and the memory of both."""

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from sage_ingest import errors
from sage_ingest.parts import PartBuffers


@dataclass(frozen=True)
class UploadLimits:
    """What uploads may use.

    Attributes:
        part_bytes: Size of a part, larger only where a file would need more than 10,000 parts.
        parts_in_flight: Parts of one upload on their way to the store at once.
        total_parts_in_flight: Parts of all uploads together on their way at once.
        max_uploads: Streams of bytes at once, whole videos and single parts alike. With the two above it bounds
            memory: every stream holds the part that is being filled, or one that waits for its turn, besides those in
            flight.
        idle_s: Seconds without data after which a stream is given up.
        lease_s: Seconds after which what a process that died was at is taken up or swept.
    """

    part_bytes: int
    parts_in_flight: int
    total_parts_in_flight: int
    max_uploads: int
    idle_s: float
    lease_s: float


class Capacity:
    """Hands out what `UploadLimits` allow.

    Args:
        limits: What uploads may use.

    Attributes:
        limits: The same.
        part_slots: One slot for each part that may be on its way to the store, or back from it.
        buffers: Where the memory of parts comes from.
    """

    def __init__(self, limits: UploadLimits) -> None:
        self.limits = limits
        self.part_slots = asyncio.Semaphore(limits.total_parts_in_flight)
        self.buffers = PartBuffers(part_bytes=limits.part_bytes, kept=limits.total_parts_in_flight)
        self._running = 0

    @contextlib.contextmanager
    def admitted(self) -> Iterator[None]:
        """Count one more stream of bytes for the length of the block.

        Raises:
            SageError: LIMIT_EXCEEDED.
        """
        if self._running >= self.limits.max_uploads:
            raise errors.too_many_uploads(self.limits.max_uploads)
        self._running += 1
        try:
            yield
        finally:
            self._running -= 1
