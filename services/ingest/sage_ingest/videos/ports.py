"""Ports of videos: stored rows and stored bytes.

Every method may raise `SageError` with one of `STORE_REASONS` if the store behind it cannot be reached or used.

**Pending objects.** Everything that may exist in the object store without belonging to a stored video has a row in the
repository first: an object that is being uploaded, or one that is to be deleted. The row is leased to a holder, which
renews the lease while it works. If its process dies, the lease expires, and the sweep of any process takes the row
over and cleans up.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from sage_ingest.videos.model import Video


class LeaseLostError(Exception):
    """The holder no longer has the pending object: a sweep found the lease expired, or the row is gone."""


class RequestIdTakenError(Exception):
    """Another video or resumable upload with this request ID was stored first."""


@dataclass(frozen=True)
class Multipart:
    """A multipart upload in the object store.

    Attributes:
        key: The object that it is for.
        multipart_id: Its ID.
    """

    key: str
    multipart_id: str


class VideoRepository(Protocol):
    """Stored videos and pending objects."""

    async def add_pending(self, key: str, *, holder: str, lease_s: float) -> None:
        """Add a pending object, leased to `holder`. Call this before the key is sent to the object store."""
        ...

    async def renew_pending(self, key: str, *, holder: str, lease_s: float) -> None:
        """Let the lease on a pending object expire `lease_s` from now.

        Raises:
            LeaseLostError: The holder no longer has it.
        """
        ...

    async def remove_pending(self, key: str, *, holder: str) -> None:
        """Remove a pending object that is gone from the store. No effect if the holder no longer has it."""
        ...

    async def claim_expired(self, *, holder: str, lease_s: float, limit: int) -> list[str]:
        """Lease up to `limit` pending objects whose lease expired to `holder` and return their keys.

        No two callers get the same key. Open resumable uploads that held them are aborted in the same transaction.
        """
        ...

    async def pending_keys(self, keys: Collection[str]) -> set[str]:
        """Return which of these keys belong to a pending object."""
        ...

    async def add_video(self, video: Video, *, key: str, holder: str) -> None:
        """Turn a pending object into a stored video, atomically.

        Raises:
            LeaseLostError: The holder no longer has the object; nothing changed.
            RequestIdTakenError: Nothing changed.
            SageError: STORE_UNAVAILABLE. The outcome is unknown: leave the object to the sweep.
        """
        ...

    async def remove_video(self, video_id: str, *, key: str, holder: str, lease_s: float) -> bool:
        """Turn a stored video back into a pending object, atomically. Returns false if there is no such video.

        The resumable upload that it came from is removed too, which frees its request ID.
        """
        ...

    async def get_video(self, video_id: str) -> Video | None:
        """Return a video."""
        ...

    async def find_video(self, request_id: str) -> Video | None:
        """Return the video that was uploaded with this request ID, which must not be empty."""
        ...

    async def list_videos(
        self, *, before_id: str | None, limit: int, filename_contains: str = "", sha256: str = ""
    ) -> list[Video]:
        """Return up to `limit` videos, newest first.

        Args:
            before_id: Only videos older than this one; `None` starts with the newest.
            limit: Maximum number of videos.
            filename_contains: Only file names that contain this text, ignoring case; no character is a wildcard.
                Empty: all.
            sha256: Only videos with this checksum, in lower case. Empty: all.
        """
        ...

    async def check(self) -> None:
        """Raise if the repository cannot be used."""
        ...


class VideoObjects(Protocol):
    """The bytes of videos in the object store, by key."""

    async def check_accepts(self, size_bytes: int) -> None:
        """Raise if it is known, without asking the store, that it cannot take this many bytes now.

        That is if its last health check failed, or if its disk is known and has too little room. Most stores tell only
        when they are full.
        """
        ...

    async def begin(self, key: str, *, content_type: str) -> str:
        """Begin a multipart upload and return its ID."""
        ...

    async def put_part(self, key: str, *, multipart_id: str, part_number: int, data: bytearray) -> str:
        """Store one part and return its tag. `data` must not change until then.

        Args:
            key: The object.
            multipart_id: From `begin`.
            part_number: 1 to 10,000.
            data: The part's bytes: at least 5 MiB, except for the last part.
        """
        ...

    async def part_tags(self, key: str, *, multipart_id: str) -> frozenset[tuple[int, str]] | None:
        """Return number and tag of the parts in the store, or `None` if the multipart upload no longer exists.

        A store may have several parts with one number; it joins the one whose tag is given.
        """
        ...

    async def complete(self, key: str, *, multipart_id: str, tags: Sequence[str], size_bytes: int) -> None:
        """Join the parts into the object. Succeeds also if only the store's response was lost.

        Args:
            key: The object.
            multipart_id: From `begin`.
            tags: Tags of the parts, from number 1, without a gap.
            size_bytes: Size that the object must have.
        """
        ...

    async def discard(self, key: str) -> None:
        """Abort every multipart upload of the key and delete the object. Idempotent."""
        ...

    async def list_multiparts(self, *, older_than_s: float) -> list[Multipart]:
        """Return multipart uploads of videos' keys that were begun, and last received a part, longer ago than this."""
        ...

    async def abort(self, multipart: Multipart) -> None:
        """Abort one multipart upload. Idempotent."""
        ...

    async def read(self, key: str, *, offset: int, length: int) -> bytes:
        """Return up to `length` bytes from `offset`; fewer at the end of the object."""
        ...

    async def read_part(self, key: str, *, offset: int, length: int) -> bytes:
        """Return bytes as `read` does. Use it for large reads, so that small ones need not wait for them."""
        ...

    async def playback_url(self, key: str, *, filename: str, content_type: str, validity_s: int) -> str:
        """Return a URL that reads the object, ranges included, without credentials for `validity_s`."""
        ...

    async def check(self) -> None:
        """Raise if the object store cannot be used."""
        ...

    async def check_writable(self) -> None:
        """Raise if the object store can be read but accepts no videos, because it has no room."""
        ...
