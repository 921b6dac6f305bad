"""Errors for people: what happened, and what to do next."""

import re
from collections.abc import Iterator

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status
from sage.errors.v1 import error_reason_pb2

DOMAIN = "sage"

_TRY_LATER = "Wait a moment, then run the command again; completed steps are not repeated."
_BUG = "This is a bug in sage; please report it."
# What to do about a reason with this command. The server's message covers the rest.
_NEXT_STEPS = {
    "VIDEO_NOT_FOUND": "`sage videos` lists the videos that exist.",
    "EMBEDDING_NOT_FOUND": "`sage embeddings` lists the embeddings that exist.",
    "SIZE_MISMATCH": "Run the command again once no program writes to the file.",
    "CHECKSUM_MISMATCH": "Run the command again once no program writes to the file.",
    "SPEC_MISSING": _BUG,
    "SPEC_REPEATED": _BUG,
    "PART_INVALID": _BUG,
    "PAGE_TOKEN_INVALID": "Run the command again.",
    "PART_MISSING": "Run the command again; it sends what is missing.",
    "REQUEST_ID_REUSED": "Run the command again.",
    "TRACK_MISSING": "`sage embed VIDEO --track NAME` makes an embedding with a track.",
    "CONTENT_TYPE_NOT_VIDEO": "Omit --content-type; SAGE examines the file itself.",
    "MODEL_UNKNOWN": "`sage models` lists the models of this server.",
    "MODEL_UNAVAILABLE": "`sage models` shows which models can be used now.",
    "API_KEY_MISSING": "`sage key set` sets one.",
    "API_KEY_INVALID": "`sage key set` replaces it.",
    "ENCRYPTION_KEY_MISSING": "The operator configures it (docs/settings.md). TWELVELABS_API_KEY works without it.",
    "MODELS_DIFFER": "`sage diff` embeds both videos the same way; --model and --clip-seconds choose how.",
    "EMBEDDING_NOT_COMPLETED": "`sage watch ID` follows one in progress; `sage embed VIDEO` makes another.",
    "FINGERPRINT_NOT_FOUND": "`sage diff` makes missing fingerprints; with --time it compares without them.",
    "FINGERPRINT_NOT_COMPLETED": "`sage diff --force` makes new fingerprints; with --time it compares without them.",
    "UNAUTHENTICATED": "Set SAGE_TOKEN to a token, or SAGE_TOKEN_FILE to a file that contains one.",
    "FORBIDDEN": "Set SAGE_TOKEN to a token with that scope; the server's operator can issue one.",
    "UNIMPLEMENTED": "Check that the server is not older than this command.",
    "STORE_UNAVAILABLE": _TRY_LATER,
    "STORE_FULL": "`sage uploads drop` drops open uploads; `sage delete` deletes videos that are no longer needed.",
    "SERVICE_UNAVAILABLE": _TRY_LATER,
    "PROVIDER_UNREACHABLE": _TRY_LATER,
}

_UNKNOWN_NAME = "Use a host name in SAGE_GATEWAY_NAMES, or ask the server's operator to add this one."

# The server's messages name RPCs, because they are for any client. In a terminal, these commands do the same.
_COMMANDS = {
    "UploadVideo": "upload",
    "CreateUpload": "upload",
    "UploadPart": "upload",
    "CompleteUpload": "upload",
    "ListUploads": "uploads",
    "AbortUpload": "uploads drop",
    "ListVideos": "videos",
    "GetVideo": "video",
    "DeleteVideo": "delete",
    "GetPlaybackUrl": "play",
    "CreateEmbedding": "embed",
    "GetEmbedding": "embeddings",
    "ListEmbeddings": "embeddings",
    "DeleteEmbedding": "delete",
    "WatchEmbedding": "watch",
    "CancelEmbedding": "cancel",
    "CreateFingerprint": "diff",
    "GetFingerprint": "diff",
    "WatchFingerprint": "diff",
    "DeleteFingerprint": "diff",
    "ListModels": "models",
    "SetApiKey": "key set",
    "GetApiKey": "key show",
    "DeleteApiKey": "key remove",
    "CompareEmbeddings": "compare",
}
# With or without the service, as in `/sage.embed.v1.EmbedService/ListModels`.
_RPC = re.compile(rf"(?:/?\bsage\.[\w.]+/)?\b({'|'.join(_COMMANDS)})\b")
# Advice for programs, which the next steps above replace.
_FOR_PROGRAMS = re.compile(
    rf"{_RPC.pattern}|authorization: Bearer|^Sign in with|reflection|^Try again\.|^Choose another\.|^Send |^Declare "
    "|^Start with an empty one"
)
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")


class CommandError(Exception):
    """A command cannot continue.

    Attributes:
        message: What happened, as a sentence.
        details: Further lines, such as the invalid fields.
        next_step: What to do about it. May be empty.
    """

    def __init__(self, message: str, *, next_step: str = "", details: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.next_step = next_step
        self.details = details


def next_step_for(reason: error_reason_pb2.ErrorReason.ValueType) -> str:
    """Return what to do about a reason, or an empty text."""
    name = error_reason_pb2.ErrorReason.Name(reason) if reason in error_reason_pb2.ErrorReason.values() else ""
    return _NEXT_STEPS.get(name.removeprefix("ERROR_REASON_"), "")


def reason_of(error: grpc.RpcError) -> str:
    """Return the reason that SAGE gave, such as `VIDEO_NOT_FOUND`; empty if the error does not come from SAGE."""
    return _reason(_rich_status(error))


def in_commands(text: str, *, next_step: str = "") -> str:
    """Return a message of the server with the commands of `sage` in place of RPC names.

    Args:
        text: The message.
        next_step: Advice that is shown below it. If it is not empty, sentences with advice for programs are omitted.
    """
    sentences = _SENTENCE_END.split(text)
    if next_step:
        # The first sentence says what happened.
        sentences[1:] = [sentence for sentence in sentences[1:] if not _FOR_PROGRAMS.search(sentence)]
    return _RPC.sub(lambda match: f"`sage {_COMMANDS[match[1]]}`", " ".join(sentences))


def explain(error: grpc.RpcError, *, address: str) -> CommandError:
    """Return this command's error for a failed call.

    Args:
        error: What the call raised.
        address: The address that was called.
    """
    code = error.code()
    status = _rich_status(error)
    reason = _reason(status)
    if status is not None and reason:
        next_step = _NEXT_STEPS.get(reason, "")
        # The gateway has no scope to state: it does not know the host name.
        if reason == "FORBIDDEN" and "has" not in _error_info(status).metadata:
            next_step = _UNKNOWN_NAME
        violations = _violations(status)
        # The message has all rules on one line, which is readable only for a single rule.
        if len(violations) > 1:
            return CommandError(
                f"The request breaks {len(violations)} rules:", details=tuple(violations), next_step=next_step
            )
        return CommandError(in_commands(status.message, next_step=next_step), next_step=next_step)
    details = error.details() or ""
    if code is grpc.StatusCode.UNAVAILABLE:
        return _unreachable(details, address)
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return CommandError(
            f"Timed out waiting for SAGE at {address}.", next_step="Run the command again, or check the server's logs."
        )
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return CommandError(
            f"The server at {address} does not support this command.",
            next_step="Check that it is SAGE, and not older than this command.",
        )
    name = code.name if code else "UNKNOWN"
    return CommandError(
        f"SAGE at {address} failed with {name}: {details or 'no details'}.",
        next_step="Run the command again, or check the server's logs.",
    )


def _unreachable(details: str, address: str) -> CommandError:
    """Return why the call did not get through, as far as grpcio's text reveals."""
    # Envoy reports an unreachable service this way; grpcio itself mentions addresses and connections.
    if "upstream" in details:
        return CommandError(
            f"The gateway at {address} is up, but the service behind it is not.",
            next_step="If SAGE has just been started, wait a moment. Otherwise check its logs.",
        )
    if "CERTIFICATE_VERIFY_FAILED" in details or "Hostname Verification" in details:
        return CommandError(
            f"The certificate of {address} is not trusted, or is for another name.",
            next_step="Use the name in the certificate. If a private CA issued it, set SAGE_CA_FILE to that CA's file.",
        )
    if "handshake" in details:
        return CommandError(
            f"The TLS handshake with {address} failed.", next_step="If the server does not use TLS, use http://."
        )
    if "failed to connect" in details and "Socket closed" in details:
        return CommandError(
            f"The server at {address} closed the connection.",
            next_step=f"If it uses TLS, use https://{address.rpartition('//')[2]}. Otherwise check its logs.",
        )
    return CommandError(
        f"Cannot connect to SAGE at {address}.",
        next_step="Is it running? `make up` starts it; --address or SAGE_ADDRESS set another address.",
    )


def leaves(error: BaseException) -> Iterator[BaseException]:
    """Yield the errors in an exception group, at any depth."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from leaves(inner)
    else:
        yield error


def _rich_status(error: grpc.RpcError) -> status_pb2.Status | None:
    try:
        return rpc_status.from_call(error)
    except (ValueError, DecodeError):
        # The trailer is not a status, or contradicts the call's: a proxy has changed it.
        return None


def _reason(status: status_pb2.Status | None) -> str:
    return str(_error_info(status).reason)


def _error_info(status: status_pb2.Status | None) -> error_details_pb2.ErrorInfo:
    """Return SAGE's description of an error; empty if it does not come from SAGE."""
    for detail in status.details if status else ():
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info) and info.domain == DOMAIN:
            return info
    return error_details_pb2.ErrorInfo()


def _violations(status: status_pb2.Status) -> list[str]:
    violations = []
    for detail in status.details:
        bad = error_details_pb2.BadRequest()
        if detail.Unpack(bad):
            violations += [f"{violation.field}: {violation.description}" for violation in bad.field_violations]
    return violations
