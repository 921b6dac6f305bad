"""Channels to sibling services: calls carry request ID and credentials, have deadlines, and keep their errors."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from sage_runtime.auth.sign_in import AUTHORIZATION_KEY, Credential
from sage_runtime.context import REQUEST_ID_KEY, current_credential, current_request_id, time_left_s
from sage_runtime.errors import FieldViolation, Reason, SageError, invalid
from sage_runtime.errors.catalogue import DOMAIN
from sage_runtime.process.settings import MIB
from sage_runtime.process.telemetry import active_tracing

DEFAULT_TIMEOUT_S = 10.0

_UNREACHABLE = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED})


def open_channel(
    address: str, *, timeout_s: float = DEFAULT_TIMEOUT_S, max_message_bytes: int = 16 * MIB, token: str = ""
) -> grpc.aio.Channel:
    """Return a channel to a sibling service. The caller closes it. It connects with the first call.

    Every call carries the current request ID and the credentials of the caller being served, so that the sibling
    applies that caller's scope. No call outlasts that caller's deadline. A call with a single
    response and no timeout gets `timeout_s`; one with a stream of responses does not, because only the code that makes
    it knows how long it may last.

    Args:
        address: HOST:PORT, or any gRPC target such as `dns:///embed.sage.svc:50052`.
        timeout_s: Timeout in seconds of calls with a single response.
        max_message_bytes: Largest message to receive or send, in bytes.
        token: The token of this process for calls made without a caller, such as a worker's. Empty: none.
    """
    own: Credential = ((AUTHORIZATION_KEY, f"Bearer {token}"),) if token else ()
    return grpc.aio.insecure_channel(
        address,
        options=channel_options(max_message_bytes=max_message_bytes),
        interceptors=[
            _UnaryUnary(timeout_s, own),
            _UnaryStream(None, own),
            _StreamUnary(timeout_s, own),
            _StreamStream(None, own),
        ],
    )


def to_sage_error(error: grpc.aio.AioRpcError, *, service: str) -> SageError:
    """Return the error to raise for an error of a sibling service.

    A reason of the catalogue is passed on with its facts and fields. A sibling that is unreachable or too slow is
    SERVICE_UNAVAILABLE. Anything else is INTERNAL.

    Args:
        error: The error that the call raised.
        service: The sibling's name for people, such as `embed`.
    """
    details = f"{service}: {error.code().name}: {error.details()}"
    info, violations = _read_details(error)
    if info is not None and info.reason in Reason.__members__:
        if info.reason == Reason.FIELD_INVALID and violations:
            return invalid(*violations)
        facts = {name: value for name, value in info.metadata.items() if name not in {"detail", "violations"}}
        return SageError(Reason(info.reason), detail=details, violations=violations, **facts)
    if error.code() in _UNREACHABLE:
        return SageError(Reason.SERVICE_UNAVAILABLE, detail=details, service=service)
    return SageError(Reason.INTERNAL, detail=details)


def _read_details(
    error: grpc.aio.AioRpcError,
) -> tuple[error_details_pb2.ErrorInfo | None, tuple[FieldViolation, ...]]:
    raw = next((value for key, value in error.trailing_metadata() or () if key == "grpc-status-details-bin"), b"")
    info = None
    violations: tuple[FieldViolation, ...] = ()
    try:
        status = status_pb2.Status.FromString(raw if isinstance(raw, bytes) else b"")
        for detail in status.details:
            one = error_details_pb2.ErrorInfo()
            bad = error_details_pb2.BadRequest()
            if detail.Unpack(one) and one.domain == DOMAIN:
                info = one
            elif detail.Unpack(bad):
                violations = tuple(FieldViolation(field.field, field.description) for field in bad.field_violations)
    except DecodeError:
        return None, ()
    return info, violations


class _Outgoing:
    """The common part of the four interceptors. grpcio accepts an object for one call shape only."""

    def __init__(self, timeout_s: float | None, own: Credential) -> None:
        self._timeout_s = timeout_s
        self._own = own

    async def _proceed(
        self,
        shape: str,
        continuation: Callable[[grpc.aio.ClientCallDetails, Any], Awaitable[Any]],
        details: grpc.aio.ClientCallDetails,
        request: Any,
    ) -> Any:
        details = self._complete(details)
        active = active_tracing()
        if active is None:
            return await continuation(details, request)
        return await getattr(active.clients[shape], f"intercept_{shape}")(continuation, details, request)

    def _complete(self, details: grpc.aio.ClientCallDetails) -> grpc.aio.ClientCallDetails:
        own = self._timeout_s if details.timeout is None else details.timeout
        bounds = [bound for bound in (own, time_left_s()) if bound is not None]
        metadata = grpc.aio.Metadata(*(details.metadata or ()))
        request_id = current_request_id()
        if request_id and metadata.get(REQUEST_ID_KEY) is None:
            metadata.add(REQUEST_ID_KEY, request_id)
        credential = current_credential()
        # Without sign-in, the caller must not act with the token of this process.
        for key, value in self._own if credential is None else credential:
            metadata.add(key, value)
        return grpc.aio.ClientCallDetails(
            details.method,
            min(bounds) if bounds else None,
            metadata,
            details.credentials,
            details.wait_for_ready,
        )


class _UnaryUnary(_Outgoing, grpc.aio.UnaryUnaryClientInterceptor):
    async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return await self._proceed("unary_unary", continuation, client_call_details, request)


class _UnaryStream(_Outgoing, grpc.aio.UnaryStreamClientInterceptor):
    async def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return await self._proceed("unary_stream", continuation, client_call_details, request)


class _StreamUnary(_Outgoing, grpc.aio.StreamUnaryClientInterceptor):
    async def intercept_stream_unary(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        return await self._proceed("stream_unary", continuation, client_call_details, request_iterator)


class _StreamStream(_Outgoing, grpc.aio.StreamStreamClientInterceptor):
    async def intercept_stream_stream(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        return await self._proceed("stream_stream", continuation, client_call_details, request_iterator)


def channel_options(*, max_message_bytes: int) -> tuple[tuple[str, int | str], ...]:
    """Return the options of every channel to a sibling service."""
    return (
        # Only the code that makes a call knows whether it may be repeated.
        ("grpc.enable_retries", 0),
        # A headless name stands for several servers; the default would send everything to the first.
        ("grpc.lb_policy_name", "round_robin"),
        # A server that is stopping reports it in its health and gets no more calls.
        ("grpc.service_config", json.dumps({"healthCheckConfig": {"serviceName": ""}})),
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
        # Reconnects to a restarted sibling within seconds; the default waits up to two minutes.
        ("grpc.initial_reconnect_backoff_ms", 200),
        ("grpc.max_reconnect_backoff_ms", 3_000),
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", max_message_bytes),
    )
