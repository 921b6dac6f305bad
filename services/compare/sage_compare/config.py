"""The settings of the compare service."""

from pydantic import Field
from sage_runtime.settings import MIB, ListenAddress, ServerSettings


class CompareSettings(ServerSettings):
    """Settings of the compare service, besides those of every server.

    Attributes:
        listen: HOST:PORT to serve on.
        embed_address: HOST:PORT of the embed service.
        embed_timeout_s: Seconds that reading from the embed service may take, where the caller waits longer.
        cache_bytes: What the clips that are kept in memory may take. Two hours of 2 s clips with 1,024 dimensions take
            15 MB. 0 keeps none.
        max_segments: How many segments of an embedding may be compared at once, a second track's included. An answer
            grows with them; with 30,000 (16 hours of 2 s clips) it fits in the 4 MiB that gRPC clients take, whatever
            differs.
        max_reads: How many tracks may be read from the embed service at once; each is in memory while it is.
    """

    listen: ListenAddress = Field(default="127.0.0.1:50053", validation_alias="SAGE_COMPARE_LISTEN")
    embed_address: str = Field(default="127.0.0.1:50052", validation_alias="SAGE_EMBED_ADDRESS")
    embed_timeout_s: float = Field(default=60.0, gt=0, le=3600, validation_alias="SAGE_COMPARE_EMBED_TIMEOUT_SECONDS")
    cache_bytes: int = Field(default=256 * MIB, ge=0, validation_alias="SAGE_COMPARE_CACHE_BYTES")
    max_segments: int = Field(default=30_000, ge=1, validation_alias="SAGE_COMPARE_MAX_SEGMENTS")
    max_reads: int = Field(default=4, ge=1, le=64, validation_alias="SAGE_COMPARE_MAX_READS")
