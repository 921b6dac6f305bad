"""Looking up, listing, playing and deleting the videos that are stored."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog
from sage_runtime.errors import invalid_field
from sage_runtime.fields import check_label, check_page_size
from sage_runtime.ids import check_id
from sage_runtime.paging import make_page_token, read_page_token

from sage_ingest import errors
from sage_ingest.model import VIDEO_ID_PREFIX, Video, object_key
from sage_ingest.pending import drop_pending
from sage_ingest.ports import VideoObjects, VideoRecords
from sage_ingest.spec import MAX_FILENAME_LENGTH
from sage_ingest.tasks import Unabandoned

DEFAULT_VALIDITY_S = 3600.0
MIN_VALIDITY_S = 60.0
# What signature version 4 allows.
MAX_VALIDITY_S = 7 * 24 * 3600.0

log: structlog.stdlib.BoundLogger = structlog.get_logger()


@dataclass(frozen=True)
class Page:
    """A page of videos.

    Attributes:
        videos: Newest first.
        next_page_token: Asks for the page after this one; empty on the last.
    """

    videos: Sequence[Video]
    next_page_token: str


@dataclass(frozen=True)
class PlaybackUrl:
    """A URL that plays a video without credentials.

    Attributes:
        url: Whoever has it can read the video.
        expire_time: When it stops working.
    """

    url: str
    expire_time: datetime


class Videos:
    """The videos that are stored.

    Args:
        records: Where they are recorded.
        objects: Where their bytes are.
        lease_s: Seconds after which a deletion whose process died is taken up by the sweep.
        unabandoned: Where deletions run. The process closes it before the stores.
    """

    def __init__(
        self, records: VideoRecords, objects: VideoObjects, *, lease_s: float, unabandoned: Unabandoned
    ) -> None:
        self._records = records
        self._objects = objects
        self._lease_s = lease_s
        self._unabandoned = unabandoned

    async def get(self, video_id: str) -> Video:
        """Return a video.

        Raises:
            SageError: FIELD_INVALID, VIDEO_NOT_FOUND or STORE_UNAVAILABLE.
        """
        check_id(video_id, prefix=VIDEO_ID_PREFIX, field="video_id")
        video = await self._records.get_video(video_id)
        if video is None:
            raise errors.video_not_found(video_id)
        return video

    async def list(self, *, page_size: int, page_token: str, filename_contains: str) -> Page:
        """Return a page of videos, newest first.

        Raises:
            SageError: FIELD_INVALID, PAGE_TOKEN_INVALID or STORE_UNAVAILABLE.
        """
        limit = check_page_size(page_size)
        if filename_contains:
            check_label(filename_contains, field="filename_contains", max_length=MAX_FILENAME_LENGTH)
        scope = f"videos?filename_contains={filename_contains}"
        before_id = read_page_token(page_token, scope=scope)
        # One more than the page shows whether there is a page after it.
        videos = await self._records.list_videos(
            before_id=before_id, limit=limit + 1, filename_contains=filename_contains
        )
        if len(videos) <= limit:
            return Page(videos, "")
        return Page(videos[:limit], make_page_token(videos[limit - 1].id, scope=scope))

    async def playback_url(self, video_id: str, *, validity_s: float | None) -> PlaybackUrl:
        """Return a URL that plays a video for `validity_s`, in whole seconds; None: for an hour.

        Raises:
            SageError: FIELD_INVALID, VIDEO_NOT_FOUND or STORE_UNAVAILABLE.
        """
        validity_s = DEFAULT_VALIDITY_S if validity_s is None else validity_s
        if not MIN_VALIDITY_S <= validity_s <= MAX_VALIDITY_S:
            raise invalid_field("validity", f"must be {MIN_VALIDITY_S:.0f} to {MAX_VALIDITY_S:.0f} seconds.")
        video = await self.get(video_id)
        # Taken before signing, so that the URL never stops working before it.
        signed_at = datetime.now(UTC)
        url = await self._objects.playback_url(
            object_key(video.id), filename=video.filename, content_type=video.content_type, validity_s=int(validity_s)
        )
        return PlaybackUrl(url, signed_at + timedelta(seconds=int(validity_s)))

    async def delete(self, video_id: str) -> None:
        """Delete a video. It is gone at once; bytes that the store does not delete now, the sweep deletes later.

        Raises:
            SageError: FIELD_INVALID, VIDEO_NOT_FOUND or STORE_UNAVAILABLE (of the records).
        """
        check_id(video_id, prefix=VIDEO_ID_PREFIX, field="video_id")
        await self._unabandoned.run(self._delete(video_id))

    async def _delete(self, video_id: str) -> None:
        key, holder = object_key(video_id), uuid.uuid4().hex
        if not await self._records.remove_video(video_id, key=key, holder=holder, lease_s=self._lease_s):
            raise errors.video_not_found(video_id)
        await drop_pending(self._records, self._objects, key, holder=holder)
        log.info("video deleted", video_id=video_id)
