"""What an error of the object store means: no room, no permission, wrong settings, or a store that is away.

Sources: "Error responses", Amazon S3 API Reference; the codes that begin with XMinio are MinIO's, QuotaExceeded is
Ceph's. SeaweedFS 4.48 on a full disk reports InternalError with status 500, as for any other failure, or does not
respond; only the free space of its disk tells the difference (`Room`).
"""

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError

from sage_runtime.errors import Reason, SageError

_FULL = {
    "InsufficientStorage",
    "QuotaExceeded",
    "BucketQuotaExceeded",
    "XMinioStorageFull",
    "XMinioAdminBucketQuotaExceeded",
}
_CREDENTIALS = {
    "InvalidAccessKeyId": "it does not know the access key",
    "SignatureDoesNotMatch": "the secret key is wrong",
    "ExpiredToken": "the credentials have expired",
    "InvalidToken": "the session token is not valid",
    "TokenRefreshRequired": "the session token must be refreshed",
}
_SETTINGS = {
    "NoSuchBucket": "there is no bucket {bucket}",
    "InvalidBucketName": "{bucket} is not a bucket's name",
    "PermanentRedirect": "bucket {bucket} is in another region or at another endpoint",
    "AuthorizationHeaderMalformed": "bucket {bucket} is in another region",
    "IllegalLocationConstraintException": "bucket {bucket} is in another region",
    "RequestTimeTooSkewed": "the clock of this server is wrong",
}
# HEAD has no body, so its errors have only a status.
_HEAD_BUCKET: dict[int, str] = {
    HTTPStatus.NOT_FOUND: _SETTINGS["NoSuchBucket"],
    HTTPStatus.MOVED_PERMANENTLY: _SETTINGS["PermanentRedirect"],
}
_PERMISSIONS = {
    "CreateMultipartUpload": "s3:PutObject",
    "UploadPart": "s3:PutObject",
    "PutObject": "s3:PutObject",
    "CompleteMultipartUpload": "s3:PutObject",
    "GetObject": "s3:GetObject",
    "HeadObject": "s3:GetObject",
    "DeleteObject": "s3:DeleteObject",
    "DeleteObjects": "s3:DeleteObject",
    "AbortMultipartUpload": "s3:AbortMultipartUpload",
    "ListParts": "s3:ListMultipartUploadParts",
    "ListMultipartUploads": "s3:ListBucketMultipartUploads",
    "HeadBucket": "s3:ListBucket",
}
_REFUSED = {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}


@dataclass(frozen=True)
class Room:
    """The room on the disk of a store that runs on this machine.

    Attributes:
        folder: A folder on that disk; `None` if it is unknown, so that there is always room.
        min_free_bytes: Free space that objects must leave: the store and the database fail without any.
        store: Name of the store for people.
    """

    folder: Path | None = None
    min_free_bytes: int = 0
    store: str = "video store"

    def check(self, more_bytes: int = 0) -> None:
        """Check that this many bytes fit.

        Raises:
            SageError: STORE_FULL.
        """
        if self.folder is None:
            return
        try:
            free = shutil.disk_usage(self.folder).free
        except OSError:
            # The folder is the store's own; it says itself what is wrong.
            return
        if free - more_bytes < self.min_free_bytes:
            usable = _megabytes(max(0, free - self.min_free_bytes))
            room = f"{usable} are free for uploads"
            why = f"{_megabytes(more_bytes)} do not fit: {room}" if more_bytes else room
            detail = f"{free} bytes are free on the disk of {self.folder}"
            raise SageError(Reason.STORE_FULL, detail=detail, store=self.store, why=why)


@contextlib.contextmanager
def s3_errors(bucket: str, key: str = "", *, store: str, room: Room | None = None) -> Iterator[None]:
    """Translate errors of boto3.

    Args:
        bucket: The bucket that is used.
        key: The object, for the log.
        store: Name of the store for people.
        room: For a write: the store may have failed because its disk is full.

    Raises:
        SageError: STORE_FULL, STORE_FORBIDDEN, STORE_MISCONFIGURED or STORE_UNAVAILABLE.
    """
    try:
        yield
    except ClientError as error:
        raise _explained(error, bucket=bucket, key=key, store=store, room=room) from error
    except (NoCredentialsError, PartialCredentialsError) as error:
        why = "this server has no credentials for it"
        raise SageError(Reason.STORE_MISCONFIGURED, detail=str(error), store=store, why=why) from error
    except BotoCoreError as error:
        detail = f"{type(error).__name__}: {error}"
        raise _full(room, detail) or SageError(Reason.STORE_UNAVAILABLE, detail=detail, store=store) from error


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"


def code_of(error: ClientError) -> str:
    """Return the store's code for an error, such as `NoSuchUpload`; for HEAD the status, such as `404`."""
    return error.response.get("Error", {}).get("Code", "")


def _explained(error: ClientError, *, bucket: str, key: str, store: str, room: Room | None) -> SageError:
    code, operation = code_of(error), error.operation_name
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    message = error.response.get("Error", {}).get("Message", "")
    detail = f"{operation} of {f'{key} in ' if key else ''}bucket {bucket}: {code}: {message}"
    if code in _FULL or status == HTTPStatus.INSUFFICIENT_STORAGE:
        return SageError(Reason.STORE_FULL, detail=detail, store=store, why=f"it reports {code}")
    known = _SETTINGS.get(code) or (_HEAD_BUCKET.get(status) if operation == "HeadBucket" else None)
    if known:
        return SageError(Reason.STORE_MISCONFIGURED, detail=detail, store=store, why=known.format(bucket=bucket))
    if status in _REFUSED or code in _CREDENTIALS:
        lacking = f"it does not allow {_PERMISSIONS.get(operation, operation)} in bucket {bucket}"
        why = f"{_CREDENTIALS.get(code, lacking)} ({code})"
        return SageError(Reason.STORE_FORBIDDEN, detail=detail, store=store, why=why)
    full = _full(room, detail) if status >= HTTPStatus.INTERNAL_SERVER_ERROR else None
    return full or SageError(Reason.STORE_UNAVAILABLE, detail=detail, store=store)


def _full(room: Room | None, detail: str) -> SageError | None:
    """Return the error for a failed write if there is no room, else `None`."""
    if room is None:
        return None
    try:
        room.check()
    except SageError as full:
        full.detail = f"{detail}; {full.detail}"
        return full
    return None
