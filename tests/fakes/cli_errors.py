"""Ending a call of a fake service with an error, as the real services do."""

from typing import NoReturn

import grpc
from grpc_status import rpc_status
from sage_runtime.errors import SageError
from sage_runtime.errors.catalogue import to_status


async def abort(context: grpc.aio.ServicerContext, error: SageError) -> NoReturn:
    """End a call with the status of an error."""
    status = rpc_status.to_status(to_status(error))
    await context.abort(status.code, status.details, status.trailing_metadata)
    raise AssertionError("abort raises")
