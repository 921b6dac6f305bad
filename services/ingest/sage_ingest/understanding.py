"""Finding out what an object in the store holds."""

from sage_ingest import errors
from sage_ingest.model import Media, VideoSpec
from sage_ingest.ports import Prober, UnreadableError, VideoObjects
from sage_ingest.source import StoredObject


async def understand(prober: Prober, objects: VideoObjects, spec: VideoSpec, *, key: str) -> Media:
    """Return what the object of a file holds.

    Raises:
        SageError: VIDEO_UNREADABLE or STORE_UNAVAILABLE.
    """
    try:
        return await prober.probe(StoredObject(objects, key=key, size_bytes=spec.size_bytes))
    except UnreadableError as error:
        raise errors.video_unreadable(spec.filename, why=error.why, detail=error.detail) from error
