"""Settings of ingest. Each is an environment variable."""

from typing import Self

from pydantic import Field, SecretStr, model_validator
from sage_runtime.process.settings import MIB, ListenAddress, ServerSettings, Settings
from sage_runtime.s3 import S3Settings

_GIB = 1024 * MIB
# Source: "Amazon S3 multipart upload limits", Amazon S3 User Guide.
_MIN_PART_BYTES = 5 * MIB
_MAX_PART_BYTES = 5 * _GIB
_MAX_OBJECT_BYTES = 5 * 1024 * _GIB


class DatabaseSettings(Settings):
    """Settings of `migrate`.

    Attributes:
        database_url: PostgreSQL, as the service's own role.
    """

    database_url: SecretStr = Field(validation_alias="SAGE_DATABASE_URL")


class IngestSettings(ServerSettings, DatabaseSettings, S3Settings):
    """Settings of `serve`.

    Attributes:
        listen: HOST:PORT to serve on.
        database_connections: Maximum number of connections to PostgreSQL.
        s3_public_endpoint_url: Address at which players reach the store, for playback URLs; empty for the same.
        max_video_bytes: Size of the largest video that is accepted, in bytes.
        part_bytes: Size of the parts that are sent to S3, in bytes; larger if a file would need more than 10,000.
        parts_in_flight: Parts of one upload that may be in flight to S3 at once.
        total_parts_in_flight: Parts of all uploads that may be in flight at once. Memory for uploads is at most
            `part_bytes * (total_parts_in_flight + max_concurrent_uploads)`.
        max_concurrent_uploads: Maximum number of concurrent uploads; more are refused. Each part of a resumable upload
            counts as one while it is received.
        max_open_uploads: Maximum number of open resumable uploads; more are refused.
        upload_expire_s: Seconds after its last part at which an incomplete resumable upload is swept, and seconds after
            which a closed one is removed. A lifecycle rule of the bucket that aborts multipart uploads must wait
            longer.
        upload_idle_s: Seconds without data after which an upload fails. Empty messages are no data.
        upload_min_bytes_per_s: Lowest rate at which a client must send the bytes of an upload or part, measured over
            `upload_idle_s` of waiting for it; slower calls fail, because each occupies one of the concurrent uploads.
            0: any rate.
        upload_lease_s: Seconds after which the leftovers of a dead process are swept.
        sweep_interval_s: Seconds between two sweeps.
        stray_upload_expire_s: Seconds after its last part at which a multipart upload of a video that the database does
            not know is aborted; at least twice `upload_expire_s`. Another installation that uses the same bucket must
            let its uploads expire sooner.
        probe_timeout_s: Maximum number of seconds for probing a file.
        probe_max_bytes: Maximum number of bytes that probing reads from a file.
        probe_whole_bytes: Size in bytes up to which probing reads a file whole if it has no index of all frames, so
            that every frame counts. Of larger files it reads the beginning and the end.
        max_picture_pixels: Maximum number of pixels of a film's picture.
        max_frames: Maximum number of frames of a film.
        max_duration_s: Maximum length of a film in seconds.
        max_decoded_bytes: Maximum size of all pictures of a film after decoding, in bytes.
        probes_at_once: Maximum number of files probed at once, each in its own process.
    """

    listen: ListenAddress = Field(default="127.0.0.1:50051", validation_alias="SAGE_INGEST_LISTEN")
    database_connections: int = Field(default=10, ge=2, le=1000, validation_alias="SAGE_DATABASE_CONNECTIONS")
    s3_public_endpoint_url: str = Field(
        default="", pattern="^(https?://.+)?$", validation_alias="S3_PUBLIC_ENDPOINT_URL"
    )
    max_video_bytes: int = Field(default=50 * _GIB, ge=1, le=_MAX_OBJECT_BYTES, validation_alias="SAGE_MAX_VIDEO_BYTES")
    part_bytes: int = Field(
        default=8 * MIB, ge=_MIN_PART_BYTES, le=_MAX_PART_BYTES, validation_alias="SAGE_UPLOAD_PART_BYTES"
    )
    parts_in_flight: int = Field(default=4, ge=1, le=64, validation_alias="SAGE_UPLOAD_PARTS_IN_FLIGHT")
    total_parts_in_flight: int = Field(default=4, ge=1, le=256, validation_alias="SAGE_UPLOAD_TOTAL_PARTS_IN_FLIGHT")
    max_concurrent_uploads: int = Field(default=16, ge=1, le=1000, validation_alias="SAGE_MAX_CONCURRENT_UPLOADS")
    max_open_uploads: int = Field(default=1000, ge=1, le=1_000_000, validation_alias="SAGE_MAX_OPEN_UPLOADS")
    upload_expire_s: float = Field(
        default=86_400.0, gt=0, le=30 * 86_400, validation_alias="SAGE_INGEST_UPLOAD_EXPIRE_SECONDS"
    )
    upload_idle_s: float = Field(default=60.0, gt=0, le=3600, validation_alias="SAGE_UPLOAD_IDLE_SECONDS")
    upload_min_bytes_per_s: float = Field(
        default=1024.0, ge=0, le=100 * MIB, validation_alias="SAGE_UPLOAD_MIN_BYTES_PER_SECOND"
    )
    upload_lease_s: float = Field(default=60.0, gt=0, le=86_400, validation_alias="SAGE_UPLOAD_LEASE_SECONDS")
    sweep_interval_s: float = Field(default=30.0, gt=0, le=86_400, validation_alias="SAGE_SWEEP_INTERVAL_SECONDS")
    stray_upload_expire_s: float = Field(
        default=7 * 86_400.0, gt=0, le=365 * 86_400, validation_alias="SAGE_INGEST_STRAY_UPLOAD_EXPIRE_SECONDS"
    )
    probe_timeout_s: float = Field(default=60.0, gt=0, le=3600, validation_alias="SAGE_PROBE_TIMEOUT_SECONDS")
    probe_max_bytes: int = Field(default=_GIB, ge=MIB, validation_alias="SAGE_PROBE_MAX_BYTES")
    probe_whole_bytes: int = Field(default=64 * MIB, ge=0, validation_alias="SAGE_PROBE_WHOLE_BYTES")
    max_picture_pixels: int = Field(default=64 * MIB, ge=4096, le=2**31 - 1, validation_alias="SAGE_MAX_PICTURE_PIXELS")
    max_frames: int = Field(default=10_000_000, ge=1, validation_alias="SAGE_MAX_FRAMES")
    max_duration_s: float = Field(default=172_800.0, gt=0, validation_alias="SAGE_MAX_DURATION_SECONDS")
    max_decoded_bytes: int = Field(default=100 * 10**12, ge=1, validation_alias="SAGE_MAX_DECODED_BYTES")
    probes_at_once: int = Field(default=2, ge=1, le=64, validation_alias="SAGE_PROBES_AT_ONCE")

    @model_validator(mode="after")
    def _check_parts(self) -> Self:
        if self.parts_in_flight > self.total_parts_in_flight:
            raise ValueError("SAGE_UPLOAD_PARTS_IN_FLIGHT must not be above SAGE_UPLOAD_TOTAL_PARTS_IN_FLIGHT")
        return self
