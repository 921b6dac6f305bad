"""The channel to SAGE: address, TLS, keepalive."""

import ipaddress
from urllib.parse import urlsplit

import grpc

from sage_cli.api.errors import CommandError
from sage_cli.api.sign_in import Credentials

DEFAULT_ADDRESS = "localhost:8080"

_TLS_SCHEMES = frozenset({"https", "grpcs"})
_PLAIN_SCHEMES = frozenset({"", "http", "grpc"})
_OPTIONS = (
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    # A comparison of two long films has a distance for every clip.
    ("grpc.max_receive_message_length", 64 * 1024 * 1024),
)


def open_channel(address: str, credentials: Credentials) -> grpc.aio.Channel:
    """Return a channel, which connects on the first call. The caller closes it.

    Args:
        address: `host:port`, `http://host[:port]`, or with TLS `https://host[:port]`. `grpc` and `grpcs` mean the same.
        credentials: How to sign in.

    Raises:
        CommandError: The address is malformed, or the token would go to another machine unencrypted.
    """
    url = urlsplit(address if "://" in address else f"//{address}")
    try:
        host, port = url.hostname or "", url.port
    except ValueError:
        host, port = "", None
    known = url.scheme in _PLAIN_SCHEMES | _TLS_SCHEMES
    if not host or not known or url.path.strip("/") or (url.scheme == "" and not port):
        raise CommandError(
            f"{address!r} is not an address.", next_step=f"Use a host and a port, such as {DEFAULT_ADDRESS}."
        )
    loopback = _is_loopback(host)
    # A proxy from the environment must not intercept calls to this machine.
    options = [*_OPTIONS, ("grpc.enable_http_proxy", 0 if loopback else 1)]
    bracketed = f"[{host}]" if ":" in host else host
    if url.scheme in _TLS_SCHEMES:
        return grpc.aio.secure_channel(
            f"{bracketed}:{port or 443}",
            grpc.ssl_channel_credentials(credentials.ca_certificates),
            options=options,
            interceptors=credentials.interceptors,
        )
    if credentials.token and not loopback and not credentials.plaintext_token:
        raise CommandError(
            f"Nothing was sent: the token would go to {host} unencrypted.",
            next_step=f"Use https://{url.netloc}, or set SAGE_PLAINTEXT_TOKEN=1 if the network is secure.",
        )
    return grpc.aio.insecure_channel(
        f"{bracketed}:{port or 80}", options=options, interceptors=credentials.interceptors
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
