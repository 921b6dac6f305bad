"""What embed needs from outside, named for what it gives."""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol

from sage_embed.key_model import KeyFacts, KeyStatus
from sage_embed.model import Embedding, Failure, Filter, Plan, Progress, StoredSegments, Video


class VideoCatalog(Protocol):
    """Knows videos."""

    async def get(self, video_id: str) -> Video:
        """Return a video that is ready.

        Raises:
            SageError: VIDEO_NOT_FOUND, VIDEO_NOT_READY, SERVICE_UNAVAILABLE.
        """
        ...

    async def url(self, video_id: str, *, variant: int) -> str:
        """Return a fresh URL that serves the video's bytes, ranges included.

        Args:
            video_id: The video.
            variant: URLs of one video made in the same moment with successive variants are different ones, so that a
                provider's task can be told by the URL that it was asked for with.

        Raises:
            SageError: VIDEO_NOT_FOUND, SERVICE_UNAVAILABLE.
        """
        ...


class EmbeddingStore(Protocol):
    """Keeps embeddings: what the API does with them. Every method raises STORE_UNAVAILABLE."""

    async def create(self, embedding_id: str, plan: Plan, *, request_id: str, fingerprint: str) -> Embedding:
        """Record an embedding and queue its work, both or neither; return it.

        Where `request_id` is known already (an empty one never is), nothing is recorded and the embedding that has
        it is returned.

        Args:
            embedding_id: Its id.
            plan: What it is to become.
            request_id: The client's id of the request, or empty.
            fingerprint: Of the request; the same request has the same.

        Raises:
            SageError: REQUEST_ID_REUSED where the known request has another fingerprint.
        """
        ...

    async def find_request(self, request_id: str, *, fingerprint: str) -> Embedding | None:
        """Return the embedding that was created with this request id.

        Raises:
            SageError: REQUEST_ID_REUSED.
        """
        ...

    async def count_unfinished(self) -> int:
        """Return how many embeddings have not come to their end."""
        ...

    async def get(self, embedding_id: str) -> Embedding | None:
        """Return an embedding."""
        ...

    async def list_page(self, wanted: Filter, *, before_id: str | None, limit: int) -> list[Embedding]:
        """Return up to `limit` embeddings, newest first, beginning with the one before `before_id`."""
        ...

    async def cancel(self, embedding_id: str) -> Embedding | None:
        """Make it CANCELLED where its state allows that, drop its work and vectors, and return it as it is then.

        Its message is `cancelled_message`, for what was true in that moment.
        """
        ...

    async def delete(self, embedding_id: str) -> bool:
        """Drop it with its work and vectors. Return whether it was there."""
        ...

    async def read_segments(
        self, embedding_id: str, track: str, *, first_index: int, max_segments: int
    ) -> StoredSegments | None:
        """Return at most `max_segments` segments from `first_index` on; None where there are none."""
        ...

    async def ping(self) -> None:
        """Raise where the store cannot be used."""
        ...


class WorkStore(Protocol):
    """Keeps embeddings: what a worker does with them.

    `job_id` is the worker's right to write. Another worker that takes over gets another one, and from then on every
    method raises `WorkLostError` for the first, as it does once the embedding has come to its end. Every method raises
    STORE_UNAVAILABLE.
    """

    async def claim(self, embedding_id: str, job_id: int) -> Embedding:
        """Make it PROCESSING and return it with what earlier work has stored."""
        ...

    async def save_submission(self, embedding_id: str, job_id: int, url: str, *, key_fingerprint: str) -> None:
        """Store that the provider is about to be asked for a task, and what it is asked with."""
        ...

    async def save_task(self, embedding_id: str, job_id: int, provider_task_id: str) -> None:
        """Store the provider's task, and forget the URL that it was asked with.

        Raises:
            SageError: PROVIDER_FAILED where the task belongs to another embedding.
        """
        ...

    async def save_progress(self, embedding_id: str, job_id: int, progress: Progress) -> None:
        """Store how far the work is. A fraction that is smaller than the stored one does not replace it."""
        ...

    async def append(
        self,
        embedding_id: str,
        job_id: int,
        track: str,
        chunks: Sequence[StoredSegments],
        *,
        progress: Progress | None,
    ) -> None:
        """Store segments that follow those which are stored, and the progress that goes with them, all or nothing.

        Raises:
            ValueError: They do not follow, or the plan has no such track.
        """
        ...

    async def complete(self, embedding_id: str, job_id: int, message: str) -> None:
        """Make it COMPLETED and drop its tracks that have no segments."""
        ...

    async def fail(self, embedding_id: str, job_id: int, failure: Failure) -> None:
        """Make it FAILED and drop its vectors."""
        ...

    async def requeue(
        self, embedding_id: str, job_id: int, *, delay: timedelta, message: str, counts_as_attempt: bool
    ) -> None:
        """Hand the work to the queue again, to be taken up by any worker after `delay`."""
        ...

    async def lost(self, *, silent_for: timedelta, limit: int) -> list[tuple[Embedding, int]]:
        """Return unfinished embeddings that nobody works on, each with its job: what a worker that died leaves.

        A worker counts as dead when it has given no heartbeat for `silent_for`.
        """
        ...

    async def drop_dead_jobs(self, *, silent_for: timedelta) -> None:
        """Drop the jobs of dead workers that stand for no work any more."""
        ...


class Subscription(Protocol):
    """Hears of changes to one embedding."""

    async def wait(self, timeout_s: float) -> None:
        """Return once something may have changed since the last call, or after `timeout_s`.

        Raises:
            SageError: SERVICE_UNAVAILABLE where the process is about to end and tells of nothing more.
        """
        ...


class ChangeFeed(Protocol):
    """Tells of changes to embeddings, whichever process makes them."""

    def subscribe(self, embedding_id: str) -> AbstractContextManager[Subscription]:
        """Hear of changes from now on, until the context ends.

        Raises:
            SageError: LIMIT_EXCEEDED.
        """
        ...


@dataclass(frozen=True)
class ProviderKey:
    """A provider's key that is ready for use.

    Attributes:
        secret: The key itself.
        fingerprint: Tells keys apart without giving them away: what workers that share a key know it by.
    """

    secret: str = field(repr=False)
    fingerprint: str


class ProviderKeys(Protocol):
    """Gives out providers' keys."""

    async def current(self) -> ProviderKey | None:
        """Return the key to use now; None where none is set.

        Raises:
            SageError: STORE_UNAVAILABLE, or ENCRYPTION_KEY_MISSING where one is stored that cannot be decrypted.
        """
        ...


class ProviderPace(Protocol):
    """Spaces out the requests that all workers send under one key, so that its rate limit holds."""

    async def wait_turn(self, key: ProviderKey, *, in_use: Callable[[], Awaitable[bool]]) -> None:
        """Return when the next request may be sent.

        Args:
            key: What it is sent under.
            in_use: Whether that is still the key to use. It is asked again and again, as turns may be hours away, and
                where it is not, this returns though nothing may be sent.
        """
        ...

    async def limited(self, key: ProviderKey, *, retry_after_s: float | None) -> None:
        """Say that the provider refused a request for its rate: every worker on the key waits, then goes slower."""
        ...


class KeyVault(Protocol):
    """Keeps providers' keys, encrypted. Every asynchronous method raises STORE_UNAVAILABLE."""

    def require_encryption(self) -> None:
        """Return where a key can be stored.

        Raises:
            SageError: ENCRYPTION_KEY_MISSING.
        """
        ...

    async def put(self, provider: str, secret: str, facts: KeyFacts) -> None:
        """Store a provider's key in place of the one before.

        Raises:
            SageError: ENCRYPTION_KEY_MISSING.
        """
        ...

    async def read(self, provider: str) -> str | None:
        """Return the key itself; None where none is stored.

        Raises:
            SageError: ENCRYPTION_KEY_MISSING where it cannot be decrypted.
        """
        ...

    async def describe(self, provider: str) -> KeyFacts | None:
        """Return what is known of the key, whether or not it can be decrypted; None where none is stored."""
        ...

    async def delete(self, provider: str) -> None:
        """Drop a provider's key, where there is one."""
        ...


class KeyChecker(Protocol):
    """Asks a provider about keys."""

    async def check(self, secret: str) -> KeyStatus:
        """Return what the provider says of a key; UNKNOWN, and no error, where nothing can be told."""
        ...
