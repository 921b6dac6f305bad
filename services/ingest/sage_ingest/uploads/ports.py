"""Port of resumable uploads, in addition to those of videos.

An open upload holds the pending object of its bytes under its own ID, leased until the upload expires. It ends by
becoming a video or by being aborted; each is one transaction with the change of the pending object.
"""

from collections.abc import Collection
from typing import Protocol

from sage_runtime.errors import SageError

from sage_ingest.uploads.model import OpenUpload, Part, Upload
from sage_ingest.videos.model import Video


class TooManyOpenError(Exception):
    """The maximum number of uploads is open."""


class UploadRepository(Protocol):
    """Stored resumable uploads and their parts. Times are the repository's own clock."""

    async def add_upload(self, upload: Upload, *, key: str, holder: str, expire_s: float, max_open: int) -> None:
        """Add an upload that expires in `expire_s` and transfer the pending object to it, atomically.

        Raises:
            LeaseLostError: The holder no longer has the object; nothing changed.
            RequestIdTakenError: Another upload that is not aborted has the request ID; nothing changed.
            TooManyOpenError: `max_open` uploads are open; nothing changed.
        """
        ...

    async def get_upload(self, upload_id: str) -> Upload | None:
        """Return an upload."""
        ...

    async def find_upload(self, request_id: str) -> Upload | None:
        """Return the upload with this request ID, which must not be empty, unless it is aborted."""
        ...

    async def list_open(self, *, before_id: str | None, limit: int) -> list[OpenUpload]:
        """Return up to `limit` open uploads, newest first.

        Args:
            before_id: Only uploads whose ID sorts before this one.
            limit: Maximum number of uploads.
        """
        ...

    async def list_parts(self, upload_id: str) -> list[Part]:
        """Return the parts that have arrived, by number. Empty if the upload is aborted."""
        ...

    async def hold_open(self, upload_id: str, *, expire_s: float) -> None:
        """Let an upload that accepts parts expire no earlier than in `expire_s`.

        Raises:
            LeaseLostError: It is not open, or is being completed.
        """
        ...

    async def add_part(self, upload_id: str, part: Part, *, expire_s: float) -> None:
        """Add a part, replacing the one with its number, and let the upload expire in `expire_s` from now.

        Raises:
            LeaseLostError: The upload is not open.
        """
        ...

    async def remove_parts(self, upload_id: str, parts: Collection[Part]) -> None:
        """Remove these parts. Parts that have replaced them meanwhile are kept."""
        ...

    async def claim_completion(self, upload_id: str, *, completer: str, lease_s: float) -> bool:
        """Lease the completion of an upload to `completer`. Returns false if it is not open, or leased already."""
        ...

    async def renew_completion(self, upload_id: str, *, completer: str, lease_s: float) -> None:
        """Let the completer's lease expire `lease_s` from now; the upload does not expire before.

        Raises:
            LeaseLostError: The upload is not open, or the completer no longer has the lease.
        """
        ...

    async def release_completion(self, upload_id: str, *, completer: str) -> None:
        """Let others complete the upload. No effect if the completer no longer has the lease."""
        ...

    async def complete_upload(self, upload_id: str, video: Video, *, key: str, completer: str) -> None:
        """Turn an upload and its pending object into a stored video, atomically.

        Raises:
            LeaseLostError: The upload is not open, or the completer no longer has the lease; nothing changed.
            SageError: STORE_UNAVAILABLE. The outcome is unknown.
        """
        ...

    async def abort_upload(
        self, upload_id: str, *, key: str, holder: str, lease_s: float, failure: SageError | None = None
    ) -> bool:
        """Abort an upload and lease its pending object to `holder`, atomically. Returns false if it is not open.

        Args:
            upload_id: The upload.
            key: Its pending object.
            holder: Cleans up now.
            lease_s: Seconds after which the sweep cleans up instead.
            failure: What was wrong with its bytes; `None` if a caller aborted it.
        """
        ...

    async def remove_closed(self, *, older_than_s: float) -> None:
        """Remove uploads that were completed or aborted longer ago than this."""
        ...
