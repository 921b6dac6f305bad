"""The fingerprint of a video: its parts and its objects in the store. Its states are those of an embedding."""

from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise

from sage_fingerprint.model import VERSION

from sage_embed.embeddings.model import UNFINISHED, Failure, Progress, State, Video

__all__ = [
    "OBJECT_KEY_PREFIX",
    "VERSION",
    "Block",
    "Fingerprint",
    "Part",
    "StoredObject",
    "object_key",
    "progress_at",
    "split_blocks",
]

# ingest uses another prefix of the bucket, and its sweeps leave this one alone.
OBJECT_KEY_PREFIX = "fingerprints/"


@dataclass(frozen=True)
class Part:
    """Consecutive blocks of a long fingerprint, which one job makes.

    Attributes:
        next_block: Index of the first one that is not stored.
        end_block: Index of the block after the last one.
    """

    next_block: int
    end_block: int


@dataclass(frozen=True)
class Fingerprint:
    """A fingerprint in its current state.

    Attributes:
        video: The video, when the fingerprint was requested.
        version: Version of the format and of the measurements.
        state: State of the work.
        progress: Progress of the work.
        failure: Why it failed; `None` in every state but FAILED.
        create_time: When it was requested.
        start_time: When work began; `None` while PENDING.
        finish_time: When it reached its final state; `None` before.
        revision: Grows by at least one with every change.
        block_count: Number of stored blocks.
        frame_count: Number of frames in them.
        size_bytes: Size of them.
        attempts: Failed runs since blocks were last stored.
        part: The part that a job makes; `None`: the job makes all, or there is no job.
    """

    video: Video
    version: int
    state: State
    progress: Progress
    failure: Failure | None
    create_time: datetime
    start_time: datetime | None
    finish_time: datetime | None
    revision: int
    block_count: int = 0
    frame_count: int = 0
    size_bytes: int = 0
    attempts: int = 0
    part: Part | None = None

    @property
    def id(self) -> str:
        """The video's ID, which identifies its fingerprint."""
        return self.video.id

    @property
    def next_block(self) -> int:
        """Index of the block that its job is to make next."""
        return self.block_count if self.part is None else self.part.next_block

    @property
    def end_block(self) -> int | None:
        """Index of the block before which its job is to stop; `None`: it makes all."""
        return None if self.part is None else self.part.end_block

    @property
    def finished(self) -> bool:
        """Whether its state is final."""
        return self.state not in UNFINISHED

    @property
    def reusable(self) -> bool:
        """Whether a request receives it as it is. If not, it is made again."""
        return self.state not in {State.FAILED, State.CANCELLED} and self.version >= VERSION


@dataclass(frozen=True)
class Block:
    """A part of a fingerprint, as the maker yields it.

    Attributes:
        index: Its index, counted from 0.
        data: Its bytes.
        frame_count: Number of frames that it describes.
        end_seconds: Where they end on the timeline.
    """

    index: int
    data: bytes = field(repr=False)
    frame_count: int
    end_seconds: float


@dataclass(frozen=True)
class StoredObject:
    """Consecutive blocks in one object of the store.

    Attributes:
        key: The object's key.
        first_block: Index of the first block.
        block_count: Number of blocks.
        size_bytes: Size of the object.
    """

    key: str
    first_block: int
    block_count: int
    size_bytes: int


def progress_at(done_seconds: float, duration_seconds: float) -> Progress:
    """Return the progress when so much of a film is done."""
    done = min(done_seconds, duration_seconds)
    fraction = done / duration_seconds if duration_seconds else 0.0
    return Progress(fraction, f"Fingerprinted {done:.0f} of {duration_seconds:.0f} s.")


def split_blocks(first_block: int, end_block: int, *, part_blocks: int) -> list[Part]:
    """Return parts of about equal size, of at most so many blocks each, that follow each other.

    If there are several, their number is even where possible, so that two workers finish at about one time.
    """
    blocks = end_block - first_block
    count = -(-blocks // part_blocks)
    if count > 1:
        count = min(blocks, count + count % 2)
    borders = [first_block + blocks * number // count for number in range(count + 1)]
    return [Part(first, end) for first, end in pairwise(borders)]


def object_key(video_id: str, *, job_id: int, first_block: int) -> str:
    """Return the key of an object. A job never writes under the key of another, whichever of them is late."""
    return f"{OBJECT_KEY_PREFIX}{video_id}/{VERSION}/{first_block:05}-{job_id}"
