"""The errors of ingest, each with the field at fault and the facts that its public text wants."""

from collections.abc import Sequence

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


def size_mismatch(field: str, *, declared_bytes: int, received_bytes: int) -> SageError:
    """Return the error for a stream that ended early, or went on for longer than `field` declared."""
    return SageError(
        Reason.SIZE_MISMATCH,
        violations=(FieldViolation(field, "must be the number of bytes that are sent."),),
        declared_bytes=declared_bytes,
        received_bytes=received_bytes,
    )


def checksum_mismatch(field: str, *, declared_sha256: str, received_sha256: str) -> SageError:
    """Return the error for bytes that are not those that `field` declared."""
    return SageError(
        Reason.CHECKSUM_MISMATCH,
        violations=(FieldViolation(field, "must be the SHA-256 of the bytes that are sent."),),
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
        what_to_do="Nothing of this call was kept; make it again and send without long pauses.",
    )


def upload_not_found(upload_id: str) -> SageError:
    """Return the error for an id that no upload has."""
    return SageError(Reason.UPLOAD_NOT_FOUND, upload_id=upload_id)


def upload_closed(upload_id: str, *, state: str, what_to_do: str = "Begin another.") -> SageError:
    """Return the error for an upload that takes no more; `state` is COMPLETED, ABORTED or COMPLETING."""
    return SageError(Reason.UPLOAD_CLOSED, upload_id=upload_id, state=state, what_to_do=what_to_do)


def too_many_open_uploads(maximum: int) -> SageError:
    """Return the error for one upload in parts more than may be open."""
    return SageError(
        Reason.LIMIT_EXCEEDED,
        limit="uploads in parts that are open",
        max=maximum,
        what_to_do="Complete or abort some; those that nobody goes on with are swept.",
    )


def part_invalid(part_number: int, *, field: str, rule: str, why: str) -> SageError:
    """Return the error for a part that the upload does not have like this; `why` is a clause."""
    return SageError(Reason.PART_INVALID, violations=(FieldViolation(field, rule),), part_number=part_number, why=why)


def part_missing(upload_id: str, *, numbers: Sequence[int]) -> SageError:
    """Return the error for parts that have not arrived; of many, only the first are named."""
    return SageError(Reason.PART_MISSING, upload_id=upload_id, part_numbers=_abbreviated(numbers))


def video_not_found(video_id: str) -> SageError:
    """Return the error for an id that no video has."""
    return SageError(Reason.VIDEO_NOT_FOUND, video_id=video_id)


def store_unavailable(store: str, *, detail: str) -> SageError:
    """Return the error for a store that does not do as asked; `store` is what people call it."""
    return SageError(Reason.STORE_UNAVAILABLE, detail=detail, store=store)


_NAMED_RANGES = 10


def _abbreviated(numbers: Sequence[int]) -> str:
    """Return numbers, ascending, as ranges such as `3,7-9`, and how many more there are where those are many."""
    ranges: list[list[int]] = []
    for number in numbers:
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    named = ranges[:_NAMED_RANGES]
    text = ",".join(f"{first}" if first == last else f"{first}-{last}" for first, last in named)
    more = len(numbers) - sum(last - first + 1 for first, last in named)
    return f"{text} and {more} more" if more else text
