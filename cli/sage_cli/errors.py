"""What went wrong, as a sentence and a next step."""

from collections.abc import Iterator

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status
from sage.errors.v1 import error_reason_pb2

DOMAIN = "sage"

# What to do about a reason with this command. The server's own sentence says the rest.
_NEXT_STEPS = {
    "VIDEO_NOT_FOUND": "`sage videos` lists them.",
    "EMBEDDING_NOT_FOUND": "`sage embeddings` lists them.",
    "CONTENT_TYPE_NOT_VIDEO": "If it is a video, say which kind: --content-type video/mp4.",
    "MODEL_UNKNOWN": "`sage models` lists the models of this server.",
    "MODEL_UNAVAILABLE": "`sage models` says which models can be used now.",
    "API_KEY_MISSING": "`sage key set` sets one.",
    "API_KEY_INVALID": "`sage key set` sets another.",
    "ENCRYPTION_KEY_MISSING": "Where you are the operator: docs/settings.md has it. TWELVELABS_API_KEY does without.",
    "MODELS_DIFFER": "`sage diff` embeds both the same way; --model and --clip-seconds say how.",
    "EMBEDDING_NOT_COMPLETED": "`sage watch` follows it to its end.",
    "UNAUTHENTICATED": "Set SAGE_TOKEN to a token, or SAGE_TOKEN_FILE to a file that has it.",
    "FORBIDDEN": "Set SAGE_TOKEN to a token with that scope; who runs the server can make one.",
    "STORE_UNAVAILABLE": "Wait a moment and run the command again; what has been done is not done twice.",
    "SERVICE_UNAVAILABLE": "Wait a moment and run the command again; what has been done is not done twice.",
    "PROVIDER_UNREACHABLE": "Wait a moment and run the command again; what has been done is not done twice.",
}


class Trouble(Exception):  # noqa: N818 - it is what the user is in, whoever made the error
    """Why a command cannot go on.

    Attributes:
        message: What happened, as a sentence.
        details: More lines, such as the fields that break a rule.
        next_step: What to do about it. May be empty.
    """

    def __init__(self, message: str, *, next_step: str = "", details: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.next_step = next_step
        self.details = details


def next_step_for(reason: error_reason_pb2.ErrorReason.ValueType) -> str:
    """Return what to do about a reason; empty where nothing is known."""
    name = error_reason_pb2.ErrorReason.Name(reason) if reason in error_reason_pb2.ErrorReason.values() else ""
    return _NEXT_STEPS.get(name.removeprefix("ERROR_REASON_"), "")


def reason_of(error: grpc.RpcError) -> str:
    """Return the reason that SAGE gave, such as `VIDEO_NOT_FOUND`; empty where the error is not SAGE's own."""
    return _reason(_rich_status(error))


def explain(error: grpc.RpcError, *, address: str) -> Trouble:
    """Return an error of a call in the words of this command.

    Args:
        error: What the call raised.
        address: The address that was called.
    """
    code = error.code()
    status = _rich_status(error)
    reason = _reason(status)
    if status is not None and reason:
        next_step = _NEXT_STEPS.get(reason, "")
        violations = _violations(status)
        # The message has all rules in one line, which reads well for one only.
        if len(violations) > 1:
            return Trouble(
                f"The request breaks {len(violations)} rules:", details=tuple(violations), next_step=next_step
            )
        return Trouble(status.message, next_step=next_step)
    details = error.details() or ""
    if code is grpc.StatusCode.UNAVAILABLE:
        return _unreachable(details, address)
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return Trouble(
            f"SAGE at {address} took too long to answer.", next_step="Run the command again, or look into its logs."
        )
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return Trouble(
            f"What answers at {address} does not know this call.",
            next_step="Is it SAGE, and not older than this command?",
        )
    name = code.name if code else "UNKNOWN"
    return Trouble(
        f"SAGE at {address} answered {name}: {details or 'no details'}.",
        next_step="Run the command again, or look into the logs of the stack.",
    )


def _unreachable(details: str, address: str) -> Trouble:
    """Return why there was no answer, as far as grpcio's own words tell."""
    # Envoy says this of a service that it cannot reach; grpcio itself speaks of addresses and connections.
    if "upstream" in details:
        return Trouble(
            f"The gateway at {address} answers, but the service behind it does not.",
            next_step="If the stack has just been started, wait a moment. Otherwise look into its logs.",
        )
    if "CERTIFICATE_VERIFY_FAILED" in details or "Hostname Verification" in details:
        return Trouble(
            f"The certificate of {address} is not trusted, or is another name's.",
            next_step="SAGE_CA_FILE names the certificates of a CA that this machine does not know.",
        )
    if "handshake" in details:
        return Trouble(
            f"{address} does not speak TLS as this command does.", next_step="If it speaks none: http:// in its place."
        )
    if "failed to connect" in details and "Socket closed" in details:
        return Trouble(
            f"What listens at {address} hung up.",
            next_step=f"If it speaks TLS: https://{address.rpartition('//')[2]}. Otherwise look into its logs.",
        )
    return Trouble(
        f"SAGE does not answer at {address}.",
        next_step="Is it running? `make up` starts it; --address or SAGE_ADDRESS name another.",
    )


def leaves(error: BaseException) -> Iterator[BaseException]:
    """Yield the errors inside of groups, which a `TaskGroup` raises."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from leaves(inner)
    else:
        yield error


def _rich_status(error: grpc.RpcError) -> status_pb2.Status | None:
    try:
        return rpc_status.from_call(error)
    except (ValueError, DecodeError):
        # The trailer is not a status, or not this one's: somebody between here and SAGE has changed it.
        return None


def _reason(status: status_pb2.Status | None) -> str:
    for detail in status.details if status else ():
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info) and info.domain == DOMAIN:
            return str(info.reason)
    return ""


def _violations(status: status_pb2.Status) -> list[str]:
    violations = []
    for detail in status.details:
        bad = error_details_pb2.BadRequest()
        if detail.Unpack(bad):
            violations += [f"{violation.field}: {violation.description}" for violation in bad.field_violations]
    return violations
