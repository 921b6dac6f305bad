"""What belongs to the call that is being served: its request id, who makes it, and the time that they have left."""

import contextlib
import re
import time
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, replace

import structlog
import uuid_utils

from sage_runtime.sign_in import ANYBODY, Caller, Credential

REQUEST_ID_KEY = "x-request-id"

_VALID_REQUEST_ID = re.compile(r"[A-Za-z0-9._:@/+=-]{1,128}")


@dataclass(frozen=True)
class _Call:
    request_id: str
    deadline: float | None  # on time.monotonic()'s clock
    caller: Caller | None = None  # None outside of a call


_call: ContextVar[_Call | None] = ContextVar("sage_call", default=None)


def current_request_id() -> str:
    """Return the id of the request that is being worked on, or an empty string outside of one."""
    call = _call.get()
    return call.request_id if call else ""


def time_left_s() -> float | None:
    """Return how many seconds the caller still waits (0 when the time is up), or None where there is no deadline."""
    call = _call.get()
    if call is None or call.deadline is None:
        return None
    return max(0.0, call.deadline - time.monotonic())


def current_credential() -> Credential | None:
    """Return what the caller being served signed in with, empty where nobody was asked, or None outside of a call."""
    call = _call.get()
    return call.caller.credential if call and call.caller else None


def new_request_id() -> str:
    """Return a new request id, sortable by time."""
    return uuid_utils.uuid7().hex


def accept_request_id(offered: str | bytes | None) -> str:
    """Return the id that a caller offered where it may go into logs and headers as it is, else a new one."""
    if isinstance(offered, str) and _VALID_REQUEST_ID.fullmatch(offered):
        return offered
    return new_request_id()


def enter_call(request_id: str, *, timeout_s: float | None) -> None:
    """Make this the call that the current task works on, for the rest of the task.

    The server's interceptor calls it: there every call has a context of its own, so nothing is to be restored, and a
    generator that is closed from another context could not restore it.
    """
    _call.set(_Call(request_id, None if timeout_s is None else time.monotonic() + timeout_s, ANYBODY))
    structlog.contextvars.bind_contextvars(request_id=request_id)


def enter_caller(caller: Caller) -> None:
    """Say who makes the call that was entered, for the rest of the task."""
    call = _call.get()
    if call is None:
        raise LookupError("no call was entered")
    _call.set(replace(call, caller=caller))
    structlog.contextvars.bind_contextvars(caller=caller.name)


@contextlib.contextmanager
def working_on(request_id: str = "", *, timeout_s: float | None = None) -> Iterator[str]:
    """Work on a request outside of a call, such as a job: logs and outgoing calls carry its id.

    Args:
        request_id: The id that the work was asked for under; a new one where empty.
        timeout_s: Seconds after which nobody waits for the work any more.
    """
    request_id = accept_request_id(request_id)
    token = _call.set(_Call(request_id, None if timeout_s is None else time.monotonic() + timeout_s))
    try:
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            yield request_id
    finally:
        _call.reset(token)
