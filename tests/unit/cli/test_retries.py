"""Retries: which errors are retried under which rule, and when retries stop."""

from dataclasses import replace

import grpc
import pytest
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from sage_cli.api.retries import AWAY, LOST_STATUS, PART, PATIENT, QUICK, UPLOAD, WATCH, Attempts, Rule, retry

Code = grpc.StatusCode


def make_error(code: grpc.StatusCode, reason: str = "") -> grpc.aio.AioRpcError:
    details = grpc.aio.Metadata()
    if reason:
        packed = any_pb2.Any()
        packed.Pack(error_details_pb2.ErrorInfo(reason=reason, domain="sage"))
        status = status_pb2.Status(code=code.value[0], message="text", details=[packed])
        details.add("grpc-status-details-bin", status.SerializeToString())
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), details, details="text")


def without_pauses(rule: Rule) -> Rule:
    return replace(rule, first_pause_s=0.0, longest_pause_s=0.0)


class Call:
    """A call that fails some times, then succeeds."""

    def __init__(self, error: grpc.RpcError, *, times: int) -> None:
        self.error = error
        self.times = times
        self.made = 0

    async def __call__(self) -> str:
        self.made += 1
        if self.made <= self.times:
            raise self.error
        return "result"


@pytest.mark.parametrize(
    ("rule", "error"),
    [
        (QUICK, make_error(Code.UNAVAILABLE)),
        (QUICK, make_error(Code.UNAVAILABLE, "STORE_UNAVAILABLE")),
        (PATIENT, make_error(Code.UNAVAILABLE)),
        (PATIENT, make_error(Code.UNAVAILABLE, "STORE_UNAVAILABLE")),
        (AWAY, make_error(Code.UNAVAILABLE, "STORE_UNAVAILABLE")),
        (WATCH, make_error(Code.INTERNAL)),
        (WATCH, make_error(Code.UNAVAILABLE, "SERVICE_UNAVAILABLE")),
        (UPLOAD, make_error(Code.UNAVAILABLE)),
        (UPLOAD, make_error(Code.INTERNAL)),
        (UPLOAD, make_error(Code.CANCELLED)),
        (UPLOAD, make_error(Code.RESOURCE_EXHAUSTED)),
        (UPLOAD, make_error(Code.UNAVAILABLE, "STORE_UNAVAILABLE")),
        (UPLOAD, make_error(Code.RESOURCE_EXHAUSTED, "LIMIT_EXCEEDED")),
        (PART, make_error(Code.INVALID_ARGUMENT, "CHECKSUM_MISMATCH")),
        (PART, make_error(Code.UNAVAILABLE)),
        (LOST_STATUS, make_error(Code.INTERNAL)),
    ],
)
async def test_errors_that_may_pass_are_retried(rule, error) -> None:
    call = Call(error, times=2)
    assert await retry(call, without_pauses(rule)) == "result"
    assert call.made == 3


@pytest.mark.parametrize(
    ("rule", "error"),
    [
        (QUICK, make_error(Code.INTERNAL)),
        (QUICK, make_error(Code.RESOURCE_EXHAUSTED, "LIMIT_EXCEEDED")),
        (PATIENT, make_error(Code.INTERNAL)),
        (AWAY, make_error(Code.UNAVAILABLE)),
        (WATCH, make_error(Code.RESOURCE_EXHAUSTED, "LIMIT_EXCEEDED")),
        (WATCH, make_error(Code.NOT_FOUND, "EMBEDDING_NOT_FOUND")),
        (UPLOAD, make_error(Code.INTERNAL, "INTERNAL")),
        (UPLOAD, make_error(Code.INVALID_ARGUMENT, "CHECKSUM_MISMATCH")),
        (UPLOAD, make_error(Code.NOT_FOUND, "UPLOAD_NOT_FOUND")),
        (UPLOAD, make_error(Code.FAILED_PRECONDITION, "PROVIDER_FAILED")),
        (UPLOAD, make_error(Code.UNAUTHENTICATED)),
        (UPLOAD, make_error(Code.UNIMPLEMENTED)),
        (LOST_STATUS, make_error(Code.UNAVAILABLE)),
        (LOST_STATUS, make_error(Code.INTERNAL, "INTERNAL")),
    ],
)
async def test_errors_that_would_recur_are_raised_at_once(rule, error) -> None:
    call = Call(error, times=1)
    with pytest.raises(grpc.RpcError):
        await retry(call, without_pauses(rule))
    assert call.made == 1


@pytest.mark.parametrize("rule", [QUICK, LOST_STATUS])
async def test_attempts_are_limited(rule) -> None:
    call = Call(make_error(Code.UNAVAILABLE if rule is QUICK else Code.INTERNAL), times=1000)
    with pytest.raises(grpc.RpcError):
        await retry(call, without_pauses(rule))
    assert call.made == 3


async def test_patience_ends_when_the_pauses_add_up_to_it() -> None:
    """Pauses of 1, 2, 4 and 4 ms reach a patience of 10 ms after four failures; the fifth is raised."""
    call = Call(make_error(Code.UNAVAILABLE), times=1000)
    rule = replace(UPLOAD, patience_s=0.010, first_pause_s=0.001, longest_pause_s=0.004)
    with pytest.raises(grpc.RpcError):
        await retry(call, rule)
    assert call.made == 5


async def test_success_restores_patience() -> None:
    attempts = Attempts(replace(without_pauses(UPLOAD), max_attempts=2))
    error = make_error(Code.UNAVAILABLE)
    await attempts.failed(error)
    attempts.succeeded()
    await attempts.failed(error)
    with pytest.raises(grpc.RpcError):
        await attempts.failed(error)
