"""Getting, listing, playing and deleting stored videos."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog
from sage_runtime.api import make_page_token, page_size_of, read_page_token

from sage_ingest import errors
from sage_ingest.videos.model import Video, object_key
from sage_ingest.videos.pending import PendingObjects, ShieldedTasks
from sage_ingest.videos.ports import VideoObjects, VideoRepository

_DEFAULT_VALIDITY_S = 3600.0

log: structlog.stdlib.BoundLogger = structlog.get_logger()


@dataclass(frozen=True)
class Page:
    """A page of videos.

    Attributes:
        videos: Newest first.
        next_page_token: Requests the page after this one; empty on the last page.
    """

    videos: Sequence[Video]
    next_page_token: str


@dataclass(frozen=True)
class PlaybackUrl:
    """A URL that plays a video without credentials.

    Attributes:
        url: Anyone who has it can read the video.
        expire_time: When it stops working.
    """

    url: str
    expire_time: datetime


class VideoCatalog:
    """The stored videos.

    Args:
        repository: Stored videos.
        objects: Their bytes.
        pending: Objects to delete.
        shielded: Runs deletions. Close it before the stores.
    """

    def __init__(
        self, repository: VideoRepository, objects: VideoObjects, pending: PendingObjects, shielded: ShieldedTasks
    ) -> None:
        self._repository = repository
        self._objects = objects
        self._pending = pending
        self._shielded = shielded

    async def get(self, video_id: str) -> Video:
        """Return a video.

        Raises:
            SageError: VIDEO_NOT_FOUND or STORE_UNAVAILABLE.
        """
        video = await self._repository.get_video(video_id)
        if video is None:
            raise errors.video_not_found(video_id)
        return video

    async def list(self, *, page_size: int, page_token: str, filename_contains: str, sha256: str) -> Page:
        """Return a page of videos, newest first.

        Args:
            page_size: Zero for the default; coerced to the maximum.
            page_token: From the previous page; empty for the first page.
            filename_contains: Filter, see `VideoRepository.list_videos`.
            sha256: Filter, upper or lower case.

        Raises:
            SageError: FIELD_INVALID, PAGE_TOKEN_INVALID or STORE_UNAVAILABLE.
        """
        limit, sha256 = page_size_of(page_size), sha256.lower()
        scope = f"videos?filename_contains={filename_contains}&sha256={sha256}"
        before_id = read_page_token(page_token, scope=scope)
        # One extra entry shows whether there is a next page.
        videos = await self._repository.list_videos(
            before_id=before_id, limit=limit + 1, filename_contains=filename_contains, sha256=sha256
        )
        if len(videos) <= limit:
            return Page(videos, "")
        return Page(videos[:limit], make_page_token(videos[limit - 1].id, scope=scope))

    async def playback_url(self, video_id: str, *, validity_s: float | None) -> PlaybackUrl:
        """Return a URL that plays a video for `validity_s`, in whole seconds; `None`: for an hour.

        Raises:
            SageError: VIDEO_NOT_FOUND or STORE_UNAVAILABLE.
        """
        seconds = int(_DEFAULT_VALIDITY_S if validity_s is None else validity_s)
        video = await self.get(video_id)
        # Read before signing, so that the URL never stops working earlier than stated.
        signed_at = datetime.now(UTC)
        url = await self._objects.playback_url(
            object_key(video.id), filename=video.filename, content_type=video.content_type, validity_s=seconds
        )
        return PlaybackUrl(url, signed_at + timedelta(seconds=seconds))

    async def delete(self, video_id: str) -> None:
        """Delete a video. It disappears at once; a later sweep deletes bytes that the store cannot delete now.

        Raises:
            SageError: VIDEO_NOT_FOUND or STORE_UNAVAILABLE (of the repository).
        """
        await self._shielded.run(self._delete(video_id))

    async def _delete(self, video_id: str) -> None:
        key, holder = object_key(video_id), self._pending.new_holder()
        if not await self._repository.remove_video(video_id, key=key, holder=holder, lease_s=self._pending.lease_s):
            raise errors.video_not_found(video_id)
        await self._pending.discard(key, holder=holder)
        log.info("video_deleted", video_id=video_id)
