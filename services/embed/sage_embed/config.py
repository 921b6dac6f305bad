"""Settings of embed's processes, read from environment variables."""

from datetime import timedelta
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr, ValidationInfo, field_validator
from sage_runtime.errors import SageError
from sage_runtime.process.settings import MIB, ListenAddress, OptionalListenAddress, ServerSettings, Settings
from sage_runtime.s3 import S3Settings

from sage_embed.keys.model import read_key

SCHEMA = "embed"


def _check_api_key(key: SecretStr) -> SecretStr:
    """Return the key without a trailing line break, as files have it. The rules are those of SetApiKey."""
    try:
        return SecretStr(read_key(key.get_secret_value()))
    except SageError as error:
        raise ValueError(error.violations[0].rule.rstrip(".")) from None


ApiKeySetting = Annotated[SecretStr, AfterValidator(_check_api_key)]


class DatabaseSettings(ServerSettings):
    """Settings of `python -m sage_embed migrate` and `rotate-keys`.

    Attributes:
        database_url: URL of PostgreSQL, with a role that owns the schema `embed`.
        twelvelabs_api_key: The TwelveLabs API key that is used while no key is set with SetApiKey.
        key_encryption_keys: Key-encryption keys for the API keys set with SetApiKey: `ID:KEY` entries separated by
            commas or line breaks, where KEY is 32 bytes in base64 (`openssl rand -base64 32`). The first one
            encrypts; all of them decrypt. If neither this nor the file is set, API keys cannot be stored.
        key_encryption_keys_file: A file in the same format, instead of the variable.
    """

    database_url: SecretStr = Field(validation_alias="SAGE_DATABASE_URL")
    twelvelabs_api_key: ApiKeySetting | None = Field(default=None, validation_alias="TWELVELABS_API_KEY")
    key_encryption_keys: SecretStr | None = Field(default=None, validation_alias="SAGE_KEY_ENCRYPTION_KEYS")
    key_encryption_keys_file: Path | None = Field(default=None, validation_alias="SAGE_KEY_ENCRYPTION_KEYS_FILE")


class EmbedSettings(DatabaseSettings, S3Settings):
    """Settings that the service and the worker share. Fingerprints are in the bucket, under `fingerprints/`.

    Attributes:
        database_connections: Maximum number of connections to PostgreSQL, plus one that listens for changes.
        ingest_address: HOST:PORT of ingest.
        url_validity_s: Seconds for which a worker or a provider can read a video through one URL. A URL may be valid
            for up to an hour longer.
    """

    database_connections: int = Field(default=10, ge=2, le=1000, validation_alias="SAGE_DATABASE_CONNECTIONS")
    ingest_address: str = Field(default="127.0.0.1:50051", validation_alias="SAGE_INGEST_ADDRESS")
    url_validity_s: int = Field(
        default=6 * 3600, ge=60, le=7 * 24 * 3600 - 3600, validation_alias="SAGE_EMBED_URL_VALIDITY_SECONDS"
    )


class ApiSettings(EmbedSettings):
    """Settings of `python -m sage_embed serve`.

    Attributes:
        listen: HOST:PORT to serve on.
        heartbeat_s: Seconds without a change after which a watch sends a heartbeat. The contract promises 15.
        watch_poll_s: Seconds after which a watch reads the database even if no change was announced.
        watch_lease_s: Seconds for which a watch still counts as someone who waits for the embedding after the process
            that served it was killed.
        max_watches: Maximum number of concurrent watches; more are refused with LIMIT_EXCEEDED. A watch uses 40 KB.
        max_concurrent_calls: Maximum number of concurrent calls, including watches; more are refused with
            RESOURCE_EXHAUSTED. Health calls and calls that have not sent their first message do not count.
        max_unfinished: Maximum number of PENDING and PROCESSING embeddings, and of such fingerprints; more are refused
            with LIMIT_EXCEEDED.
    """

    listen: ListenAddress = Field(default="127.0.0.1:50052", validation_alias="SAGE_EMBED_LISTEN")
    heartbeat_s: float = Field(default=10.0, gt=0, le=15, validation_alias="SAGE_EMBED_HEARTBEAT_SECONDS")
    watch_poll_s: float = Field(default=5.0, gt=0, le=60, validation_alias="SAGE_EMBED_WATCH_POLL_SECONDS")
    watch_lease_s: float = Field(default=60.0, gt=0, le=3600, validation_alias="SAGE_EMBED_WATCH_LEASE_SECONDS")
    max_watches: int = Field(default=2000, ge=1, validation_alias="SAGE_EMBED_MAX_WATCHES")
    max_concurrent_calls: int = Field(default=3000, ge=1, validation_alias="SAGE_MAX_CONCURRENT_CALLS")
    max_unfinished: int = Field(default=1000, ge=1, validation_alias="SAGE_EMBED_MAX_UNFINISHED")


class WorkerSettings(EmbedSettings):
    """Settings of `python -m sage_embed worker`.

    Attributes:
        listen: HOST:PORT of a health service; empty for none.
        service_token: API token with the scope `read` that the worker sends to ingest; empty if sign-in is disabled.
        concurrency: Maximum number of videos that this process measures concurrently, for a fingerprint or with the
            local model; 0 leaves them to other workers. If it is more than 1, one of them is a video that has not had a
            turn before, so that short videos need not wait for long ones.
        turn_s: Seconds after which a fingerprint, or an embedding of the local model, makes way if others wait. It is
            resumed later.
        remote_concurrency: Maximum number of embeddings for which this process waits for providers concurrently; 0
            leaves them to other workers.
        poll_s: Seconds after which the queue is read even if no job was announced. Retries are fetched this way.
        worker_heartbeat_s: Seconds between two heartbeats of a worker.
        worker_lost_after_s: Seconds without a heartbeat after which a worker is lost and others continue its work.
        sweep_s: Seconds between two sweeps for lost workers.
        stop_after_s: Seconds that work may take to finish after a stop signal before it is returned to the queue.
        max_attempts: Failed runs in a row, without a stored result between them, after which an embedding, or a
            fingerprint, fails.
        retry_base_s: Seconds before the second attempt; doubled for each further one.
        retry_max_s: Longest delay between two attempts in seconds.
        fingerprint_object_bytes: Size in bytes from which on the gathered blocks of a fingerprint are stored as one
            object.
        fingerprint_store_s: Seconds after which they are stored even if they are smaller: the most work that is lost
            with a worker.
        fingerprint_part_s: Most seconds of a film in one part of its fingerprint. Longer films are split into parts,
            which idle workers make at the same time. 0: films are not split.
        fingerprint_sweep_s: Seconds between two sweeps for what is left over of fingerprints.
        fingerprint_check_s: Seconds between two checks whether the video of a fingerprint without an embedding still
            exists. If not, the fingerprint is deleted.
    """

    listen: OptionalListenAddress = Field(default="", validation_alias="SAGE_WORKER_LISTEN")
    service_token: SecretStr = Field(default=SecretStr(""), validation_alias="SAGE_SERVICE_TOKEN")
    concurrency: int = Field(default=2, ge=0, le=64, validation_alias="SAGE_WORKER_CONCURRENCY")
    turn_s: float = Field(default=30.0, ge=0, le=3600, validation_alias="SAGE_WORKER_TURN_SECONDS")
    remote_concurrency: int = Field(default=100, ge=0, le=1000, validation_alias="SAGE_WORKER_REMOTE_CONCURRENCY")
    poll_s: float = Field(default=2.0, gt=0, le=60, validation_alias="SAGE_WORKER_POLL_SECONDS")
    worker_heartbeat_s: float = Field(default=5.0, gt=0, validation_alias="SAGE_WORKER_HEARTBEAT_SECONDS")
    worker_lost_after_s: float = Field(default=20.0, gt=0, validation_alias="SAGE_WORKER_LOST_AFTER_SECONDS")
    sweep_s: float = Field(default=5.0, gt=0, validation_alias="SAGE_WORKER_SWEEP_SECONDS")
    stop_after_s: float = Field(default=1.0, ge=0, validation_alias="SAGE_WORKER_STOP_AFTER_SECONDS")
    max_attempts: int = Field(default=6, ge=1, le=100, validation_alias="SAGE_WORKER_MAX_ATTEMPTS")
    retry_base_s: float = Field(default=2.0, gt=0, validation_alias="SAGE_WORKER_RETRY_BASE_SECONDS")
    retry_max_s: float = Field(default=60.0, gt=0, validation_alias="SAGE_WORKER_RETRY_MAX_SECONDS")
    fingerprint_object_bytes: int = Field(
        default=4 * MIB, ge=1, le=64 * MIB, validation_alias="SAGE_FINGERPRINT_OBJECT_BYTES"
    )
    fingerprint_store_s: float = Field(default=20.0, gt=0, le=3600, validation_alias="SAGE_FINGERPRINT_STORE_SECONDS")
    fingerprint_part_s: int = Field(default=600, ge=0, le=86_400, validation_alias="SAGE_FINGERPRINT_PART_SECONDS")
    fingerprint_sweep_s: float = Field(default=60.0, gt=0, le=86_400, validation_alias="SAGE_FINGERPRINT_SWEEP_SECONDS")
    fingerprint_check_s: float = Field(
        default=3600.0, gt=0, le=30 * 86_400, validation_alias="SAGE_FINGERPRINT_CHECK_SECONDS"
    )

    @field_validator("remote_concurrency")
    @classmethod
    def _check_some_work(cls, value: int, info: ValidationInfo) -> int:
        if not value and info.data.get("concurrency") == 0:
            raise ValueError("must not be 0 if SAGE_WORKER_CONCURRENCY is 0: this worker would do nothing")
        return value

    def retry_wait(self, attempts: int) -> timedelta:
        """Return how long to wait after a failed run that follows this many others."""
        return timedelta(seconds=min(self.retry_max_s, self.retry_base_s * 2.0 ** min(attempts, 30)))


class LocalSettings(Settings):
    """Settings of the local model, used by `python -m sage_embed serve` and `worker`.

    Each video is decoded in its own process, which has no credentials. The limits apply to each of these processes.

    Attributes:
        threads: Threads in which the local model decodes and computes; 0 for one per processor.
        max_video_s: Longest video in seconds.
        decoder_memory_bytes: Address space of a decoder in bytes. 8K films require about 3 GiB.
        decoder_cpu_s: CPU seconds that a decoder may use to open a video.
        decoder_cpu_s_per_second: CPU seconds that it may use for each second of the video.
        decoder_max_pixels: Largest frame that is decoded, in pixels.
        decoder_max_still_s: Longest time in seconds for which a video may show one frame.
        decoder_timeout_s: Seconds after which a decoder that makes no progress is ended.
    """

    threads: int = Field(default=0, ge=0, le=256, validation_alias="SAGE_LOCAL_THREADS")
    max_video_s: float = Field(default=24 * 3600.0, gt=0, validation_alias="SAGE_LOCAL_MAX_VIDEO_SECONDS")
    decoder_memory_bytes: int = Field(
        default=4 * 1024**3, ge=256 * 1024**2, validation_alias="SAGE_DECODER_MEMORY_BYTES"
    )
    decoder_cpu_s: float = Field(default=60.0, gt=0, validation_alias="SAGE_DECODER_CPU_SECONDS")
    decoder_cpu_s_per_second: float = Field(default=30.0, gt=0, validation_alias="SAGE_DECODER_CPU_SECONDS_PER_SECOND")
    decoder_max_pixels: int = Field(default=8192 * 8192, ge=1, validation_alias="SAGE_DECODER_MAX_PIXELS")
    decoder_max_still_s: float = Field(default=3600.0, gt=0, validation_alias="SAGE_DECODER_MAX_STILL_SECONDS")
    decoder_timeout_s: float = Field(default=300.0, gt=0, validation_alias="SAGE_DECODER_TIMEOUT_SECONDS")


class TwelveLabsSettings(Settings):
    """Settings of the engine for TwelveLabs, used by `python -m sage_embed serve` and `worker`.

    Attributes:
        deadline_s: Seconds after its submission at which an unfinished task times out.
        poll_first_s: Seconds between the first two polls of a task; later intervals grow from there.
        poll_max_s: Longest interval between two polls in seconds. If the first interval is longer, it applies.
        timeout_s: Timeout for TwelveLabs' responses to read requests, per read from the network, in seconds.
        create_timeout_s: The same for a request that creates a task. If a worker is lost while it sends one, the next
            worker waits twice as long before it sends another.
        lookup_s: Seconds for which TwelveLabs' list is searched for a task after the response to its creation was lost,
            before another one is created. The list may lag.
        results_at_once: Maximum number of task results that a worker holds in memory at once. The result of a four-hour
            video with three tracks is 50 MB.
        rate_window_s: Seconds over which TwelveLabs counts requests for its rate limit.
        requests_per_second: Maximum request rate of all workers together.
        rate_relax_s: Seconds without a rate-limit response after which the rate is raised again, a tenth at a time.
    """

    deadline_s: float = Field(
        default=4 * 3600.0, gt=0, le=7 * 24 * 3600.0, validation_alias="SAGE_TWELVELABS_DEADLINE_SECONDS"
    )
    poll_first_s: float = Field(default=2.0, gt=0, le=3600, validation_alias="SAGE_TWELVELABS_POLL_SECONDS")
    poll_max_s: float = Field(default=15.0, gt=0, le=3600, validation_alias="SAGE_TWELVELABS_POLL_MAX_SECONDS")
    timeout_s: float = Field(default=30.0, gt=0, le=600, validation_alias="SAGE_TWELVELABS_TIMEOUT_SECONDS")
    create_timeout_s: float = Field(
        default=60.0, gt=0, le=600, validation_alias="SAGE_TWELVELABS_CREATE_TIMEOUT_SECONDS"
    )
    lookup_s: float = Field(default=10.0, ge=0, le=600, validation_alias="SAGE_TWELVELABS_LOOKUP_SECONDS")
    results_at_once: int = Field(default=16, ge=1, le=1000, validation_alias="SAGE_TWELVELABS_RESULTS_AT_ONCE")
    rate_window_s: float = Field(default=60.0, gt=0, le=3600, validation_alias="SAGE_TWELVELABS_RATE_WINDOW_SECONDS")
    requests_per_second: float = Field(
        default=50.0, gt=0, le=1000, validation_alias="SAGE_TWELVELABS_REQUESTS_PER_SECOND"
    )
    rate_relax_s: float = Field(default=600.0, gt=0, validation_alias="SAGE_TWELVELABS_RATE_RELAX_SECONDS")

    @property
    def grace_s(self) -> float:
        """How long a task that is already overdue when its work resumes may wait to be polled once."""
        return min(600.0, self.deadline_s)

    @property
    def create_limit_s(self) -> float:
        """How long a request that creates a task may be in flight."""
        return 2 * self.create_timeout_s

    @property
    def lookup_undecided_s(self) -> float:
        """How long the list is searched if it has tasks that do not state their URL."""
        return 12 * self.lookup_s
