"""The server interceptor that every call passes: request id, sign-in, errors, one log line, observers.

It wraps the four call shapes. What a handler raises is translated here and nowhere else, so servicers raise
`SageError`s (or anything) freely and never touch a status.
"""

import contextlib
import inspect
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Never, TypeAlias

import grpc
from google.protobuf.message import DecodeError

from sage_runtime.calls import CallObserver, Outcome, log_call
from sage_runtime.catalogue import CATALOGUE, to_status
from sage_runtime.context import REQUEST_ID_KEY, accept_request_id, enter_call, enter_caller
from sage_runtime.errors import Reason, SageError, invalid_field
from sage_runtime.sign_in import ANYBODY, Metadata, SignIn

_STATUS_DETAILS_KEY = "grpc-status-details-bin"
_CLOCK_TOLERANCE_S = 0.05
# gRPC rounds up the timeout that it sends, by a hundredth at the most: 15.01 s arrive as 15.1 s, 150.5 s as 151 s.
_TIMEOUT_ROUNDING = 0.01
_CODES = {code.value[0]: code for code in grpc.StatusCode}

Context = grpc.aio.ServicerContext[Any, Any]
# Generic in its type stubs only.
_Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
MaybeHandler: TypeAlias = "grpc.RpcMethodHandler[Any, Any] | None"


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Gives each call an id, asks who makes it, translates its errors and reports how it ended.

    Args:
        observers: Told of every call's start and end, besides the log.
        sign_in: Whom calls are taken from; None for everybody.
    """

    def __init__(self, observers: Sequence[CallObserver] = (), *, sign_in: SignIn | None = None) -> None:
        self._observers = observers
        self._sign_in = sign_in

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[MaybeHandler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> MaybeHandler:
        """Return the handler wrapped; for a method that nobody serves one that says so."""
        handler = await continuation(handler_call_details)
        # Of streams, so that it answers calls of every shape.
        refusal: _Handler = grpc.stream_stream_rpc_method_handler(_refuse)
        return self._wrap(handler or refusal, handler_call_details.method)

    def _wrap(self, handler: _Handler, method: str) -> _Handler:
        # Requests that come alone are decoded here rather than by grpcio, which would send the decoder's exception to
        # the client. Those of a stream are decoded as the servicer reads them, inside of what is wrapped.
        decode = handler.request_deserializer
        deserializer = decode if handler.request_streaming else None

        def decoded(request: Any) -> Any:
            return request if handler.request_streaming or decode is None else decode(request)

        # grpcio keeps the behaviour under the name of its shape.
        arity = (
            "stream" if handler.request_streaming else "unary",
            "stream" if handler.response_streaming else "unary",
        )
        behaviour = getattr(handler, "_".join(arity))
        make = getattr(grpc, "_".join(arity) + "_rpc_method_handler")

        async def respond(request: Any, context: Context) -> Any:
            async with self._call(method, arity, context) as request_id:
                response = await behaviour(decoded(request), context)
                # A handler that writes its stream itself has sent its headers already.
                if response is not None:
                    await _send_request_id(context, request_id)
                return response

        async def respond_with_stream(request: Any, context: Context) -> AsyncIterator[Any]:
            async with self._call(method, arity, context) as request_id:
                first = True
                async with contextlib.aclosing(behaviour(decoded(request), context)) as responses:
                    async for response in responses:
                        if first:
                            await _send_request_id(context, request_id)
                            first = False
                        yield response

        streams = inspect.isasyncgenfunction(behaviour)
        wrapped: _Handler = make(
            respond_with_stream if streams else respond,
            request_deserializer=deserializer,
            response_serializer=handler.response_serializer,
        )
        return wrapped

    @contextlib.asynccontextmanager
    async def _call(self, method: str, arity: tuple[str, str], context: Context) -> AsyncIterator[str]:
        started = time.monotonic()
        # All that is asked of grpcio's context is asked now: once a call is cancelled that may end the process.
        peer, timeout_s = context.peer(), context.time_remaining()
        metadata: Metadata = tuple(context.invocation_metadata() or ())
        request_id = accept_request_id(_offered_request_id(metadata))
        enter_call(request_id, timeout_s=timeout_s)
        # Trailers reach the caller with every end of the call. Headers are sent with the first answer only: a call
        # that fails before it stays a response of trailers alone, which proxies can turn into an HTTP status.
        context.set_trailing_metadata(((REQUEST_ID_KEY, request_id),))
        for observer in self._observers:
            observer.started(method, arity)
        outcome = None
        failure: SageError | None = None
        caller = ANYBODY
        try:
            if self._sign_in is not None and self._sign_in.asks_for(method):
                caller = self._sign_in.identify(metadata)
                enter_caller(caller)
                self._sign_in.authorize(caller, method)
            yield request_id
            outcome = Outcome(_code_of(context))
        except grpc.aio.AbortError:
            outcome = Outcome(_code_of(context))
            raise
        except Exception as error:
            failure = _translate(error, _code_of(context), method=method, request_id=request_id)
            outcome = Outcome(CATALOGUE[failure.reason].status, failure, cause=error)
        finally:
            duration_s = time.monotonic() - started
            # Neither an end nor an error: the task was cancelled, or the generator closed.
            outcome = outcome or _cancelled(duration_s, timeout_s)
            log_call(method, outcome, duration_s=duration_s, request_id=request_id, peer=peer, caller=caller.name)
            for observer in self._observers:
                observer.ended(method, arity, outcome.status, duration_s)
        # Only now: whoever hears of an end, good or bad, finds it in the log and in the metrics.
        if failure is not None:
            await _abort(context, failure, request_id)


def _offered_request_id(metadata: Metadata) -> str | bytes | None:
    return next((value for key, value in metadata if key == REQUEST_ID_KEY), None)


def _code_of(context: Context) -> grpc.StatusCode:
    """Return the status that a servicer has set, OK where it has set none. grpcio hands it back as a number."""
    code: object = context.code()
    if isinstance(code, grpc.StatusCode):
        return code
    return _CODES.get(code, grpc.StatusCode.UNKNOWN) if isinstance(code, int) else grpc.StatusCode.OK


def _cancelled(duration_s: float, timeout_s: float | None) -> Outcome:
    # A caller whose time is up also cancels, a little before the server's clock says so.
    out_of_time = timeout_s is not None and duration_s > timeout_s * (1 - _TIMEOUT_ROUNDING) - _CLOCK_TOLERANCE_S
    return Outcome(grpc.StatusCode.DEADLINE_EXCEEDED if out_of_time else grpc.StatusCode.CANCELLED)


async def _refuse(_requests: object, _context: Context) -> None:
    raise SageError(Reason.UNIMPLEMENTED)


def _translate(error: Exception, set_code: grpc.StatusCode, *, method: str, request_id: str) -> SageError:
    """Return what the caller is told of an error."""
    if isinstance(error, NotImplementedError) and set_code is grpc.StatusCode.UNIMPLEMENTED:
        # This is how the generated base classes say it.
        sage_error = SageError(Reason.UNIMPLEMENTED)
    elif isinstance(error, DecodeError):
        sage_error = invalid_field("request", "must be a valid message of the method's request type.")
    else:
        sage_error = _expected(error) or SageError(Reason.INTERNAL)
    if sage_error.reason is Reason.UNIMPLEMENTED:
        sage_error.facts["method"] = method
    if sage_error.reason is Reason.INTERNAL:
        sage_error.facts["request_id"] = request_id
    return sage_error


def _expected(error: BaseException) -> SageError | None:
    """Return the error that a use case raised, also out of a task group; None where anything unexpected was raised."""
    if isinstance(error, SageError):
        return error
    if isinstance(error, BaseExceptionGroup):
        inner = [_expected(one) for one in error.exceptions]
        return inner[0] if all(inner) else None
    return None


async def _abort(context: Context, error: SageError, request_id: str) -> Never:
    status = to_status(error)
    trailers: tuple[tuple[str, str | bytes], ...] = (
        (REQUEST_ID_KEY, request_id),
        (_STATUS_DETAILS_KEY, status.SerializeToString()),
    )
    await context.abort(CATALOGUE[error.reason].status, status.message, trailers)


async def _send_request_id(context: Context, request_id: str) -> None:
    # A servicer that has sent headers of its own has made this impossible; the trailers still carry the id.
    with contextlib.suppress(grpc.aio.UsageError):
        await context.send_initial_metadata(((REQUEST_ID_KEY, request_id),))
