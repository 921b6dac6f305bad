"""Errors of ingest, each with the invalid field and the facts that its public text needs."""

from collections.abc import Sequence

from sage_runtime.errors import FieldViolation, Reason, SageError


def video_unreadable(filename: str, *, why: str, detail: str = "") -> SageError:
    """Return the error for bytes that are not a video; `why` is a clause such as `it is incomplete`."""
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
    """Return the error for a media type that no film has."""
    return SageError(
        Reason.CONTENT_TYPE_NOT_VIDEO,
        violations=(
            FieldViolation(
                "spec.content_type",
                "must be a media type of films, such as video/mp4, or application/octet-stream if it is unknown.",
            ),
        ),
        # Clients may send long text, and error details travel in headers.
        content_type=content_type[:100],
    )


def size_mismatch(field: str, *, declared_bytes: int, received_bytes: int) -> SageError:
    """Return the error for a stream that is shorter or longer than `field` declared."""
    return SageError(
        Reason.SIZE_MISMATCH,
        violations=(FieldViolation(field, "must be the number of bytes sent."),),
        declared_bytes=declared_bytes,
        received_bytes=received_bytes,
    )


def checksum_mismatch(field: str, *, declared_sha256: str, received_sha256: str) -> SageError:
    """Return the error for bytes that do not match the checksum that `field` declared."""
    return SageError(
        Reason.CHECKSUM_MISMATCH,
        violations=(FieldViolation(field, "must be the SHA-256 of the bytes sent."),),
        declared_sha256=declared_sha256,
        received_sha256=received_sha256,
    )


def spec_missing() -> SageError:
    """Return the error for a stream whose first message has no spec."""
    return SageError(
        Reason.SPEC_MISSING, violations=(FieldViolation("spec", "is required in the first message of the stream."),)
    )


def spec_repeated() -> SageError:
    """Return the error for a second spec in one stream."""
    return SageError(
        Reason.SPEC_REPEATED, violations=(FieldViolation("spec", "is allowed in the first message only."),)
    )


def request_id_reused(request_id: str) -> SageError:
    """Return the error for a request ID that was used for another file."""
    return SageError(
        Reason.REQUEST_ID_REUSED,
        violations=(FieldViolation("request_id", "was used for another file; choose another."),),
        request_id=request_id,
    )


def too_many_uploads(maximum: int) -> SageError:
    """Return the error for exceeding the limit on concurrent uploads."""
    return SageError(
        Reason.LIMIT_EXCEEDED,
        limit="concurrent uploads",
        max=maximum,
        what_to_do="Try again when one of them has finished.",
    )


def upload_idle(idle_s: float) -> SageError:
    """Return the error for a client that stopped sending without ending its stream."""
    return SageError(
        Reason.LIMIT_EXCEEDED,
        limit="seconds without data during an upload",
        max=f"{idle_s:g}",
        what_to_do="Nothing of this call was kept. Repeat it and send without long pauses.",
    )


def upload_too_slow(bytes_per_s: float, *, over_s: float) -> SageError:
    """Return the error for a client that sends fewer bytes than an upload must."""
    return SageError(
        Reason.LIMIT_EXCEEDED,
        limit=f"seconds in which an upload must bring {max(1.0, bytes_per_s * over_s):.0f} bytes",
        max=f"{over_s:g}",
        what_to_do="Nothing of this call was kept. Repeat it over a faster connection.",
    )


def upload_not_found(upload_id: str) -> SageError:
    """Return the error for an upload that does not exist."""
    return SageError(Reason.UPLOAD_NOT_FOUND, upload_id=upload_id)


def upload_closed(upload_id: str, *, state: str, what_to_do: str = "Create another.") -> SageError:
    """Return the error for an upload that is no longer open; `state` is COMPLETED, ABORTED or COMPLETING."""
    return SageError(Reason.UPLOAD_CLOSED, upload_id=upload_id, state=state, what_to_do=what_to_do)


def too_many_open_uploads(maximum: int) -> SageError:
    """Return the error for exceeding the limit on open resumable uploads."""
    return SageError(
        Reason.LIMIT_EXCEEDED,
        limit="open resumable uploads",
        max=maximum,
        what_to_do="Complete or abort some; inactive ones expire.",
    )


def part_invalid(part_number: int, *, field: str, rule: str, why: str) -> SageError:
    """Return the error for a part with a number or size that does not fit the upload; `why` is a clause."""
    return SageError(Reason.PART_INVALID, violations=(FieldViolation(field, rule),), part_number=part_number, why=why)


def part_missing(upload_id: str, *, numbers: Sequence[int]) -> SageError:
    """Return the error for missing parts; if there are many, it names the first ones."""
    return SageError(Reason.PART_MISSING, upload_id=upload_id, part_numbers=_abbreviated(numbers))


def video_not_found(video_id: str) -> SageError:
    """Return the error for a video that does not exist."""
    return SageError(Reason.VIDEO_NOT_FOUND, video_id=video_id)


def store_unavailable(store: str, *, detail: str) -> SageError:
    """Return the error for a store that fails; `store` is its name for people."""
    return SageError(Reason.STORE_UNAVAILABLE, detail=detail, store=store)


_NAMED_RANGES = 10


def _abbreviated(numbers: Sequence[int]) -> str:
    """Return ascending numbers as ranges such as `3,7-9`, with the number of omitted ones if there are many."""
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
