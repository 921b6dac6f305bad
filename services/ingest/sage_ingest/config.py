"""The settings of ingest, each an environment variable."""

from typing import Self

from pydantic import Field, SecretStr, model_validator
from sage_runtime.settings import ListenAddress, ServerSettings, Settings

from sage_ingest.capacity import UploadLimits
from sage_ingest.parts import MAX_PART_BYTES, MIB, MIN_PART_BYTES

_GIB = 1024 * MIB
# Source: "Amazon S3 multipart upload limits": the largest object.
_MAX_OBJECT_BYTES = 5 * 1024 * _GIB


class DatabaseSettings(Settings):
    """What `migrate` needs.

    Attributes:
        database_url: PostgreSQL, as the service's own role.
    """

    database_url: SecretStr = Field(validation_alias="SAGE_DATABASE_URL")


class IngestSettings(ServerSettings, DatabaseSettings):
    """What `serve` needs.

    Attributes:
        listen: HOST:PORT to serve on.
        database_connections: Connections to PostgreSQL at the most.
        s3_bucket: Where videos go. It must exist.
        s3_region: The bucket's region; empty for the profile's or the environment's.
        s3_profile: A profile of the AWS configuration files; empty for boto3's own order of credentials.
        s3_endpoint_url: A store that speaks S3; empty for AWS.
        s3_public_endpoint_url: The address by which players reach the store, for playback URLs; empty for the same.
        max_video_bytes: The largest video taken.
        part_bytes: Size of the parts that uploads go to S3 in.
        parts_in_flight: Parts of one upload on their way to S3 at once.
        total_parts_in_flight: Parts of all uploads on their way at once. Memory for uploads is at most
            `part_bytes * (total_parts_in_flight + max_concurrent_uploads)`.
        max_concurrent_uploads: Uploads at once; more are refused. Each part of an upload in parts counts as one while
            it comes in.
        max_open_uploads: Uploads in parts that may be open; more are refused.
        upload_expire_s: Seconds after its last part when an upload in parts that nobody completes is swept, and after
            its end when it is forgotten. A lifecycle rule of the bucket that ends multipart uploads must wait longer.
        upload_idle_s: Seconds without data after which an upload is given up.
        upload_lease_s: Seconds after which what a process that died has left is swept.
        sweep_interval_s: Seconds between two sweeps.
        probe_timeout_s: Seconds for finding out what a file holds.
        probe_max_bytes: How much of a file may be read for that.
        probes_at_once: Files looked into at once, each by a process.
    """

    listen: ListenAddress = Field(default="127.0.0.1:50051", validation_alias="SAGE_INGEST_LISTEN")
    database_connections: int = Field(default=10, ge=2, le=1000, validation_alias="SAGE_DATABASE_CONNECTIONS")
    s3_bucket: str = Field(min_length=1, validation_alias="S3_BUCKET_NAME")
    s3_region: str = Field(default="", validation_alias="S3_REGION")
    s3_profile: str = Field(default="", validation_alias="S3_PROFILE")
    s3_endpoint_url: str = Field(default="", pattern="^(https?://.+)?$", validation_alias="S3_ENDPOINT_URL")
    s3_public_endpoint_url: str = Field(
        default="", pattern="^(https?://.+)?$", validation_alias="S3_PUBLIC_ENDPOINT_URL"
    )
    max_video_bytes: int = Field(default=50 * _GIB, ge=1, le=_MAX_OBJECT_BYTES, validation_alias="SAGE_MAX_VIDEO_BYTES")
    part_bytes: int = Field(
        default=10 * MIB, ge=MIN_PART_BYTES, le=MAX_PART_BYTES, validation_alias="SAGE_UPLOAD_PART_BYTES"
    )
    parts_in_flight: int = Field(default=4, ge=1, le=64, validation_alias="SAGE_UPLOAD_PARTS_IN_FLIGHT")
    total_parts_in_flight: int = Field(default=4, ge=1, le=256, validation_alias="SAGE_UPLOAD_TOTAL_PARTS_IN_FLIGHT")
    max_concurrent_uploads: int = Field(default=16, ge=1, le=1000, validation_alias="SAGE_MAX_CONCURRENT_UPLOADS")
    max_open_uploads: int = Field(default=1000, ge=1, le=1_000_000, validation_alias="SAGE_MAX_OPEN_UPLOADS")
    upload_expire_s: float = Field(
        default=86_400.0, gt=0, le=30 * 86_400, validation_alias="SAGE_INGEST_UPLOAD_EXPIRE_SECONDS"
    )
    upload_idle_s: float = Field(default=60.0, gt=0, le=3600, validation_alias="SAGE_UPLOAD_IDLE_SECONDS")
    upload_lease_s: float = Field(default=60.0, gt=0, le=86_400, validation_alias="SAGE_UPLOAD_LEASE_SECONDS")
    sweep_interval_s: float = Field(default=30.0, gt=0, le=86_400, validation_alias="SAGE_SWEEP_INTERVAL_SECONDS")
    probe_timeout_s: float = Field(default=60.0, gt=0, le=3600, validation_alias="SAGE_PROBE_TIMEOUT_SECONDS")
    probe_max_bytes: int = Field(default=_GIB, ge=MIB, validation_alias="SAGE_PROBE_MAX_BYTES")
    probes_at_once: int = Field(default=2, ge=1, le=64, validation_alias="SAGE_PROBES_AT_ONCE")

    @model_validator(mode="after")
    def _check_parts(self) -> Self:
        if self.parts_in_flight > self.total_parts_in_flight:
            raise ValueError("SAGE_UPLOAD_PARTS_IN_FLIGHT must not be above SAGE_UPLOAD_TOTAL_PARTS_IN_FLIGHT")
        return self

    @property
    def upload_limits(self) -> UploadLimits:
        """What uploads may use."""
        return UploadLimits(
            part_bytes=self.part_bytes,
            parts_in_flight=self.parts_in_flight,
            total_parts_in_flight=self.total_parts_in_flight,
            max_uploads=self.max_concurrent_uploads,
            idle_s=self.upload_idle_s,
            lease_s=self.upload_lease_s,
        )
