"""Ports of embed: what its use cases require from adapters."""

from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Protocol

from sage_embed.embeddings.model import Embedding, Filter, Plan, Progress, Recipe, StoredSegments, Video
from sage_embed.jobs.ports import JobRepository


class VideoCatalog(Protocol):
    """The videos that ingest has stored."""

    async def get(self, video_id: str) -> Video:
        """Return a video.

        Raises:
            SageError: VIDEO_NOT_FOUND, SERVICE_UNAVAILABLE.
        """
        ...

    async def url(self, video_id: str, *, variant: int) -> str:
        """Return a fresh URL that serves the video's bytes and supports ranges.

        Args:
            video_id: The video.
            variant: Successive variants give different URLs, even for one video at the same time, so that a
                provider's task can be identified by the URL that it was created with.

        Raises:
            SageError: VIDEO_NOT_FOUND, SERVICE_UNAVAILABLE.
        """
        ...


class EmbeddingRepository(Protocol):
    """Embeddings as the API uses them. Every method raises STORE_UNAVAILABLE."""

    async def create(
        self, embedding_id: str, plan: Plan, *, request_id: str, fingerprint: str, force: bool = False
    ) -> Embedding:
        """Record an embedding and queue its work in one transaction, and return it.

        Nothing is recorded if `request_id` is known already (an empty one never is) or if a reusable embedding has the
        same recipe; then that embedding is returned. Concurrent calls for one recipe, through any number of processes,
        record one embedding.

        Unless it is forced, a new embedding adopts the provider's submission of the newest embedding of the recipe
        that failed or was cancelled within a week, with its task if that is known: the task is already paid for.

        Args:
            embedding_id: ID of the new embedding. If the returned one has another ID, it existed before.
            plan: What it will contain.
            request_id: The client's idempotency key, or empty.
            fingerprint: Digest of the request; identical requests have identical fingerprints.
            force: Record it even if a reusable embedding has the recipe. The new one replaces it for later calls.

        Raises:
            SageError: REQUEST_ID_REUSED if the request ID was used with another fingerprint.
        """
        ...

    async def reuse(self, recipe: Recipe, *, request_id: str, fingerprint: str) -> Embedding | None:
        """Return the reusable embedding of a recipe, or `None`, and remember it under the request ID.

        An embedding is reusable while it is PENDING, PROCESSING or COMPLETED, unless a forced one has replaced it.

        Raises:
            SageError: REQUEST_ID_REUSED.
        """
        ...

    async def find_request(self, request_id: str, *, fingerprint: str) -> Embedding | None:
        """Return the embedding that this request ID received, whatever its state, or `None`.

        Raises:
            SageError: REQUEST_ID_REUSED.
        """
        ...

    async def count_unfinished(self) -> int:
        """Return the number of embeddings that are PENDING or PROCESSING."""
        ...

    async def get(self, embedding_id: str) -> Embedding | None:
        """Return an embedding, or `None`."""
        ...

    async def list_page(self, matching: Filter, *, before_id: str | None, limit: int) -> list[Embedding]:
        """Return up to `limit` embeddings older than `before_id`, newest first."""
        ...

    async def cancel(self, embedding_id: str, *, withdrawing: str = "") -> Embedding | None:
        """Make it CANCELLED if its state permits that, drop its work and vectors, and return it.

        Its progress message becomes the `cancelled_message` of its previous state.

        Args:
            embedding_id: The embedding.
            withdrawing: A request ID: that request is withdrawn, and the embedding stays as it is if another request,
                with or without an ID, has received it, or if a replica serves watches of it. A reuse at the same time
                receives it or makes a new one, but never receives it cancelled.
        """
        ...

    async def keep_watches(self, replica: str, embedding_ids: Collection[str], *, valid_for: timedelta) -> None:
        """Record that a replica serves watches of these embeddings, for `valid_for` from now.

        Finished and unknown embeddings are skipped.
        """
        ...

    async def drop_watches(self, replica: str, embedding_ids: Collection[str]) -> None:
        """Record that a replica serves watches of these embeddings no longer. Expired records are deleted, too."""
        ...

    async def delete(self, embedding_id: str) -> bool:
        """Delete it with its work and vectors. Return whether it existed."""
        ...

    async def read_segments(
        self, embedding_id: str, track: str, *, first_index: int, max_segments: int
    ) -> StoredSegments | None:
        """Return at most `max_segments` segments, starting at `first_index`, or `None` if there are no more."""
        ...

    async def check(self) -> None:
        """Raise if the repository cannot be used."""
        ...


class WorkRepository(JobRepository[Embedding], Protocol):
    """Embeddings as a worker uses them. `complete` drops tracks without segments."""

    async def save_submission(self, embedding_id: str, job_id: int, url: str, *, key_fingerprint: str) -> None:
        """Store what is about to be submitted to the provider, in place of any earlier submission and its task.

        An empty URL means that the provider refused the last submission, so there is none.
        """
        ...

    async def save_task(self, embedding_id: str, job_id: int, provider_task_id: str) -> None:
        """Store the ID of the provider's task.

        Raises:
            TaskTakenError: The task belongs to another embedding.
        """
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
        """Store the next segments of a track and the resulting progress, all or nothing.

        Raises:
            ValueError: They do not follow the stored ones, or the plan has no such track.
        """
        ...


class Subscription(Protocol):
    """Reports changes to one embedding or fingerprint."""

    async def wait(self, timeout_s: float) -> bool:
        """Return `True` once it may have changed since the last call, or `False` after `timeout_s`.

        Raises:
            SageError: SERVICE_UNAVAILABLE if the process is stopping and reports no further changes.
        """
        ...


class ChangeFeed(Protocol):
    """Reports changes to embeddings and fingerprints, whichever process makes them."""

    def subscribe(self, watched_id: str) -> AbstractContextManager[Subscription]:
        """Report changes until the context exits. A fingerprint has the ID of its video.

        Raises:
            SageError: LIMIT_EXCEEDED.
        """
        ...
