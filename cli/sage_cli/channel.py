"""Opening the channel to SAGE: address, TLS, token."""

import ipaddress
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import grpc

from sage_cli.access import Access
from sage_cli.errors import Trouble

DEFAULT_ADDRESS = "localhost:8080"

_TLS_SCHEMES = frozenset({"https", "grpcs"})
_PLAIN_SCHEMES = frozenset({"", "http", "grpc"})


def open_channel(address: str, access: Access, *, options: Sequence[tuple[str, Any]]) -> grpc.aio.Channel:
    """Return a channel; the caller closes it. It connects with the first call.

    Args:
        address: `host:port`, `http://host[:port]`, or over TLS `https://host[:port]`.
        access: What to sign in with.
        options: Of the channel.

    Raises:
        Trouble: The address is none, or the token would go to another machine for everybody between to read.
    """
    url = urlsplit(address if "://" in address else f"//{address}")
    try:
        host, port = url.hostname or "", url.port
    except ValueError:
        host, port = "", None
    known = url.scheme in _PLAIN_SCHEMES | _TLS_SCHEMES
    if not host or not known or url.path.strip("/") or (url.scheme == "" and not port):
        raise Trouble(
            f"{address!r} is not an address.", next_step=f"Name a host and a port, such as {DEFAULT_ADDRESS}."
        )
    here = _is_loopback(host)
    # A proxy has no business between this command and its own machine.
    options = [*options, ("grpc.enable_http_proxy", 0 if here else 1)]
    interceptors = _signing_in(access.token) if access.token else []
    bracketed = f"[{host}]" if ":" in host else host
    if url.scheme in _TLS_SCHEMES:
        credentials = grpc.ssl_channel_credentials(access.ca_certificates)
        target = f"{bracketed}:{port or 443}"
        return grpc.aio.secure_channel(target, credentials, options=options, interceptors=interceptors)
    if access.token and not here and not access.plaintext_token:
        raise Trouble(
            f"The token would go to {host} unencrypted, so nothing was sent.",
            next_step=f"Use https://{url.netloc}. Where the way there is safe by other means: SAGE_PLAINTEXT_TOKEN=1.",
        )
    return grpc.aio.insecure_channel(f"{bracketed}:{port or 80}", options=options, interceptors=interceptors)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _signing_in(token: str) -> list[grpc.aio.ClientInterceptor]:
    """Return interceptors that send the token with each call.

    gRPC's own call credentials are refused on channels without TLS, and so on those to this machine.
    """
    header = ("authorization", f"Bearer {token}")
    return [_UnaryUnary(header), _UnaryStream(header), _StreamUnary(header)]


class _SigningIn:
    """What the interceptors share; grpcio takes an object for one call shape only."""

    def __init__(self, header: tuple[str, str]) -> None:
        self._header = header

    def _signed(self, details: grpc.aio.ClientCallDetails) -> grpc.aio.ClientCallDetails:
        metadata = grpc.aio.Metadata(*(details.metadata or ()))
        metadata.add(*self._header)
        return grpc.aio.ClientCallDetails(
            details.method, details.timeout, metadata, details.credentials, details.wait_for_ready
        )


class _UnaryUnary(_SigningIn, grpc.aio.UnaryUnaryClientInterceptor):
    async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return await continuation(self._signed(client_call_details), request)


class _UnaryStream(_SigningIn, grpc.aio.UnaryStreamClientInterceptor):
    async def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return await continuation(self._signed(client_call_details), request)


class _StreamUnary(_SigningIn, grpc.aio.StreamUnaryClientInterceptor):
    async def intercept_stream_unary(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        return await continuation(self._signed(client_call_details), request_iterator)
