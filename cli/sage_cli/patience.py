"""Trying again where the network, or a server that is busy or restarts, is in the way."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Collection
from typing import TypeVar

import grpc

from sage_cli.errors import reason_of

T = TypeVar("T")

PATIENCE_S = 60.0
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 10.0

# With a reason of SAGE's own, the call has been answered: only these answers may be others the next time.
_PASSING_REASONS = {"STORE_UNAVAILABLE", "SERVICE_UNAVAILABLE", "LIMIT_EXCEEDED"}
# Without one, somebody between here and SAGE speaks, or the connection itself.
_PASSING_CODES = {
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.UNKNOWN,
}


def may_pass(error: grpc.RpcError) -> bool:
    """Return whether a call may well succeed when it is made again as it was."""
    reason = reason_of(error)
    return reason in _PASSING_REASONS if reason else error.code() in _PASSING_CODES


async def patiently(
    call: Callable[[], Awaitable[T]], *, also: Collection[str] = (), patience_s: float = PATIENCE_S
) -> T:
    """Return what a call answers, making it again, with growing pauses, until the trouble has passed.

    Args:
        call: Makes the call. It must be one that may be made again.
        also: Reasons that pass too, for this call.
        patience_s: How long all pauses together may be. How long a call itself takes does not count.

    Raises:
        grpc.RpcError: The trouble lasts, or is none that passes.
    """
    pause_s, paused_s = _FIRST_PAUSE_S, 0.0
    while True:
        try:
            return await call()
        except grpc.RpcError as error:
            if paused_s >= patience_s or not (may_pass(error) or reason_of(error) in also):
                raise
        # Apart from each other, since many calls break when one connection does.
        await asyncio.sleep(pause_s * random.uniform(0.75, 1.25))  # noqa: S311 - not a secret
        paused_s += pause_s
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
