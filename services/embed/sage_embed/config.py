"""The settings of embed's processes, each from its environment variable."""

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr, ValidationInfo, field_validator
from sage_runtime.errors import SageError
from sage_runtime.settings import ListenAddress, OptionalListenAddress, ServerSettings

from sage_embed.api_keys import read_key

SCHEMA = "embed"


def _check_api_key(key: SecretStr) -> SecretStr:
    """Return the key without the line break that it may have from a file; the rules are those of SetApiKey."""
    try:
        return SecretStr(read_key(key.get_secret_value()))
    except SageError as error:
        raise ValueError(error.violations[0].rule.rstrip(".")) from None


ApiKeySetting = Annotated[SecretStr, AfterValidator(_check_api_key)]


class EmbedSettings(ServerSettings):
    """What the service and the worker share.

    Attributes:
        database_url: PostgreSQL, as a role that owns the schema `embed`.
        database_connections: Connections to PostgreSQL at the most, besides one that listens.
        ingest_address: Where ingest serves.
        url_validity_s: Seconds for which a worker, or a provider, may read a video through one URL; up to an hour more.
        twelvelabs_api_key: The key for TwelveLabs that is used while none is set with SetApiKey.
        key_encryption_keys: What keys set with SetApiKey are encrypted with: `ID:KEY` entries separated by commas or
            line breaks, KEY being 32 bytes in base64 (`openssl rand -base64 32`). The first encrypts, all decrypt.
            Where neither this nor the file is set, no key is stored.
        key_encryption_keys_file: A file of the same form, in place of the variable.
    """

    database_url: SecretStr = Field(validation_alias="SAGE_DATABASE_URL")
    database_connections: int = Field(default=10, ge=2, le=1000, validation_alias="SAGE_DATABASE_CONNECTIONS")
    ingest_address: str = Field(default="127.0.0.1:50051", validation_alias="SAGE_INGEST_ADDRESS")
    url_validity_s: int = Field(
        default=6 * 3600, ge=60, le=7 * 24 * 3600 - 3600, validation_alias="SAGE_EMBED_URL_VALIDITY_SECONDS"
    )
    twelvelabs_api_key: ApiKeySetting | None = Field(default=None, validation_alias="TWELVELABS_API_KEY")
    key_encryption_keys: SecretStr | None = Field(default=None, validation_alias="SAGE_KEY_ENCRYPTION_KEYS")
    key_encryption_keys_file: Path | None = Field(default=None, validation_alias="SAGE_KEY_ENCRYPTION_KEYS_FILE")


class ApiSettings(EmbedSettings):
    """Settings of `python -m sage_embed serve`.

    Attributes:
        listen: HOST:PORT to serve on.
        heartbeat_s: A watch sends a heartbeat after so many seconds of quiet. The contract promises 15.
        watch_poll_s: A watch asks the database after so many seconds though no change was announced.
        max_watches: Watches at once; more are refused with LIMIT_EXCEEDED. A watch takes 40 KB.
        max_concurrent_calls: Calls served at once, watches included; more are refused with RESOURCE_EXHAUSTED.
        max_unfinished: Embeddings that may wait or be worked on at once; more are refused with LIMIT_EXCEEDED.
    """

    listen: ListenAddress = Field(default="127.0.0.1:50052", validation_alias="SAGE_EMBED_LISTEN")
    heartbeat_s: float = Field(default=10.0, gt=0, le=15, validation_alias="SAGE_EMBED_HEARTBEAT_SECONDS")
    watch_poll_s: float = Field(default=5.0, gt=0, le=60, validation_alias="SAGE_EMBED_WATCH_POLL_SECONDS")
    max_watches: int = Field(default=2000, ge=1, validation_alias="SAGE_EMBED_MAX_WATCHES")
    max_concurrent_calls: int = Field(default=3000, ge=1, validation_alias="SAGE_MAX_CONCURRENT_CALLS")
    max_unfinished: int = Field(default=1000, ge=1, validation_alias="SAGE_EMBED_MAX_UNFINISHED")


class WorkerSettings(EmbedSettings):
    """Settings of `python -m sage_embed worker`.

    Attributes:
        listen: HOST:PORT of a health service; empty for none.
        service_token: An API token of scope `read`, with which a worker signs in at ingest; empty where there is no
            sign-in.
        concurrency: Embeddings that this process computes itself at once; 0 for none, where other workers do.
        remote_concurrency: Embeddings that this process has providers compute, and waits for, at once; 0 for none.
        local_threads: Threads with which the local model decodes and computes; 0 for one per processor.
        poll_s: The queue is asked after so many seconds though no job was announced; retries wait for it.
        worker_heartbeat_s: Seconds between two signs of life.
        worker_lost_after_s: A worker without a sign of life for so many seconds is lost; its work goes on elsewhere.
        sweep_s: Seconds between two looks for lost workers.
        stop_after_s: Seconds that work gets to end after a stop signal; then it is handed back.
        max_attempts: An embedding fails after so many runs that ended in trouble, with no segment stored between them.
        retry_base_s: Seconds before the second attempt; doubled for each further one.
        retry_max_s: The longest wait between attempts in seconds.
    """

    listen: OptionalListenAddress = Field(default="", validation_alias="SAGE_WORKER_LISTEN")
    service_token: SecretStr = Field(default=SecretStr(""), validation_alias="SAGE_SERVICE_TOKEN")
    concurrency: int = Field(default=1, ge=0, le=64, validation_alias="SAGE_WORKER_CONCURRENCY")
    remote_concurrency: int = Field(default=100, ge=0, le=1000, validation_alias="SAGE_WORKER_REMOTE_CONCURRENCY")
    local_threads: int = Field(default=0, ge=0, le=256, validation_alias="SAGE_LOCAL_THREADS")
    poll_s: float = Field(default=2.0, gt=0, le=60, validation_alias="SAGE_WORKER_POLL_SECONDS")
    worker_heartbeat_s: float = Field(default=5.0, gt=0, validation_alias="SAGE_WORKER_HEARTBEAT_SECONDS")
    worker_lost_after_s: float = Field(default=20.0, gt=0, validation_alias="SAGE_WORKER_LOST_AFTER_SECONDS")
    sweep_s: float = Field(default=5.0, gt=0, validation_alias="SAGE_WORKER_SWEEP_SECONDS")
    stop_after_s: float = Field(default=1.0, ge=0, validation_alias="SAGE_WORKER_STOP_AFTER_SECONDS")
    max_attempts: int = Field(default=6, ge=1, le=100, validation_alias="SAGE_WORKER_MAX_ATTEMPTS")
    retry_base_s: float = Field(default=2.0, gt=0, validation_alias="SAGE_WORKER_RETRY_BASE_SECONDS")
    retry_max_s: float = Field(default=60.0, gt=0, validation_alias="SAGE_WORKER_RETRY_MAX_SECONDS")

    @field_validator("remote_concurrency")
    @classmethod
    def _check_some_work(cls, value: int, info: ValidationInfo) -> int:
        if not value and info.data.get("concurrency") == 0:
            raise ValueError("must not be 0 where SAGE_WORKER_CONCURRENCY is 0: this worker would do nothing")
        return value
