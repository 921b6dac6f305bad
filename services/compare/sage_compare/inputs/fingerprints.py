"""The fingerprints of videos, ready to align: the port that reads them and the cache in front of it."""

from dataclasses import dataclass
from typing import Protocol

from sage_fingerprint.model import Fingerprint

from sage_compare.inputs.cache import ReadCache


@dataclass(frozen=True)
class StoredFingerprint:
    """A fingerprint as the embed service describes it, without its bytes.

    Attributes:
        video_id: The video.
        version: Version of the measurements and of the format.
        state: Name of its state, such as `COMPLETED`.
        revision: Grows with every change. One that is made again has another.
        frame_count: Number of frames.
    """

    video_id: str
    version: int
    state: str
    revision: int
    frame_count: int

    @property
    def completed(self) -> bool:
        """Whether all its bytes are stored."""
        return self.state == "COMPLETED"

    @property
    def in_progress(self) -> bool:
        """Whether it may still become COMPLETED."""
        return self.state in {"PENDING", "PROCESSING"}


class FingerprintReader(Protocol):
    """Reads fingerprints. Failures are raised as `SageError`."""

    async def get(self, video_id: str) -> StoredFingerprint:
        """Return the fingerprint of a video as it is now.

        Raises:
            SageError: FINGERPRINT_NOT_FOUND, SERVICE_UNAVAILABLE, STORE_UNAVAILABLE.
        """
        ...

    async def read(self, fingerprint: StoredFingerprint) -> Fingerprint:
        """Return a completed fingerprint.

        Raises:
            SageError: FINGERPRINT_NOT_FOUND, FINGERPRINT_NOT_COMPLETED, SERVICE_UNAVAILABLE, STORE_UNAVAILABLE.
            FingerprintFormatError: The bytes are damaged or of another version.
        """
        ...


class FingerprintCache:
    """Caches recently used fingerprints, by video and revision, up to a number of bytes.

    A completed fingerprint never changes. That of a deleted video is not served, because `sage_compare.comparer` looks
    it up in each call.

    Args:
        reader: Source of fingerprints.
        max_bytes: Memory for cached fingerprints. Larger ones are returned but not cached.
        max_reads: How many may be read at once.
    """

    def __init__(self, reader: FingerprintReader, *, max_bytes: int, max_reads: int) -> None:
        self._reader = reader
        self._cache = ReadCache[tuple[str, int, int], Fingerprint](max_bytes=max_bytes, max_reads=max_reads)

    @property
    def nbytes(self) -> int:
        """Memory of the cached arrays in bytes."""
        return self._cache.nbytes

    async def fingerprint(self, stored: StoredFingerprint) -> Fingerprint:
        """Return a completed fingerprint, from the cache if it is in it.

        Raises:
            SageError: As `FingerprintReader.read`.
            FingerprintFormatError: As `FingerprintReader.read`.
        """
        key = (stored.video_id, stored.version, stored.revision)
        return await self._cache.get(key, lambda: self._reader.read(stored))
