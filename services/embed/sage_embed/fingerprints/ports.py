"""Ports of fingerprints."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol

from sage_embed.embeddings.model import Progress, Video
from sage_embed.fingerprints.model import Block, Fingerprint, StoredObject
from sage_embed.jobs.ports import JobRepository


@dataclass(frozen=True)
class MakeRequest:
    """What a maker is to measure.

    Attributes:
        video: The video.
        video_url: Returns a fresh URL of its bytes, which supports ranges.
        first_block: Index of the first block to make.
        end_block: Index of the block to stop before; `None`: all are made.
    """

    video: Video
    video_url: Callable[[], Awaitable[str]] = field(repr=False)
    first_block: int = 0
    end_block: int | None = None


class FingerprintMaker(Protocol):
    """Measures videos."""

    def make(self, request: MakeRequest) -> AsyncGenerator[Block, None]:
        """Yield the blocks of a fingerprint in order, from `first_block` to before `end_block`.

        The blocks are the same bytes wherever a run starts and ends. Closing the generator stops the work.

        Raises:
            SageError: PROVIDER_FAILED if the video cannot be decoded; VIDEO_NOT_FOUND, SERVICE_UNAVAILABLE or one of
                `STORE_REASONS` if it cannot be read.
        """
        ...


class FingerprintRepository(Protocol):
    """Fingerprints as the API uses them. Every method raises STORE_UNAVAILABLE."""

    async def reuse(self, video_id: str, *, request_id: str) -> Fingerprint | None:
        """Return the fingerprint of a video and remember who received it, or return `None` if it must be made."""
        ...

    async def create(self, video: Video, *, request_id: str) -> Fingerprint:
        """Record a fingerprint and queue its work in one transaction, and return it.

        One that is reusable is returned as it is. Any other is made again: its blocks are discarded. Concurrent calls
        for one video, through any number of processes, record one fingerprint.
        """
        ...

    async def count_unfinished(self) -> int:
        """Return the number of fingerprints that are PENDING or PROCESSING."""
        ...

    async def get(self, video_id: str) -> Fingerprint | None:
        """Return a fingerprint, or `None`."""
        ...

    async def cancel(self, video_id: str, *, withdrawing: str = "") -> Fingerprint | None:
        """Make it CANCELLED if its state permits that, drop its work and blocks, and return it.

        Args:
            video_id: The video.
            withdrawing: A request ID: that request is withdrawn, and the fingerprint stays as it is if another request
                has received it, or if an embedding of the video is unfinished.
        """
        ...

    async def delete(self, video_id: str) -> bool:
        """Delete it with its work and blocks. Return whether it existed."""
        ...

    async def objects(self, video_id: str) -> list[StoredObject]:
        """Return its stored objects in order."""
        ...

    async def check(self) -> None:
        """Raise if the repository cannot be used."""
        ...


class FingerprintWork(JobRepository[Fingerprint], Protocol):
    """Fingerprints as a worker uses them. `job_id` is a fencing token, as for embeddings.

    A long fingerprint may have parts, each with a job. Every method then concerns the part of its job: `complete` makes
    the fingerprint COMPLETED once no part is left, and `fail` ends the work on all.
    """

    async def claim(self, video_id: str, job_id: int, /, *, part_blocks: int = 0) -> Fingerprint:
        """Make it PROCESSING and return it, with the part that the job makes if it has parts.

        One of an older version becomes one of this version, without blocks.

        Args:
            video_id: The video.
            job_id: The job.
            part_blocks: If more blocks are missing, they are split into parts of at most so many. The job makes the
                first part, and a job is queued for each of the others. 0: they are not split.
        """
        ...

    async def begin_object(self, video_id: str, job_id: int, stored: StoredObject) -> None:
        """Record an object that is about to be put into the store."""
        ...

    async def append(
        self, video_id: str, job_id: int, stored: StoredObject, *, frame_count: int, progress: Progress
    ) -> None:
        """Record that an object is in the store, with its number of frames and the resulting progress.

        The progress of a fingerprint that has parts is instead computed from all stored blocks.

        Raises:
            ValueError: It does not follow the stored ones.
        """
        ...


class FingerprintSweep(Protocol):
    """Fingerprints as the sweep uses them. Every method raises STORE_UNAVAILABLE."""

    async def claim_discarded(self, *, again_after: timedelta, limit: int) -> list[str]:
        """Return keys of objects that may be removed now. No other call returns them before `again_after`."""
        ...

    async def forget(self, keys: Sequence[str]) -> None:
        """Forget objects that have been removed from the store."""
        ...

    async def claim_unchecked(self, *, older_than: timedelta, limit: int) -> list[str]:
        """Return videos that have no embedding and whose fingerprint was not checked for `older_than`.

        They count as checked from now on.
        """
        ...

    async def delete(self, video_id: str) -> bool:
        """Delete a fingerprint with its work and blocks, unless the video has an embedding."""
        ...


class FingerprintObjects(Protocol):
    """The blocks of fingerprints in an object store. Every method raises one of `STORE_REASONS`."""

    async def put(self, key: str, data: bytes) -> None:
        """Store an object."""
        ...

    async def read(self, key: str, *, offset: int, length: int) -> bytes:
        """Return up to `length` bytes of an object from `offset`.

        Raises:
            KeyError: There is no such object.
        """
        ...

    async def remove(self, keys: Sequence[str]) -> None:
        """Remove objects. Those that do not exist are skipped."""
        ...

    async def check(self) -> None:
        """Raise if the store cannot be used."""
        ...
