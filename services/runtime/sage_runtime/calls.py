"""How a call ended, and its line in the log."""

from dataclasses import dataclass
from typing import Protocol

import grpc
import structlog

from sage_runtime.errors import SageError

log: structlog.stdlib.BoundLogger = structlog.get_logger()

# Probes and tools call these all the time; their lines would bury the others.
_QUIET_PACKAGES = ("/grpc.health.", "/grpc.reflection.")

# Not the caller's mistake, and not a defect here either: someone may want to look.
_WORTH_A_LOOK = frozenset(
    {
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.UNAVAILABLE,
    }
)
_DEFECTS = frozenset({grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.DATA_LOSS})


class CallObserver(Protocol):
    """Is told of every call. Methods must not block and must not raise."""

    def started(self, method: str, arity: tuple[str, str]) -> None:
        """Take note of a call to `method` (`/package.Service/Method`), `arity` such as `("unary", "stream")`."""

    def ended(self, method: str, arity: tuple[str, str], status: grpc.StatusCode, duration_s: float) -> None:
        """Take note of its end."""


@dataclass(frozen=True)
class Outcome:
    """How a call ended.

    Attributes:
        status: What the caller saw, as far as the server knows.
        error: Why, where the catalogue has it.
        cause: The exception that the handler raised.
    """

    status: grpc.StatusCode
    error: SageError | None = None
    cause: BaseException | None = None


def log_call(method: str, outcome: Outcome, *, duration_s: float, request_id: str, peer: str, caller: str) -> None:
    """Write the call's one line: what was called and how it ended, never what it carried."""
    error = outcome.error
    fields = {
        "method": method,
        "status": outcome.status.name,
        "reason": str(error.reason) if error else "",
        "duration_ms": round(duration_s * 1000, 1),
        "request_id": request_id,
        "peer": peer,
    }
    if caller:
        fields["caller"] = caller
    if error and error.detail:
        fields["detail"] = error.detail
    if outcome.status in _DEFECTS:
        log.error("call", **fields, exc_info=outcome.cause)
    elif outcome.status in _WORTH_A_LOOK:
        log.warning("call", **fields)
    elif method.startswith(_QUIET_PACKAGES):
        log.debug("call", **fields)
    else:
        log.info("call", **fields)
