"""Jobs of fingerprints: run the maker, and store its blocks in objects of a few MiB."""

from collections.abc import Awaitable, Callable
from contextlib import aclosing
from datetime import timedelta
from time import monotonic

import structlog
from sage_fingerprint.blocks import BLOCK_SECONDS
from sage_runtime.errors import Reason, SageError

from sage_embed.config import WorkerSettings
from sage_embed.embeddings.model import Progress, WorkLostError
from sage_embed.embeddings.ports import VideoCatalog
from sage_embed.fingerprints.model import VERSION, Block, Fingerprint, StoredObject, object_key, progress_at
from sage_embed.fingerprints.ports import FingerprintMaker, FingerprintObjects, FingerprintWork, MakeRequest
from sage_embed.jobs.runner import JobRunner, within_bounds
from sage_embed.jobs.turn import Turn

log = structlog.get_logger()

# Shortest interval between two writes of progress without blocks.
_PROGRESS_INTERVAL_S = 0.5


class BlockRecorder:
    """Gathers blocks into objects, and stores each object before the row says so.

    Args:
        work: Stores what there is.
        objects: Stores the blocks.
        fingerprint: The fingerprint, with the results of earlier work.
        job_id: The fencing token of every write.
        settings: How much is gathered.

    Attributes:
        advanced: Whether this run has stored blocks.
    """

    def __init__(
        self,
        work: FingerprintWork,
        objects: FingerprintObjects,
        fingerprint: Fingerprint,
        job_id: int,
        settings: WorkerSettings,
    ) -> None:
        self._work = work
        self._objects = objects
        self._fingerprint = fingerprint
        self._job_id = job_id
        self._settings = settings
        self.advanced = False
        self._blocks: list[Block] = []
        self._next = fingerprint.next_block
        self._stored_at = self._written_at = monotonic()

    async def record(self, block: Block) -> bool:
        """Take the next block. Return whether it, and all before it, are stored."""
        if block.index != self._next:
            raise ValueError(f"block {block.index} follows block {self._next - 1}")
        self._next += 1
        self._blocks.append(block)
        gathered = sum(len(one.data) for one in self._blocks)
        overdue = monotonic() - self._stored_at >= self._settings.fingerprint_store_s
        if gathered >= self._settings.fingerprint_object_bytes or overdue:
            await self.flush()
            return True
        # Other parts may be further: only what all of them have stored is known.
        if self._fingerprint.part is None and monotonic() - self._written_at >= _PROGRESS_INTERVAL_S:
            await self._work.save_progress(self._fingerprint.id, self._job_id, self._progress(block))
            self._written_at = monotonic()
        return False

    async def flush(self) -> None:
        """Store what has been gathered."""
        if not self._blocks:
            return
        blocks, self._blocks = self._blocks, []
        data = b"".join(block.data for block in blocks)
        video_id, first = self._fingerprint.id, blocks[0].index
        stored = StoredObject(
            key=object_key(video_id, job_id=self._job_id, first_block=first),
            first_block=first,
            block_count=len(blocks),
            size_bytes=len(data),
        )
        # Recorded first: if this process is killed, the sweep knows which object to remove.
        await self._work.begin_object(video_id, self._job_id, stored)
        await self._objects.put(stored.key, data)
        await self._work.append(
            video_id,
            self._job_id,
            stored,
            frame_count=sum(block.frame_count for block in blocks),
            progress=self._progress(blocks[-1]),
        )
        self.advanced = True
        self._stored_at = self._written_at = monotonic()

    def _progress(self, block: Block) -> Progress:
        return within_bounds(progress_at(block.end_seconds, self._fingerprint.video.duration_seconds))


class SharedFingerprint:
    """A fingerprint that is made by the job of an embedding, in the same pass of decoding.

    Whatever happens to it, the embedding continues. If it is cancelled or deleted, its blocks are dropped. If they
    cannot be stored, it is given a separate job.

    Args:
        work: Stores what there is.
        recorder: Stores the blocks.
        fingerprint: The fingerprint, with the results of earlier work.
        job_id: The job of the embedding.
    """

    def __init__(self, work: FingerprintWork, recorder: BlockRecorder, fingerprint: Fingerprint, job_id: int) -> None:
        self._work = work
        self._recorder = recorder
        self._fingerprint = fingerprint
        self._job_id = job_id
        self._over = False

    @property
    def first_block(self) -> int | None:
        """Index of the first block to make; `None`: another job makes them, or no block is wanted."""
        return None if self._over else self._fingerprint.block_count

    async def record(self, block: Block) -> None:
        """Take the next block."""
        await self._apart(lambda: self._recorder.record(block))

    async def flush(self) -> None:
        """Store what has been gathered."""
        await self._apart(self._recorder.flush)

    async def complete(self) -> None:
        """Make the fingerprint COMPLETED."""
        await self._apart(self._complete)

    async def give_back(self) -> None:
        """Give the fingerprint a separate job, which resumes it."""
        if self._over:
            return
        self._over = True
        try:
            await self._work.requeue(
                self._fingerprint.id,
                self._job_id,
                delay=timedelta(0),
                message="Waiting for a worker.",
                counts_as_attempt=False,
            )
        except WorkLostError:
            pass
        except SageError as error:
            # It is found without a job after that of the embedding has ended.
            log.warning("fingerprint_not_given_back", fingerprint_id=self._fingerprint.id, detail=error.detail)

    async def _complete(self) -> None:
        await self._recorder.flush()
        await self._work.complete(self._fingerprint.id, self._job_id, completed_message(self._fingerprint))
        self._over = True

    async def _apart(self, method: Callable[[], Awaitable[object]]) -> None:
        """Call a method unless the fingerprint is no longer this job's, and keep its errors from the embedding."""
        if self._over:
            return
        try:
            await method()
        except WorkLostError:
            self._over = True
        except SageError as error:
            log.warning("blocks_not_stored", fingerprint_id=self._fingerprint.id, detail=error.detail)
            await self.give_back()


class FingerprintRunner(JobRunner[Fingerprint, BlockRecorder]):
    """Runs fingerprints.

    Args:
        work: Stores what there is.
        objects: Stores the blocks.
        videos: Provides the videos.
        maker: Measures them.
        settings: When to store and when to retry.
        describe: Returns the user-facing text of an error.
    """

    name = "fingerprint"

    def __init__(
        self,
        *,
        work: FingerprintWork,
        objects: FingerprintObjects,
        videos: VideoCatalog,
        maker: FingerprintMaker,
        settings: WorkerSettings,
        describe: Callable[[SageError], str],
    ) -> None:
        super().__init__(repository=work, settings=settings, describe=describe)
        self._fingerprints = work
        self._objects = objects
        self._videos = videos
        self._maker = maker

    def _recorder(self, record: Fingerprint, job_id: int) -> BlockRecorder:
        return BlockRecorder(self._fingerprints, self._objects, record, job_id, self._settings)

    async def _claim(self, record_id: str, job_id: int) -> Fingerprint:
        part_blocks = -(-self._settings.fingerprint_part_s // BLOCK_SECONDS)
        return await self._fingerprints.claim(record_id, job_id, part_blocks=part_blocks)

    async def _work(self, record: Fingerprint, job_id: int, recorder: BlockRecorder, turn: Turn) -> str:
        if record.version > VERSION:
            # A newer worker must do it. There is one soon: this one is about to be replaced.
            detail = f"version {record.version} is newer than {VERSION}"
            raise SageError(Reason.SERVICE_UNAVAILABLE, detail=detail, service="embed")
        request = MakeRequest(
            video=record.video,
            video_url=lambda: self._videos.url(record.id, variant=job_id),
            first_block=record.next_block,
            end_block=record.end_block,
        )
        try:
            async with aclosing(self._maker.make(request)) as blocks:
                async for block in blocks:
                    if await recorder.record(block):
                        await turn.check()
        except SageError as error:
            if error.reason is Reason.STORE_MISCONFIGURED:
                # The store does not have the film. If that is because it was deleted, say so.
                await self._videos.get(record.id)
            raise
        await recorder.flush()
        return completed_message(record)

    async def share(self, video_id: str, job_id: int) -> SharedFingerprint | None:
        """Return the fingerprint that shares the job of an embedding, or `None` if there is none.

        It is not split: its blocks come from the one pass of decoding that the embedding needs anyway.

        Raises:
            SageError: STORE_UNAVAILABLE.
        """
        try:
            fingerprint = await self._fingerprints.claim(video_id, job_id)
        except WorkLostError:
            return None
        shared = SharedFingerprint(self._fingerprints, self._recorder(fingerprint, job_id), fingerprint, job_id)
        if fingerprint.version > VERSION:
            # A newer worker must do it.
            await shared.give_back()
            return None
        return shared


def completed_message(fingerprint: Fingerprint) -> str:
    """Return the last progress message."""
    return f"Fingerprinted {fingerprint.video.duration_seconds:.0f} s."
