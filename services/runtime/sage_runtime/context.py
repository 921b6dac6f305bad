"""The call that is being served: its request ID, its caller and its deadline."""

import contextlib
import re
import time
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, replace

import structlog
import uuid_utils

from sage_runtime.auth.sign_in import ANONYMOUS, Caller, Credential

REQUEST_ID_KEY = "x-request-id"

_VALID_REQUEST_ID = re.compile(r"[A-Za-z0-9._:@/+=-]{1,128}")


@dataclass(frozen=True)
class _Call:
    request_id: str
    deadline: float | None  # on time.monotonic()'s clock
    caller: Caller | None = None  # None outside a call


_call: ContextVar[_Call | None] = ContextVar("sage_call", default=None)


def current_request_id() -> str:
    """Return the ID of the request that is being processed, or an empty string outside a request."""
    call = _call.get()
    return call.request_id if call else ""


def time_left_s() -> float | None:
    """Return the seconds until the caller's deadline (0 once it has passed), or `None` if there is none."""
    call = _call.get()
    if call is None or call.deadline is None:
        return None
    return max(0.0, call.deadline - time.monotonic())


def current_credential() -> Credential | None:
    """Return the current caller's credentials: empty without sign-in, `None` outside a call."""
    call = _call.get()
    return call.caller.credential if call and call.caller else None


def new_request_id() -> str:
    """Return a new request ID, sortable by time."""
    return uuid_utils.uuid7().hex


def accept_request_id(offered: str | bytes | None) -> str:
    """Return the ID that a caller offered if it is safe to copy into logs and headers, otherwise a new one."""
    if isinstance(offered, str) and _VALID_REQUEST_ID.fullmatch(offered):
        return offered
    return new_request_id()


def enter_call(request_id: str, *, timeout_s: float | None) -> None:
    """Make this the current call for the rest of the task.

    Only the server's interceptor uses it. There each call has a separate context, so nothing needs to be restored, and
    a generator that is closed from another context could not restore it.
    """
    _call.set(_Call(request_id, None if timeout_s is None else time.monotonic() + timeout_s, ANONYMOUS))
    structlog.contextvars.bind_contextvars(request_id=request_id)


def enter_caller(caller: Caller) -> None:
    """Set the caller of the current call for the rest of the task."""
    call = _call.get()
    if call is None:
        raise LookupError("no call was entered")
    _call.set(replace(call, caller=caller))
    structlog.contextvars.bind_contextvars(caller=caller.name)


@contextlib.contextmanager
def working_on(request_id: str = "", *, timeout_s: float | None = None) -> Iterator[str]:
    """Process a request outside a call, such as a job: logs and outgoing calls carry its ID.

    Args:
        request_id: The ID of the request that caused the work. Empty: a new one.
        timeout_s: Seconds after which the result is no longer needed.
    """
    request_id = accept_request_id(request_id)
    token = _call.set(_Call(request_id, None if timeout_s is None else time.monotonic() + timeout_s))
    try:
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            yield request_id
    finally:
        _call.reset(token)
