"""Retries: which failed calls are repeated, for how long, and why. This table has all rules of this command.

| Rule          | Used for                              | What is retried                        | For how long     |
| ------------- | ------------------------------------- | -------------------------------------- | ---------------- |
| `QUICK`       | unary calls that may be repeated      | UNAVAILABLE                            | 2 times in 0.3 s |
| `PATIENT`     | the same, after work of minutes       | UNAVAILABLE                            | 60 s of pauses   |
| `WATCH`       | watching an embedding                 | broken streams, and silence            | 60 s of silence  |
| `UPLOAD`      | resumable uploads, except their parts | broken connections, a busy server      | 60 s of pauses   |
| `PART`        | the parts of resumable uploads        | the same, and bytes damaged in transit | 60 s of pauses   |
| `AWAY`        | streamed uploads                      | UNAVAILABLE with a reason              | 60 s of pauses   |
| `LOST_STATUS` | streamed uploads                      | INTERNAL without a reason              | 2 times, at once |

Why: a person waits for a unary call, so only a connection that was closed while idle is worth a second try. A restart
of the server takes less than a minute, and hours of embedding or uploading must survive it, as must the calls that use
their result. A streamed upload starts from the beginning, so it is repeated only if its result was lost, or if SAGE
says that its database or store is away.

An error with a SAGE reason is the result of the call, and is retried only if SAGE says that it may change. An error
without one comes from the connection or a proxy.

Pauses double from the first to the longest and vary by a quarter, since many calls break when one connection does. The
time that a call itself takes does not count: a part may take minutes.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import TypeVar

import grpc

from sage_cli.api.errors import reason_of

T = TypeVar("T")

_Code = grpc.StatusCode
_AWAY = frozenset({"STORE_UNAVAILABLE", "SERVICE_UNAVAILABLE"})
# The statuses that broken connections and proxies produce.
_BROKEN = frozenset({_Code.UNAVAILABLE, _Code.INTERNAL, _Code.UNKNOWN, _Code.CANCELLED, _Code.DEADLINE_EXCEEDED})


@dataclass(frozen=True)
class Rule:
    """When a call is repeated.

    Attributes:
        codes: Statuses to retry if the error has no SAGE reason.
        reasons: SAGE reasons to retry.
        patience_s: Seconds of pauses after which the error is raised.
        first_pause_s: Seconds before the second attempt.
        longest_pause_s: Maximum number of seconds between two attempts.
        max_attempts: Maximum number of attempts; None if only patience limits them.
    """

    codes: frozenset[grpc.StatusCode]
    reasons: frozenset[str]
    patience_s: float
    first_pause_s: float
    longest_pause_s: float
    max_attempts: int | None = None

    def covers(self, error: grpc.RpcError) -> bool:
        """Return whether the same call may succeed later."""
        reason = reason_of(error)
        return reason in self.reasons if reason else error.code() in self.codes


QUICK = Rule(
    codes=frozenset({_Code.UNAVAILABLE}),
    reasons=_AWAY | {"PROVIDER_UNREACHABLE"},
    patience_s=2.0,
    first_pause_s=0.1,
    longest_pause_s=0.3,
    max_attempts=3,
)
PATIENT = replace(QUICK, patience_s=60.0, first_pause_s=0.25, longest_pause_s=5.0, max_attempts=None)
WATCH = Rule(codes=_BROKEN, reasons=_AWAY, patience_s=60.0, first_pause_s=0.25, longest_pause_s=5.0)
UPLOAD = Rule(
    codes=_BROKEN | {_Code.ABORTED, _Code.RESOURCE_EXHAUSTED},
    reasons=_AWAY | {"LIMIT_EXCEEDED"},
    patience_s=60.0,
    first_pause_s=0.5,
    longest_pause_s=10.0,
)
PART = replace(UPLOAD, reasons=UPLOAD.reasons | {"SIZE_MISMATCH", "CHECKSUM_MISMATCH"})
AWAY = Rule(codes=frozenset(), reasons=_AWAY, patience_s=60.0, first_pause_s=0.5, longest_pause_s=10.0)
# A call that is refused while it writes may lose its status in grpcio: https://github.com/grpc/grpc/issues/36066.
LOST_STATUS = Rule(
    codes=frozenset({_Code.INTERNAL}),
    reasons=frozenset(),
    patience_s=1.0,
    first_pause_s=0.0,
    longest_pause_s=0.0,
    max_attempts=3,
)


class Attempts:
    """Counts the attempts at one thing under a rule.

    Attributes:
        count: How many have failed since the last success.
    """

    def __init__(self, rule: Rule) -> None:
        self._rule = rule
        self.succeeded()

    def succeeded(self) -> None:
        """Reset the count and the patience."""
        self.count = 0
        self._spent_s = 0.0
        self._pause_s = self._rule.first_pause_s

    async def failed(self, error: grpc.RpcError | TimeoutError, *, silent_s: float = 0.0) -> None:
        """Wait until the next attempt is due.

        Args:
            error: Why the last attempt failed. `TimeoutError` stands for silence, or for a stream that was cut off.
            silent_s: Seconds that the attempt waited without a response. They count like pauses.

        Raises:
            grpc.RpcError: `error`, if the rule does not cover it or patience has run out.
            TimeoutError: The same.
        """
        self.count += 1
        self._spent_s += silent_s
        exhausted = self._spent_s >= self._rule.patience_s or self.count == self._rule.max_attempts
        if exhausted or (isinstance(error, grpc.RpcError) and not self._rule.covers(error)):
            raise error
        await asyncio.sleep(self._pause_s * random.uniform(0.75, 1.25))  # noqa: S311 - not a secret
        self._spent_s += self._pause_s
        self._pause_s = min(2 * self._pause_s, self._rule.longest_pause_s)


async def retry(call: Callable[[], Awaitable[T]], rule: Rule) -> T:
    """Return the result of a call, repeating it according to the rule.

    Args:
        call: Makes the call. Must be safe to repeat.
        rule: When to repeat it.

    Raises:
        grpc.RpcError: The last error, if the rule does not cover it or patience has run out.
    """
    attempts = Attempts(rule)
    while True:
        try:
            return await call()
        except grpc.RpcError as error:
            await attempts.failed(error)
