"""The server interceptors that every call passes.

`CallInterceptor` gives a call its request ID, signs the caller in, validates requests, translates errors and writes the
log line. Servicers raise `SageError`s (or anything else) freely and never touch a status. `StreamInterceptor` ends a
stream's generator with its call.
"""

import contextlib
import inspect
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Never, Protocol, TypeAlias

import grpc
import structlog
from google.protobuf.message import DecodeError

from sage_runtime.auth.sign_in import ANONYMOUS, Metadata, SignIn, needs_token
from sage_runtime.context import REQUEST_ID_KEY, accept_request_id, enter_call, enter_caller
from sage_runtime.errors import Reason, SageError, expected_error, invalid_field
from sage_runtime.errors.catalogue import CATALOGUE, to_status
from sage_runtime.server.admission import Admission, Context
from sage_runtime.server.validation import ValidatedRequests, validate

_STATUS_DETAILS_KEY = "grpc-status-details-bin"
_CLOCK_TOLERANCE_S = 0.05
# gRPC rounds up the timeout that it sends by at most a hundredth: 15.01 s arrive as 15.1 s, 150.5 s as 151 s.
_TIMEOUT_ROUNDING = 0.01
# Callers choose the names of methods that do not exist, so these count as one, and logs have only the start of a name.
_UNKNOWN_METHOD = "/unknown/unknown"
_MAX_METHOD = 120
_CODES = {code.value[0]: code for code in grpc.StatusCode}

# Generic only in its type stubs.
_Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
MaybeHandler: TypeAlias = "grpc.RpcMethodHandler[Any, Any] | None"
Continuation = Callable[[grpc.HandlerCallDetails], Awaitable[MaybeHandler]]


log: structlog.stdlib.BoundLogger = structlog.get_logger()

# Probes and tools call these constantly; at `info` they would bury other calls.
_QUIET_PACKAGES = ("/grpc.health.", "/grpc.reflection.")

# Neither the caller's mistake nor a bug here, but of interest to an operator.
_WARNINGS = frozenset(
    {
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.UNAVAILABLE,
    }
)
_BUGS = frozenset({grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.DATA_LOSS})


class CallObserver(Protocol):
    """Is notified of every call. Methods must not block or raise."""

    def started(self, method: str, arity: tuple[str, str]) -> None:
        """Note a call to `method` (`/package.Service/Method`) with an `arity` such as `("unary", "stream")`."""

    def ended(self, method: str, arity: tuple[str, str], status: grpc.StatusCode, duration_s: float) -> None:
        """Note the end of a call."""


@dataclass(frozen=True)
class Outcome:
    """How a call ended.

    Attributes:
        status: The status that the caller received, as far as the server can tell.
        error: The error that the caller was told, if there was one.
        cause: The exception that the handler raised.
    """

    status: grpc.StatusCode
    error: SageError | None = None
    cause: BaseException | None = None


def log_call(method: str, outcome: Outcome, *, duration_s: float, request_id: str, peer: str, caller: str) -> None:
    """Write the one log line of a call: the method and how it ended, never its contents."""
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
    if outcome.status in _BUGS:
        log.error("call_finished", **fields, exc_info=outcome.cause)
    elif outcome.status in _WARNINGS:
        log.warning("call_finished", **fields)
    elif method.startswith(_QUIET_PACKAGES):
        log.debug("call_finished", **fields)
    else:
        log.info("call_finished", **fields)


class _Method:
    """A method that is called.

    Attributes:
        path: As the caller sent it: `/package.Service/Method` if it exists, otherwise anything.
        arity: Such as `("unary", "stream")`.
        known: Whether it exists.
        shown: The path for logs and messages.
        counted_as: The path for metrics.
    """

    def __init__(self, path: str, arity: tuple[str, str], *, known: bool) -> None:
        self.path = path
        self.arity = arity
        self.known = known
        self.shown = path if known else path[:_MAX_METHOD]
        self.counted_as = path if known else _UNKNOWN_METHOD


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Handles what is common to every call, in all four call shapes.

    Args:
        observers: Notified of every call's start and end. For them all methods that do not exist have one name.
        sign_in: Identifies and authorizes callers, or `None` to accept every call.
        admission: Limits what callers can keep open.
    """

    def __init__(
        self, observers: Sequence[CallObserver] = (), *, sign_in: SignIn | None = None, admission: Admission
    ) -> None:
        self._observers = observers
        self._sign_in = sign_in
        self._admission = admission

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> MaybeHandler:
        """Return the handler wrapped. For a method that does not exist, return one that raises UNIMPLEMENTED."""
        handler = await continuation(handler_call_details)
        if handler is None:
            # A handler of streams can respond to calls of every shape.
            refusal: _Handler = grpc.stream_stream_rpc_method_handler(_refuse)
            return self._wrap(refusal, handler_call_details.method, known=False)
        return self._wrap(handler, handler_call_details.method, known=True)

    def _wrap(self, handler: _Handler, method: str, *, known: bool) -> _Handler:
        # grpcio keeps the behaviour in an attribute named after its shape.
        arity = (
            "stream" if handler.request_streaming else "unary",
            "stream" if handler.response_streaming else "unary",
        )
        behaviour = getattr(handler, "_".join(arity))
        # For grpcio every call has a stream of requests. It would read a single request itself, before sign-in and
        # without a time limit, never respond to a call without one, and send the decoder's exception to the client.
        make = getattr(grpc, f"stream_{arity[1]}_rpc_method_handler")
        decode = handler.request_deserializer
        call = _Method(method, arity, known=known)

        def validated(first: Any, context: Context) -> Any:
            if handler.request_streaming:
                return ValidatedRequests(first, context.read)
            if first is grpc.aio.EOF:
                raise invalid_field("request", "is missing.")
            message = first if decode is None else decode(first)
            validate(message)
            return message

        async def respond(_requests: object, context: Context) -> Any:
            async with self._call(call, context) as (request_id, first):
                response = await behaviour(validated(first, context), context)
                # A handler that writes its stream itself has already sent its headers.
                if response is not None:
                    await _send_request_id(context, request_id)
                return response

        async def respond_with_stream(_requests: object, context: Context) -> AsyncIterator[Any]:
            async with self._call(call, context) as (request_id, first):
                sent = False
                async with contextlib.aclosing(behaviour(validated(first, context), context)) as responses:
                    async for response in responses:
                        if not sent:
                            await _send_request_id(context, request_id)
                            sent = True
                        yield response

        streams = inspect.isasyncgenfunction(behaviour)
        wrapped: _Handler = make(
            respond_with_stream if streams else respond,
            # Requests of a stream are decoded as they are read, inside the wrapped call.
            request_deserializer=decode if handler.request_streaming else None,
            response_serializer=handler.response_serializer,
        )
        return wrapped

    @contextlib.asynccontextmanager
    async def _call(self, method: "_Method", context: Context) -> AsyncIterator[tuple[str, Any]]:
        """Yield the call's request ID and its first message."""
        started = time.monotonic()
        # Everything needed from grpcio's context is read now: reading it after the call is cancelled may crash the
        # process.
        peer, timeout_s = context.peer(), context.time_remaining()
        metadata: Metadata = tuple(context.invocation_metadata() or ())
        request_id = accept_request_id(_offered_request_id(metadata))
        enter_call(request_id, timeout_s=timeout_s)
        # Trailers reach the caller however the call ends. Headers are sent only with the first response: a call that
        # fails before it remains a trailers-only response, which proxies can turn into an HTTP status.
        context.set_trailing_metadata(((REQUEST_ID_KEY, request_id),))
        for observer in self._observers:
            observer.started(method.counted_as, method.arity)
        outcome = None
        failure: SageError | None = None
        caller = ANONYMOUS
        try:
            # Before the first message, so that a call without a token cannot stay open by not sending it.
            if self._sign_in is not None and needs_token(method.path):
                caller = self._sign_in.identify(metadata)
                enter_caller(caller)
                self._sign_in.authorize(caller, method.path)
            if method.known:
                async with self._admission.admitted(method.path, peer, context) as first:
                    yield request_id, first
            else:
                yield request_id, grpc.aio.EOF
            outcome = Outcome(_code_of(context))
        except grpc.aio.AbortError:
            outcome = Outcome(_code_of(context))
            raise
        except Exception as error:
            failure = _translate(error, _code_of(context), method=method.shown, request_id=request_id)
            outcome = Outcome(CATALOGUE[failure.reason].status, failure, cause=error)
        finally:
            duration_s = time.monotonic() - started
            # Neither a result nor an error: the task was cancelled, or the generator closed.
            outcome = outcome or _cancelled(duration_s, timeout_s)
            log_call(method.shown, outcome, duration_s=duration_s, request_id=request_id, peer=peer, caller=caller.name)
            for observer in self._observers:
                observer.ended(method.counted_as, method.arity, outcome.status, duration_s)
        # Last, so that the error is in the log and in the metrics by the time the caller receives it.
        if failure is not None:
            await _abort(context, failure, request_id)


class StreamInterceptor(grpc.aio.ServerInterceptor):
    """Closes the async generators of servicers as soon as their call is cancelled.

    When a caller disconnects while a response is being sent, grpcio drops the generator as it is. Its `finally` then
    runs during some later garbage collection, with a context whose call has been freed; using it there crashes the
    process. Here responses are written one by one, and the generator is closed at once. This interceptor must come
    before all others.
    """

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> MaybeHandler:
        """Return the handler; if it is a generator, as a coroutine that writes its responses."""
        handler = await continuation(handler_call_details)
        if handler is None or not handler.response_streaming:
            return handler
        behaviour: Any = handler.stream_stream if handler.request_streaming else handler.unary_stream
        if not inspect.isasyncgenfunction(behaviour):
            return handler

        async def write_all(request: Any, context: Context) -> None:
            async with contextlib.aclosing(behaviour(request, context)) as responses:
                async for response in responses:
                    await context.write(response)

        # The stubs know only generators; grpcio accepts coroutines too.
        make: Any = (
            grpc.stream_stream_rpc_method_handler if handler.request_streaming else grpc.unary_stream_rpc_method_handler
        )
        wrapped: MaybeHandler = make(
            write_all,
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )
        return wrapped


def _offered_request_id(metadata: Metadata) -> str | bytes | None:
    return next((value for key, value in metadata if key == REQUEST_ID_KEY), None)


def _code_of(context: Context) -> grpc.StatusCode:
    """Return the status that a servicer has set, or OK. grpcio returns it as a number."""
    code: object = context.code()
    if isinstance(code, grpc.StatusCode):
        return code
    return _CODES.get(code, grpc.StatusCode.UNKNOWN) if isinstance(code, int) else grpc.StatusCode.OK


def _cancelled(duration_s: float, timeout_s: float | None) -> Outcome:
    # A caller also cancels at its deadline, slightly before the server's clock reaches it.
    out_of_time = timeout_s is not None and duration_s > timeout_s * (1 - _TIMEOUT_ROUNDING) - _CLOCK_TOLERANCE_S
    return Outcome(grpc.StatusCode.DEADLINE_EXCEEDED if out_of_time else grpc.StatusCode.CANCELLED)


async def _refuse(_requests: object, _context: Context) -> None:
    raise SageError(Reason.UNIMPLEMENTED)


def _translate(error: Exception, set_code: grpc.StatusCode, *, method: str, request_id: str) -> SageError:
    """Return the error that the caller is told."""
    if isinstance(error, NotImplementedError) and set_code is grpc.StatusCode.UNIMPLEMENTED:
        # Raised by the generated base classes.
        sage_error = SageError(Reason.UNIMPLEMENTED)
    elif isinstance(error, DecodeError):
        sage_error = invalid_field("request", "must be a valid message of the method's request type.")
    else:
        sage_error = expected_error(error) or SageError(Reason.INTERNAL)
    if sage_error.reason is Reason.UNIMPLEMENTED:
        sage_error.facts["method"] = method
    if sage_error.reason is Reason.INTERNAL:
        sage_error.facts["request_id"] = request_id
    return sage_error


async def _abort(context: Context, error: SageError, request_id: str) -> Never:
    status = to_status(error)
    trailers: tuple[tuple[str, str | bytes], ...] = (
        (REQUEST_ID_KEY, request_id),
        (_STATUS_DETAILS_KEY, status.SerializeToString()),
    )
    await context.abort(CATALOGUE[error.reason].status, status.message, trailers)


async def _send_request_id(context: Context, request_id: str) -> None:
    # Not possible if the servicer has sent headers itself; the trailers still carry the ID.
    with contextlib.suppress(grpc.aio.UsageError):
        await context.send_initial_metadata(((REQUEST_ID_KEY, request_id),))
