"""The repositories of fingerprints that the contract tests run against."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from sage_embed.embeddings.model import Plan, Progress, Video
from sage_embed.fingerprints.model import StoredObject, object_key
from sage_embed.fingerprints.ports import FingerprintRepository, FingerprintWork
from sage_runtime.api import new_id


def make_video() -> Video:
    return Video(new_id("video"), duration_seconds=9.5, start_offset_seconds=0.08, has_audio=False)


def plan(video: Video, *, provider: str = "tests") -> Plan:
    return Plan(video, "scripted", "1", provider, 8, 2.0, ("visual",))


@dataclass(frozen=True)
class Fingerprints:
    """Both repositories of the same fingerprints.

    Attributes:
        api: As the API uses them.
        work: As a worker uses them.
        job_of: Returns the ID of the job that owns a fingerprint.
        make_older: Makes a fingerprint one of an earlier version.
        embed: Records an unfinished embedding of a video.
        discarded: Returns the keys that may be removed.
        lose: Makes the worker of a job count as dead.
    """

    api: FingerprintRepository
    work: FingerprintWork
    job_of: Callable[[str], Awaitable[int]]
    make_older: Callable[[str], Awaitable[None]]
    embed: Callable[[Video], Awaitable[None]]
    discarded: Callable[[], Awaitable[list[str]]]
    lose: Callable[[int], Awaitable[None]]

    async def begin(self, video: Video) -> int:
        """Create and claim a fingerprint, and return its job."""
        await self.api.create(video, request_id="")
        job_id = await self.job_of(video.id)
        await self.work.claim(video.id, job_id)
        return job_id

    async def store(self, video: Video, job_id: int, *, first_block: int, blocks: int = 2) -> StoredObject:
        """Store blocks of 100 bytes and 25 frames, and return the object."""
        key = object_key(video.id, job_id=job_id, first_block=first_block)
        stored = StoredObject(key, first_block, blocks, 100 * blocks)
        await self.work.begin_object(video.id, job_id, stored)
        progress = Progress((first_block + blocks) / 10, "Going.")
        await self.work.append(video.id, job_id, stored, frame_count=25 * blocks, progress=progress)
        return stored
