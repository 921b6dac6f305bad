"""The settings of the compare service."""

from pydantic import Field
from sage_runtime.process.settings import MIB, ListenAddress, ServerSettings


class CompareSettings(ServerSettings):
    """Settings of the compare service, in addition to those of every server.

    Attributes:
        listen: HOST:PORT to serve on.
        embed_address: HOST:PORT of the embed service.
        embed_timeout_s: Seconds allowed for reading a track from the embed service. The caller's deadline applies if it
            is earlier.
        cache_bytes: Memory for cached segments. Two hours of 2 s segments with 1,024 dimensions need 15 MB. 0 disables
            the cache.
        max_segments: Maximum number of segments per embedding that one call may compare, over all tracks. The response
            grows with them; with 30,000 (16 hours of 2 s segments) it stays below 4 MiB, the most that gRPC clients
            accept by default.
        fingerprint_cache_bytes: Memory for cached fingerprints. Two hours at 24 frames/s need 250 MB. 0 disables the
            cache.
        max_frames: Maximum number of frames of a film that is aligned; each needs 1.5 KB of memory while it is. With
            1,000,000, films of 11 hours at 24 frames/s.
        max_alignments: Maximum number of pairs of films that are in memory and aligned at once; other calls wait until
            their deadline.
        max_reads: Maximum number of tracks read from the embed service at once; each is held in memory while it is
            read.
    """

    listen: ListenAddress = Field(default="127.0.0.1:50053", validation_alias="SAGE_COMPARE_LISTEN")
    embed_address: str = Field(default="127.0.0.1:50052", validation_alias="SAGE_EMBED_ADDRESS")
    embed_timeout_s: float = Field(default=60.0, gt=0, le=3600, validation_alias="SAGE_COMPARE_EMBED_TIMEOUT_SECONDS")
    cache_bytes: int = Field(default=256 * MIB, ge=0, validation_alias="SAGE_COMPARE_CACHE_BYTES")
    max_segments: int = Field(default=30_000, ge=1, validation_alias="SAGE_COMPARE_MAX_SEGMENTS")
    fingerprint_cache_bytes: int = Field(
        default=1024 * MIB, ge=0, validation_alias="SAGE_COMPARE_FINGERPRINT_CACHE_BYTES"
    )
    max_frames: int = Field(default=1_000_000, ge=1, le=4_000_000, validation_alias="SAGE_COMPARE_MAX_FRAMES")
    max_alignments: int = Field(default=2, ge=1, le=64, validation_alias="SAGE_COMPARE_MAX_ALIGNMENTS")
    max_reads: int = Field(default=4, ge=1, le=64, validation_alias="SAGE_COMPARE_MAX_READS")
