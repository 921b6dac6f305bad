"""Trying again: what is tried again, and for how long."""

import grpc
import pytest
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from sage_cli import patience
from sage_cli.patience import patiently

Code = grpc.StatusCode


def _error(code: grpc.StatusCode, reason: str = "") -> grpc.aio.AioRpcError:
    details = grpc.aio.Metadata()
    if reason:
        packed = any_pb2.Any()
        packed.Pack(error_details_pb2.ErrorInfo(reason=reason, domain="sage"))
        status = status_pb2.Status(code=code.value[0], message="text", details=[packed])
        details.add("grpc-status-details-bin", status.SerializeToString())
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), details, details="text")


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch) -> None:
    monkeypatch.setattr(patience, "_FIRST_PAUSE_S", 0.001)


class Call:
    """A call that fails some times and then answers."""

    def __init__(self, error: grpc.RpcError, *, times: int) -> None:
        self.error = error
        self.times = times
        self.made = 0

    async def __call__(self) -> str:
        self.made += 1
        if self.made <= self.times:
            raise self.error
        return "answer"


@pytest.mark.parametrize(
    "error",
    [
        _error(Code.UNAVAILABLE),
        _error(Code.INTERNAL),
        _error(Code.CANCELLED),
        _error(Code.RESOURCE_EXHAUSTED),
        _error(Code.UNAVAILABLE, "STORE_UNAVAILABLE"),
        _error(Code.RESOURCE_EXHAUSTED, "LIMIT_EXCEEDED"),
        _error(Code.INVALID_ARGUMENT, "CHECKSUM_MISMATCH"),
    ],
)
async def test_trouble_that_may_pass_is_waited_for(error) -> None:
    """A broken connection, a busy server, a damaged part: the call is made again."""
    call = Call(error, times=3)
    assert await patiently(call, also=["CHECKSUM_MISMATCH"]) == "answer"
    assert call.made == 4


@pytest.mark.parametrize(
    "error",
    [
        _error(Code.INTERNAL, "INTERNAL"),
        _error(Code.INVALID_ARGUMENT, "CHECKSUM_MISMATCH"),
        _error(Code.NOT_FOUND, "UPLOAD_NOT_FOUND"),
        _error(Code.UNAUTHENTICATED),
        _error(Code.UNIMPLEMENTED),
    ],
)
async def test_an_answer_is_an_answer(error) -> None:
    """What would be answered the same again is told at once."""
    call = Call(error, times=1)
    with pytest.raises(grpc.RpcError):
        await patiently(call)
    assert call.made == 1


async def test_patience_ends() -> None:
    """Trouble that lasts is told when the pauses have become too long together."""
    call = Call(_error(Code.UNAVAILABLE), times=1000)
    with pytest.raises(grpc.RpcError):
        await patiently(call, patience_s=0.01)
    assert 3 <= call.made <= 8
