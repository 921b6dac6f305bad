"""The credentials of this command and the certificates that it trusts.

Both come from the environment, never from arguments: everyone on a machine can list those, and shells keep them in
their history.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from sage_cli.api.errors import CommandError


@dataclass(frozen=True)
class Credentials:
    """How to sign in.

    Attributes:
        token: An API token; empty for none.
        ca_certificates: Root certificates to trust, PEM; None for those of this machine.
        plaintext_token: Whether the token may go to another machine without TLS.
    """

    token: str = field(default="", repr=False)
    ca_certificates: bytes | None = None
    plaintext_token: bool = False

    @property
    def interceptors(self) -> list[grpc.aio.ClientInterceptor]:
        """Interceptors that send the token with each call.

        gRPC's own call credentials are refused on channels without TLS, which includes those to this machine.
        """
        if not self.token:
            return []
        header = ("authorization", f"Bearer {self.token}")
        return [_UnaryUnary(header), _UnaryStream(header), _StreamUnary(header)]


def read_credentials(environment: Mapping[str, str]) -> Credentials:
    """Return the credentials from SAGE_TOKEN or SAGE_TOKEN_FILE, SAGE_CA_FILE and SAGE_PLAINTEXT_TOKEN. Empty: unset.

    Raises:
        CommandError: A file cannot be read, or its contents cannot be a token or a certificate.
    """
    token, token_file, ca_file = (environment.get(f"SAGE_{name}", "") for name in ("TOKEN", "TOKEN_FILE", "CA_FILE"))
    if token and token_file:
        raise CommandError("SAGE_TOKEN and SAGE_TOKEN_FILE are both set.", next_step="Unset one of them.")
    source = "SAGE_TOKEN_FILE" if token_file else "SAGE_TOKEN"
    if token_file:
        token = _read(token_file, variable=source).decode(errors="replace")
    token = token.strip()
    # Only visible ASCII can be sent, and several words mean some other file. The content is never shown.
    if (token_file and not token) or not token.isascii() or not token.isprintable() or " " in token:
        raise CommandError(f"{source} does not contain a token.", next_step="A token is one word, such as sage_AbC...")
    certificates = _read(ca_file, variable="SAGE_CA_FILE") if ca_file else None
    # grpcio would report this as a failed connection, and only when it connects.
    if certificates is not None and b"-----BEGIN CERTIFICATE-----" not in certificates:
        raise CommandError(
            f"SAGE_CA_FILE: {ca_file} contains no certificates.", next_step="It must be a file in PEM format."
        )
    return Credentials(
        token=token,
        ca_certificates=certificates,
        plaintext_token=environment.get("SAGE_PLAINTEXT_TOKEN", "") == "1",
    )


def _read(file: str, *, variable: str) -> bytes:
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise CommandError(f"{variable}: {file} cannot be read: {error.strerror}.") from error


class _Interceptor:
    """The common part of the interceptors: grpcio accepts one object per kind of call only."""

    def __init__(self, header: tuple[str, str]) -> None:
        self._header = header

    def _signed(self, details: grpc.aio.ClientCallDetails) -> grpc.aio.ClientCallDetails:
        metadata = grpc.aio.Metadata(*(details.metadata or ()))
        metadata.add(*self._header)
        return grpc.aio.ClientCallDetails(
            details.method, details.timeout, metadata, details.credentials, details.wait_for_ready
        )


class _UnaryUnary(_Interceptor, grpc.aio.UnaryUnaryClientInterceptor):
    async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return await continuation(self._signed(client_call_details), request)


class _UnaryStream(_Interceptor, grpc.aio.UnaryStreamClientInterceptor):
    async def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return await continuation(self._signed(client_call_details), request)


class _StreamUnary(_Interceptor, grpc.aio.StreamUnaryClientInterceptor):
    async def intercept_stream_unary(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        return await continuation(self._signed(client_call_details), request_iterator)
