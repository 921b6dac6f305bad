"""The errors of ingest, each with the field at fault and the facts that its public text wants."""

from sage_runtime.errors import FieldViolation, Reason, SageError


def video_unreadable(filename: str, *, why: str, detail: str = "") -> SageError:
    """Return the error for bytes that are no video; `why` is a clause such as `it ends in the middle`."""
    return SageError(
        Reason.VIDEO_UNREADABLE,
        detail=detail,
        violations=(FieldViolation("content", f"must be a video that can be read: {why}."),),
        filename=filename,
        why=why,
    )


def video_too_large(size_bytes: int, *, max_bytes: int) -> SageError:
    """Return the error for a declared size over the limit."""
    return SageError(
        Reason.VIDEO_TOO_LARGE,
        violations=(FieldViolation("spec.size_bytes", f"must be at most {max_bytes}."),),
        size_bytes=size_bytes,
        max_bytes=max_bytes,
    )


def content_type_not_video(content_type: str) -> SageError:
    """Return the error for a media type that is not `video/*`."""
    return SageError(
        Reason.CONTENT_TYPE_NOT_VIDEO,
        violations=(FieldViolation("spec.content_type", "must be video/*, such as video/mp4."),),
        # What a client sends may be long, and error details travel in headers.
        content_type=content_type[:100],
    )


def size_mismatch(*, declared_bytes: int, received_bytes: int) -> SageError:
    """Return the error for a stream that ended early, or went on for longer than declared."""
    return SageError(
        Reason.SIZE_MISMATCH,
        violations=(FieldViolation("spec.size_bytes", "must be the number of bytes that are sent."),),
        declared_bytes=declared_bytes,
        received_bytes=received_bytes,
    )


def checksum_mismatch(*, declared_sha256: str, received_sha256: str) -> SageError:
    """Return the error for bytes that are not the declared ones."""
    return SageError(
        Reason.CHECKSUM_MISMATCH,
        violations=(FieldViolation("spec.sha256", "must be the SHA-256 of the bytes that are sent."),),
        declared_sha256=declared_sha256,
        received_sha256=received_sha256,
    )


def spec_missing() -> SageError:
    """Return the error for a stream whose first message does not say what the video is."""
    return SageError(
        Reason.SPEC_MISSING, violations=(FieldViolation("spec", "is required in the first message of the stream."),)
    )


def spec_repeated() -> SageError:
    """Return the error for a second description in one stream."""
    return SageError(
        Reason.SPEC_REPEATED, violations=(FieldViolation("spec", "is allowed in the first message only."),)
    )


def request_id_reused(request_id: str) -> SageError:
    """Return the error for a request id that another file was uploaded under."""
    return SageError(
        Reason.REQUEST_ID_REUSED,
        violations=(FieldViolation("request_id", "was used for another file; choose another."),),
        request_id=request_id,
    )


def too_many_uploads(maximum: int) -> SageError:
    """Return the error for one upload more than the server takes at once."""
    return SageError(
        Reason.LIMIT_EXCEEDED,
        limit="uploads at once",
        max=maximum,
        what_to_do="Try again when one of them has finished.",
    )


def upload_idle(idle_s: float) -> SageError:
    """Return the error for a client that stopped sending without ending its stream."""
    return SageError(
        Reason.LIMIT_EXCEEDED,
        limit="seconds without data during an upload",
        max=f"{idle_s:g}",
        what_to_do="Nothing was kept; upload the file again without long pauses.",
    )


def video_not_found(video_id: str) -> SageError:
    """Return the error for an id that no video has."""
    return SageError(Reason.VIDEO_NOT_FOUND, video_id=video_id)


def store_unavailable(store: str, *, detail: str) -> SageError:
    """Return the error for a store that does not do as asked; `store` is what people call it."""
    return SageError(Reason.STORE_UNAVAILABLE, detail=detail, store=store)
