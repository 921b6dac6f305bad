"""The error catalogue: the gRPC status and the public text of every reason."""

from dataclasses import dataclass

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2

from sage_runtime.errors import Reason, SageError

DOMAIN = "sage"

# Errors travel in trailers, which clients limit to 8 KiB by default. If they are longer, the error is lost.
_MAX_TEXT_BYTES = 1024
# Values from a request are shortened, so that the text after them is not cut off.
_MAX_SHOWN_BYTES = 120
_SENTENCES = frozenset({"rules", "why", "what_to_do", "models", "tracks"})
_MAX_FACT_BYTES = 512
_MAX_VIOLATIONS = 10


@dataclass(frozen=True)
class Entry:
    """What callers see for a reason.

    Attributes:
        status: The gRPC status.
        text: The public message, with the error's facts in braces. It says what to do next.
        retry_after_s: Seconds after which the same call may succeed, or `None` if it will not.
    """

    status: grpc.StatusCode
    text: str
    retry_after_s: float | None = None


_INVALID = grpc.StatusCode.INVALID_ARGUMENT
_MISSING = grpc.StatusCode.NOT_FOUND
_STATE = grpc.StatusCode.FAILED_PRECONDITION
_RETRY = grpc.StatusCode.UNAVAILABLE
_FULL = grpc.StatusCode.RESOURCE_EXHAUSTED

CATALOGUE: dict[Reason, Entry] = {
    Reason.VIDEO_UNREADABLE: Entry(
        _INVALID, "{filename} is not a readable video: {why}. Upload a file that a video player can open."
    ),
    Reason.VIDEO_TOO_LARGE: Entry(
        _INVALID,
        "The video is {size_bytes} bytes long; this server accepts at most {max_bytes}. Upload a smaller encode.",
    ),
    Reason.CONTENT_TYPE_NOT_VIDEO: Entry(
        _INVALID,
        "The content type {content_type!r} is not a video type. Send one such as video/mp4, or none if it is unknown.",
    ),
    Reason.SIZE_MISMATCH: Entry(
        _INVALID,
        "{declared_bytes} bytes were declared, but {received_bytes} arrived before the stream ended. Nothing was kept. "
        "Declare the exact size and send the bytes again.",
    ),
    Reason.CHECKSUM_MISMATCH: Entry(
        _INVALID,
        "The SHA-256 of the received bytes is {received_sha256}, not the declared {declared_sha256}. "
        "Nothing was kept. Send the bytes again.",
    ),
    Reason.SPEC_MISSING: Entry(
        _INVALID, "The first message must carry `spec` with the file name, content type and size."
    ),
    Reason.SPEC_REPEATED: Entry(_INVALID, "Only the first message may carry `spec`. Send only data in later messages."),
    Reason.UPLOAD_NOT_FOUND: Entry(_MISSING, "There is no upload {upload_id}. Start one with CreateUpload."),
    Reason.UPLOAD_CLOSED: Entry(_STATE, "Upload {upload_id} is {state}. {what_to_do}"),
    Reason.PART_MISSING: Entry(
        _STATE, "Parts {part_numbers} of upload {upload_id} are missing. Send them, then complete the upload again."
    ),
    Reason.PART_INVALID: Entry(_INVALID, "Part {part_number} was refused: {why}."),
    Reason.VIDEO_NOT_FOUND: Entry(_MISSING, "There is no video {video_id}. ListVideos shows the videos that exist."),
    Reason.EMBEDDING_NOT_FOUND: Entry(
        _MISSING, "There is no embedding {embedding_id}. ListEmbeddings shows the embeddings that exist."
    ),
    Reason.MODEL_UNKNOWN: Entry(_INVALID, "There is no model {model!r}. This server has: {models}."),
    Reason.MODEL_UNAVAILABLE: Entry(_STATE, "Model {model} cannot be used here: {why}."),
    Reason.API_KEY_MISSING: Entry(_STATE, "{provider} requires an API key, and none is set. Set one with SetApiKey."),
    Reason.API_KEY_INVALID: Entry(_STATE, "{provider} rejected the API key. Set a valid one with SetApiKey."),
    Reason.ENCRYPTION_KEY_MISSING: Entry(
        _STATE,
        "This server cannot encrypt or decrypt API keys: {why}. Its operator must set {setting}.",
    ),
    Reason.PROVIDER_QUOTA_EXCEEDED: Entry(
        _FULL, "The quota at {provider} is exhausted: {why}. Try again later, or raise the quota there.", 60.0
    ),
    Reason.PROVIDER_REJECTED_VIDEO: Entry(_STATE, "{provider} does not accept this video: {why}."),
    Reason.PROVIDER_FAILED: Entry(_STATE, "{provider} failed: {why}."),
    Reason.PROVIDER_UNREACHABLE: Entry(_RETRY, "{provider} cannot be reached. Try again.", 5.0),
    Reason.EMBEDDING_FINISHED: Entry(_STATE, "Embedding {embedding_id} is already {state} and cannot be cancelled."),
    Reason.EMBEDDING_NOT_COMPLETED: Entry(
        _STATE, "Embedding {embedding_id} is {state} and has no vectors to read. {what_to_do}"
    ),
    Reason.FINGERPRINT_NOT_FOUND: Entry(
        _MISSING, "Video {video_id} has no fingerprint. Request one with CreateFingerprint."
    ),
    Reason.FINGERPRINT_NOT_COMPLETED: Entry(
        _STATE, "The fingerprint of video {video_id} is {state} and has no bytes to read. {what_to_do}"
    ),
    Reason.FINGERPRINT_FINISHED: Entry(
        _STATE, "The fingerprint of video {video_id} is already {state} and cannot be cancelled."
    ),
    Reason.MODELS_DIFFER: Entry(
        _STATE, "The embeddings cannot be compared: a is {a}; b is {b}. Embed both videos the same way."
    ),
    Reason.TRACK_MISSING: Entry(_STATE, "Embedding {embedding_id} has no track {track!r}. It has: {tracks}."),
    Reason.FIELD_INVALID: Entry(_INVALID, "{rules}"),
    Reason.PAGE_TOKEN_INVALID: Entry(
        _INVALID, "The page token does not belong to this list with these filters. Start with an empty one."
    ),
    Reason.LIMIT_EXCEEDED: Entry(_FULL, "The limit of {max} for {limit} is reached. {what_to_do}"),
    Reason.STORE_UNAVAILABLE: Entry(_RETRY, "The {store} cannot be reached. Try again.", 2.0),
    # No delay before a retry: it would fail until an operator acts.
    Reason.STORE_FULL: Entry(
        _FULL,
        "The {store} has no room left: {why}. Delete what is no longer needed, or ask the server's operator for room.",
    ),
    Reason.STORE_FORBIDDEN: Entry(
        _STATE, "The {store} refuses this server: {why}. The server's operator must fix its credentials or permissions."
    ),
    Reason.STORE_MISCONFIGURED: Entry(
        _STATE, "The {store} cannot be used: {why}. The server's operator must fix its settings."
    ),
    Reason.UNAUTHENTICATED: Entry(
        grpc.StatusCode.UNAUTHENTICATED,
        "{why} Send a valid token as metadata or header `authorization: Bearer TOKEN`.",
    ),
    Reason.FORBIDDEN: Entry(
        grpc.StatusCode.PERMISSION_DENIED,
        "This call needs the scope {needs}, but the caller has {has}. Sign in with a token of that scope.",
    ),
    Reason.REQUEST_ID_REUSED: Entry(
        grpc.StatusCode.ALREADY_EXISTS,
        "Request ID {request_id!r} was used before with other parameters. Choose another.",
    ),
    Reason.SERVICE_UNAVAILABLE: Entry(_RETRY, "The {service} service cannot be reached. Try again.", 2.0),
    Reason.UNIMPLEMENTED: Entry(
        grpc.StatusCode.UNIMPLEMENTED,
        "This server does not implement {method}. Use reflection to list what it implements.",
    ),
    Reason.INTERNAL: Entry(
        grpc.StatusCode.INTERNAL, "Internal error. The server's log has the details under request ID {request_id}."
    ),
}


class _Facts(dict[str, str]):
    """Facts for `str.format_map`. A missing one is shown as a question mark instead of causing another error."""

    def __missing__(self, key: str) -> str:
        return "?"


def public_text(error: SageError, *, max_bytes: int = _MAX_TEXT_BYTES) -> str:
    """Return the message that the caller sees, truncated if it is too long to send.

    Args:
        error: The error.
        max_bytes: Largest size of the message. It can be above the default if the message is not sent as a status.
    """
    text = CATALOGUE[error.reason].text
    shown = _Facts()
    for name, value in error.facts.items():
        if name not in _SENTENCES:
            shown[name] = _cut(value, _MAX_SHOWN_BYTES)
            continue
        shown[name] = value.strip()
        if shown[name].endswith((".", "!", "?", "…")):
            # A quoted sentence has its own punctuation.
            text = text.replace(f"{{{name}}}.", f"{{{name}}}")
    return _cut(text.format_map(shown), max_bytes)


def to_status(error: SageError) -> status_pb2.Status:
    """Return the status of an error with ErrorInfo, BadRequest for bad fields, and RetryInfo if a retry may help."""
    entry = CATALOGUE[error.reason]
    # The rules of the violations are already in the message and in BadRequest.
    metadata = {name: _cut(value, _MAX_FACT_BYTES) for name, value in error.facts.items() if name != "rules"}
    details = [_pack(error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=metadata))]
    if error.violations:
        details.append(
            _pack(
                error_details_pb2.BadRequest(
                    field_violations=[
                        error_details_pb2.BadRequest.FieldViolation(
                            field=_cut(violation.field, _MAX_FACT_BYTES),
                            description=_cut(violation.rule, _MAX_FACT_BYTES),
                            reason=error.reason,
                        )
                        for violation in error.violations[:_MAX_VIOLATIONS]
                    ]
                )
            )
        )
    if entry.retry_after_s is not None:
        delay = duration_pb2.Duration()
        delay.FromMilliseconds(int(entry.retry_after_s * 1000))
        details.append(_pack(error_details_pb2.RetryInfo(retry_delay=delay)))
    return status_pb2.Status(code=entry.status.value[0], message=public_text(error), details=details)


def _cut(text: str, max_bytes: int) -> str:
    # JSON may contain unpaired surrogates, which a message cannot.
    encoded = text.encode(errors="replace")
    if len(encoded) <= max_bytes:
        return encoded.decode()
    return encoded[: max_bytes - 3].decode(errors="ignore") + "…"


def _pack(
    message: "error_details_pb2.ErrorInfo | error_details_pb2.BadRequest | error_details_pb2.RetryInfo",
) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed
