"""What ingest needs of the outside world, each named for a capability.

Every method may raise `SageError` STORE_UNAVAILABLE where what is behind it cannot be reached.

**Pending objects.** Whatever may exist in the object store without being a stored video has an entry in the records
first: an object being uploaded, or one to be deleted. The entry is leased to a holder, who renews it while at work. A
process that dies stops renewing, and the sweep of any other takes the entry over and cleans up.
"""

from collections.abc import Sequence
from typing import Protocol

from sage_ingest.model import Media, Video


class LeaseLostError(Exception):
    """The entry of a pending object is held by somebody else or gone: the sweep took it for abandoned."""


class RequestIdTakenError(Exception):
    """A video, or an upload in parts, with the same request id was stored first."""


class UnreadableError(Exception):
    """The bytes are not a video that can be read.

    Args:
        why: The reason for people, as a clause that begins in lower case. Nothing from the decoder's own messages.
        detail: What only the log should say.
    """

    def __init__(self, why: str, *, detail: str = "") -> None:
        super().__init__(f"{why} ({detail})" if detail else why)
        self.why = why
        self.detail = detail


class VideoRecords(Protocol):
    """The durable records: videos, and the objects in the store that no video owns."""

    async def add_pending(self, key: str, *, holder: str, lease_s: float) -> None:
        """Record an object that may come into being, leased to `holder`. Call before the store hears of the key."""
        ...

    async def renew(self, key: str, *, holder: str, lease_s: float) -> None:
        """Lease the pending object for `lease_s` from now.

        Raises:
            LeaseLostError: The holder has it no more.
        """
        ...

    async def forget(self, key: str, *, holder: str) -> None:
        """Drop the entry, once nothing of the object is left. Does nothing where the holder has it no more."""
        ...

    async def claim_expired(self, *, holder: str, lease_s: float, limit: int) -> list[str]:
        """Take over up to `limit` entries whose lease ran out and return their keys. No two callers get the same.

        Open uploads that held them are aborted with it.
        """
        ...

    async def add_video(self, video: Video, *, key: str, holder: str) -> None:
        """Turn the pending object into a stored video, atomically.

        Raises:
            LeaseLostError: The holder has the object no more; nothing changed.
            RequestIdTakenError: Nothing changed.
            SageError: STORE_UNAVAILABLE. Whether it happened is unknown: the object must be left to the sweep.
        """
        ...

    async def remove_video(self, video_id: str, *, key: str, holder: str, lease_s: float) -> bool:
        """Turn a stored video back into a pending object, atomically; false where there is no such video.

        The upload in parts that it came from is forgotten, which frees its request id.
        """
        ...

    async def get_video(self, video_id: str) -> Video | None:
        """Return a video."""
        ...

    async def find_video(self, request_id: str) -> Video | None:
        """Return the video whose upload had this request id, which must not be empty."""
        ...

    async def list_videos(self, *, before_id: str | None, limit: int, filename_contains: str) -> list[Video]:
        """Return up to `limit` videos, newest first.

        Args:
            before_id: Only videos older than this one; None for the newest.
            limit: How many at the most.
            filename_contains: Only labels that contain this text, whatever the case; every character stands for
                itself. Empty: all.
        """
        ...

    async def check(self) -> None:
        """Raise where the records cannot be used."""
        ...


class VideoObjects(Protocol):
    """The bytes of videos, by key."""

    async def begin(self, key: str, *, content_type: str) -> str:
        """Begin a multipart upload and return its id."""
        ...

    async def put_part(self, key: str, *, multipart_id: str, part_number: int, data: bytearray) -> str:
        """Store one part and return its tag. `data` must not change until then.

        Args:
            key: The object.
            multipart_id: From `begin`.
            part_number: From 1 to 10,000.
            data: The part's bytes: at least 5 MiB, but for the last part.
        """
        ...

    async def part_tags(self, key: str, *, multipart_id: str) -> frozenset[tuple[int, str]] | None:
        """Return number and tag of the parts that the store has; None where the multipart upload is no more.

        A store may have several parts of one number, and joins the one that is named by its tag.
        """
        ...

    async def complete(self, key: str, *, multipart_id: str, tags: Sequence[str], size_bytes: int) -> None:
        """Join the parts into the object. Succeeds too where only the store's answer was lost.

        Args:
            key: The object.
            multipart_id: From `begin`.
            tags: Of the parts, from number 1 on, without a gap.
            size_bytes: What the object must have in the end.
        """
        ...

    async def discard(self, key: str) -> None:
        """Leave nothing of this key: abort every multipart upload of it, delete the object. Idempotent."""
        ...

    async def read(self, key: str, *, offset: int, length: int) -> bytes:
        """Return up to `length` bytes from `offset`; fewer at the end of the object."""
        ...

    async def read_part(self, key: str, *, offset: int, length: int) -> bytes:
        """Return bytes as `read` does. Large reads go this way, so that small ones need not wait for them."""
        ...

    async def playback_url(self, key: str, *, filename: str, content_type: str, validity_s: int) -> str:
        """Return a URL that reads the object, by ranges too, without credentials for `validity_s`."""
        ...

    async def check(self) -> None:
        """Raise where the store cannot be used."""
        ...


class ByteSource(Protocol):
    """Bytes that can be read anywhere."""

    @property
    def size_bytes(self) -> int:
        """How many there are."""
        ...

    async def read(self, *, offset: int, length: int) -> bytes:
        """Return up to `length` bytes from `offset`; fewer at the end."""
        ...


class Prober(Protocol):
    """Tells what a file holds."""

    async def probe(self, source: ByteSource) -> Media:
        """Open a file and measure it, in bounded time and reading a bounded number of bytes.

        Raises:
            UnreadableError: It is not a complete video that can be decoded.
        """
        ...
