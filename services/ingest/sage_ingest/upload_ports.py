"""What uploads in parts need of the outside world, besides `ports`.

An upload that is open holds the pending object of its bytes under its own id, leased until the upload expires. It ends
by becoming a video or by being aborted, each in one transaction with what becomes of the entry.
"""

from collections.abc import Collection
from typing import Protocol

from sage_runtime.errors import SageError

from sage_ingest.model import Part, Upload, Video


class TooManyOpenError(Exception):
    """There are as many open uploads as there may be."""


class UploadRecords(Protocol):
    """The durable records of uploads in parts. Times count on the records' own clock."""

    async def add_upload(self, upload: Upload, *, key: str, holder: str, expire_s: float, max_open: int) -> None:
        """Give a pending object to a new upload, which expires in `expire_s`, atomically.

        Raises:
            LeaseLostError: The holder has the object no more; nothing changed.
            RequestIdTakenError: Another upload that is not aborted has the request id; nothing changed.
            TooManyOpenError: `max_open` uploads are open; nothing changed.
        """
        ...

    async def get_upload(self, upload_id: str) -> Upload | None:
        """Return an upload."""
        ...

    async def find_upload(self, request_id: str) -> Upload | None:
        """Return the upload that has this request id, which must not be empty, and is not aborted."""
        ...

    async def list_parts(self, upload_id: str) -> list[Part]:
        """Return the parts that have arrived, by number; none of an upload that was aborted."""
        ...

    async def hold_open(self, upload_id: str, *, expire_s: float) -> None:
        """Let an upload that takes parts expire no earlier than in `expire_s`.

        Raises:
            LeaseLostError: It is not open, or somebody is completing it.
        """
        ...

    async def add_part(self, upload_id: str, part: Part, *, expire_s: float) -> None:
        """Record a part in place of the one with its number, and let the upload expire in `expire_s` from now.

        Raises:
            LeaseLostError: The upload is not open.
        """
        ...

    async def forget_parts(self, upload_id: str, parts: Collection[Part]) -> None:
        """Drop these parts. What has been put in their place meanwhile stays."""
        ...

    async def claim_completion(self, upload_id: str, *, completer: str, lease_s: float) -> bool:
        """Let `completer` alone complete an upload for `lease_s`; false where it is not open or another one does."""
        ...

    async def renew_completion(self, upload_id: str, *, completer: str, lease_s: float) -> None:
        """Let the completer go on for `lease_s` from now; the upload does not expire meanwhile.

        Raises:
            LeaseLostError: The upload is not open, or the completer's no more.
        """
        ...

    async def release_completion(self, upload_id: str, *, completer: str) -> None:
        """Let others complete it. Does nothing where it is the completer's no more."""
        ...

    async def complete_upload(self, upload_id: str, video: Video, *, key: str, completer: str) -> None:
        """Turn an upload and its pending object into a stored video, atomically.

        Raises:
            LeaseLostError: The upload is not open, or the completer's no more; nothing changed.
            SageError: STORE_UNAVAILABLE. Whether it happened is unknown.
        """
        ...

    async def abort_upload(
        self, upload_id: str, *, key: str, holder: str, lease_s: float, failure: SageError | None = None
    ) -> bool:
        """Abort an upload and lease its pending object to `holder`, atomically; false where it is not open.

        Args:
            upload_id: The upload.
            key: Its pending object.
            holder: Who cleans up now.
            lease_s: After which the sweep does.
            failure: What was wrong with its bytes; None where somebody wished it.
        """
        ...

    async def forget_closed(self, *, older_than_s: float) -> None:
        """Drop what was completed or aborted longer ago than this."""
        ...
