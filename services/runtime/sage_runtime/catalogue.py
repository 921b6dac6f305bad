"""The error catalogue: for every reason the gRPC status and the words that the caller sees."""

from dataclasses import dataclass

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2

from sage_runtime.errors import Reason, SageError

DOMAIN = "sage"

# All of an error travels in trailers, which clients limit to 8 KiB by default: what is longer loses the whole error.
_MAX_TEXT_BYTES = 1024
# What a caller sent is shown shortened, so that the rule and the next step behind it are seen as well.
_MAX_SHOWN_BYTES = 120
_SENTENCES = frozenset({"rules", "why", "what_to_do", "models", "tracks"})
_MAX_FACT_BYTES = 512
_MAX_VIOLATIONS = 10


@dataclass(frozen=True)
class Entry:
    """What the caller sees of a reason.

    Attributes:
        status: The gRPC status.
        text: The public message, with the error's facts in braces. It says what to do.
        retry_after_s: Seconds after which the same call may succeed; None where it will not.
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
        _INVALID, "{filename} is not a video that can be read: {why}. Upload a file that a player can play."
    ),
    Reason.VIDEO_TOO_LARGE: Entry(
        _INVALID, "The video has {size_bytes} bytes; this server takes at most {max_bytes}. Upload a smaller encode."
    ),
    Reason.CONTENT_TYPE_NOT_VIDEO: Entry(
        _INVALID, "The content type {content_type!r} is not a video's. Send one such as video/mp4."
    ),
    Reason.SIZE_MISMATCH: Entry(
        _INVALID,
        "{declared_bytes} bytes were declared and {received_bytes} had arrived when the stream ended. Nothing of "
        "it was kept; declare how many there are and send them again.",
    ),
    Reason.CHECKSUM_MISMATCH: Entry(
        _INVALID,
        "The SHA-256 of the bytes that arrived is {received_sha256}, not the declared {declared_sha256}. "
        "Nothing of them was kept; send them again.",
    ),
    Reason.SPEC_MISSING: Entry(
        _INVALID, "The first message must carry `spec` with the file name, content type and size."
    ),
    Reason.SPEC_REPEATED: Entry(_INVALID, "Only the first message may carry `spec`. Send data in the others."),
    Reason.UPLOAD_NOT_FOUND: Entry(_MISSING, "There is no upload {upload_id}. Begin one with CreateUpload."),
    Reason.UPLOAD_CLOSED: Entry(_STATE, "Upload {upload_id} is {state}. {what_to_do}"),
    Reason.PART_MISSING: Entry(
        _STATE, "Parts {part_numbers} of upload {upload_id} have not arrived. Put them, then complete it again."
    ),
    Reason.PART_INVALID: Entry(_INVALID, "Part {part_number} was not taken: {why}."),
    Reason.VIDEO_NOT_FOUND: Entry(_MISSING, "There is no video {video_id}. ListVideos shows what there is."),
    Reason.EMBEDDING_NOT_FOUND: Entry(
        _MISSING, "There is no embedding {embedding_id}. ListEmbeddings shows what there is."
    ),
    Reason.VIDEO_NOT_READY: Entry(_STATE, "Video {video_id} is still being checked. Try again when it is READY."),
    Reason.MODEL_UNKNOWN: Entry(_INVALID, "There is no model {model!r}. This server has: {models}."),
    Reason.MODEL_UNAVAILABLE: Entry(_STATE, "Model {model} cannot be used here: {why}."),
    Reason.API_KEY_MISSING: Entry(_STATE, "{provider} wants an API key and none is set. Set one with SetApiKey."),
    Reason.API_KEY_INVALID: Entry(_STATE, "{provider} refused the API key. Set a valid one with SetApiKey."),
    Reason.ENCRYPTION_KEY_MISSING: Entry(
        _STATE,
        "This server cannot keep API keys: {why}. Its operator sets {setting}.",
    ),
    Reason.PROVIDER_QUOTA_EXCEEDED: Entry(_FULL, "The quota at {provider} is used up: {why}.", 60.0),
    Reason.PROVIDER_REJECTED_VIDEO: Entry(_STATE, "{provider} does not take this video: {why}."),
    Reason.PROVIDER_FAILED: Entry(grpc.StatusCode.ABORTED, "{provider} failed: {why}."),
    Reason.PROVIDER_UNREACHABLE: Entry(_RETRY, "{provider} cannot be reached. Try again.", 5.0),
    Reason.EMBEDDING_FINISHED: Entry(_STATE, "Embedding {embedding_id} is {state} already and cannot be cancelled."),
    Reason.EMBEDDING_NOT_COMPLETED: Entry(
        _STATE, "Embedding {embedding_id} is {state} and has no vectors to read. {what_to_do}"
    ),
    Reason.MODELS_DIFFER: Entry(
        _STATE, "The embeddings cannot be compared: a is {a}; b is {b}. Embed both videos the same way."
    ),
    Reason.TRACK_MISSING: Entry(_STATE, "Embedding {embedding_id} has no track {track!r}. It has: {tracks}."),
    Reason.FIELD_INVALID: Entry(_INVALID, "{rules}"),
    Reason.PAGE_TOKEN_INVALID: Entry(
        _INVALID, "The page token is not one of this list's with these filters. Begin with an empty one."
    ),
    Reason.LIMIT_EXCEEDED: Entry(_FULL, "The limit of {max} for {limit} is reached. {what_to_do}"),
    Reason.STORE_UNAVAILABLE: Entry(_RETRY, "The {store} cannot be reached. Try again.", 2.0),
    Reason.UNAUTHENTICATED: Entry(
        grpc.StatusCode.UNAUTHENTICATED,
        "{why} Send a valid one with the call, as metadata or header `authorization: Bearer TOKEN`.",
    ),
    Reason.FORBIDDEN: Entry(
        grpc.StatusCode.PERMISSION_DENIED,
        "This needs the scope {needs}; who signed in has {has}. Sign in with a token that allows it.",
    ),
    Reason.REQUEST_ID_REUSED: Entry(
        grpc.StatusCode.ALREADY_EXISTS,
        "Request id {request_id!r} was used before for something else. Choose another.",
    ),
    Reason.SERVICE_UNAVAILABLE: Entry(_RETRY, "The {service} service cannot be reached. Try again.", 2.0),
    Reason.UNIMPLEMENTED: Entry(
        grpc.StatusCode.UNIMPLEMENTED, "This server does not offer {method}. Reflection shows what it does offer."
    ),
    Reason.INTERNAL: Entry(
        grpc.StatusCode.INTERNAL, "Internal error. The log has the details under request id {request_id}."
    ),
}


class _Facts(dict[str, str]):
    """Facts for `str.format_map`: one that was not given shows as a question mark, never as a second error."""

    def __missing__(self, key: str) -> str:
        return "?"


def public_text(error: SageError, *, max_bytes: int = _MAX_TEXT_BYTES) -> str:
    """Return the message that the caller sees, cut where it would be too long to send.

    Args:
        error: What happened.
        max_bytes: The longest message. More than the default fits where it does not travel as the status of a call.
    """
    text = CATALOGUE[error.reason].text
    shown = _Facts()
    for name, value in error.facts.items():
        if name not in _SENTENCES:
            shown[name] = _cut(value, _MAX_SHOWN_BYTES)
            continue
        shown[name] = value.strip()
        if shown[name].endswith((".", "!", "?", "…")):
            # Somebody else's sentence, word for word, has its end already.
            text = text.replace(f"{{{name}}}.", f"{{{name}}}")
    return _cut(text.format_map(shown), max_bytes)


def to_status(error: SageError) -> status_pb2.Status:
    """Return the rich status of an error: ErrorInfo always, BadRequest for bad fields, RetryInfo where it helps."""
    entry = CATALOGUE[error.reason]
    # The rules of the violations are in the message and in BadRequest already.
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
    # JSON may hold halves of characters, which no message can.
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
