"""The settings of the gateway, each an environment variable."""

import ipaddress
from dataclasses import dataclass
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, model_validator
from sage_runtime.auth.sign_in import is_loopback, token_paths
from sage_runtime.auth.tokens import TokenFiles, TokensError
from sage_runtime.process.settings import ListenAddress, Settings

# sockaddr_un has 108 bytes for a path, including the terminating zero.
_MAX_SOCKET_BYTES = 107


@dataclass(frozen=True)
class Address:
    """The address of a server.

    Attributes:
        host: A name or an IP address; IPv6 without brackets.
        port: The port.
    """

    host: str
    port: int


def parse_addresses(value: str) -> list[Address]:
    """Return the addresses in a list separated by commas.

    Args:
        value: HOST:PORT of each. The first may have a gRPC scheme, `ipv4:` or `dns:///`, so that the gateway and the
            services accept the same value.

    Raises:
        ValueError: An address is not HOST:PORT.
    """
    for scheme in ("dns:///", "ipv4:"):
        value = value.removeprefix(scheme)
    found = []
    for one in names_of(value):
        host, _, port = one.rpartition(":")
        if not host or not port.isdigit() or not 0 < int(port) <= 65_535:
            raise ValueError("must be HOST:PORT, or several separated by commas, such as 10.0.0.1:50051,10.0.0.2:50051")
        found.append(Address(host.strip("[]"), int(port)))
    if not found:
        raise ValueError("must be HOST:PORT")
    return found


def names_of(value: str) -> list[str]:
    """Return the names in a list separated by commas."""
    return [one for one in (part.strip() for part in value.split(",")) if one]


def _check_addresses(value: str) -> str:
    parse_addresses(value)
    return value


def _check_ip(value: str) -> str:
    # Envoy accepts nothing else to listen on, and reports it only at start-up.
    try:
        ipaddress.ip_address(value.strip("[]"))
    except ValueError:
        raise ValueError("must be an IP address: 127.0.0.1 for this machine only, 0.0.0.0 for all interfaces") from None
    return value.strip("[]")


def _check_ip_listen(value: str) -> str:
    _check_ip(value.rpartition(":")[0])
    return value


def _check_socket(value: str) -> str:
    if not value.startswith("/") or len(value.encode()) > _MAX_SOCKET_BYTES:
        raise ValueError(f"must be an absolute path of at most {_MAX_SOCKET_BYTES} bytes")
    return value


def _check_names(value: str) -> str:
    if not names_of(value):
        raise ValueError("must have a host name, or * for all")
    return value


def _check_origins(value: str) -> str:
    for origin in names_of(value):
        parts = urlsplit(origin)
        if parts.scheme not in ("http", "https") or not parts.netloc or origin != f"{parts.scheme}://{parts.netloc}":
            raise ValueError(
                "must be origins such as https://sage.example.com, separated by commas, without paths or *"
            )
    return value


Ip = Annotated[str, AfterValidator(_check_ip)]
IpListenAddress = Annotated[ListenAddress, AfterValidator(_check_ip_listen)]
SocketPath = Annotated[str, AfterValidator(_check_socket)]
Names = Annotated[str, AfterValidator(_check_names)]
Addresses = Annotated[str, AfterValidator(_check_addresses)]
Origins = Annotated[str, AfterValidator(_check_origins)]


class GatewaySettings(Settings):
    """Settings of the gateway, from which Envoy's configuration is generated.

    Attributes:
        host: IP address to listen on. Beyond loopback the gateway requires sign-in: tokens or OIDC.
        port: Port to listen on.
        names: Host names that the gateway accepts, separated by commas. Others get 403, so that no page can point its
            own name at the gateway (DNS rebinding). `*`: all.
        admin_socket: Unix socket of Envoy's admin interface: readiness, statistics, draining.
        probe_listen: HOST:PORT on which monitoring reads `/ready` and `/stats/prometheus`.
        metrics_public: Allows SAGE_GATEWAY_PROBE_LISTEN to be reachable from other machines. Metrics need no token.
        ingest_address: HOST:PORT of ingest; several replicas separated by commas, or a name for all of them.
        embed_address: HOST:PORT of embed, likewise.
        compare_address: HOST:PORT of compare, likewise.
        allowed_origins: Origins whose pages may call the gateway from a browser, separated by commas. Empty: none.
        rate_limit: Calls per second per client address. Further calls get RESOURCE_EXHAUSTED. 0: no limit.
        rate_burst: Calls that a client address may make at once before the rate limit applies.
        max_connections: Connections that the gateway accepts in all.
        max_connections_per_address: Connections of one client address. Addresses are divided into 16 groups by a hash,
            and those of a group share it. 0, or with SAGE_GATEWAY_TRUSTED_PROXIES: no limit.
        idle_s: Seconds after which a connection without calls is closed, even one that has sent nothing or only the
            start of a line. It must be longer than a load balancer in front of the gateway keeps idle connections.
        trusted_proxies: Number of load balancers in front of the gateway whose X-Forwarded-For is trusted.
        tls_cert: PEM file with the certificate chain. With SAGE_GATEWAY_TLS_KEY, only TLS is accepted.
        tls_key: PEM file with the private key of the certificate.
        token: The gateway's own token, with scope `gateway`. With it, the services trust the user headers.
        tokens_file: The tokens file of the services. The gateway only checks that it can be read.
        sign_in: `off` allows listening beyond loopback without tokens or OIDC.
        oidc_issuer: Issuer of the JSON web tokens with which users sign in. Empty: no OIDC.
        oidc_audience: Audience that these tokens must have.
        oidc_jwks: The issuer's public keys: an http(s) URL or a file.
        oidc_user_claim: The claim that names the user in logs.
        oidc_scope_claim: The claim with the user's scopes, of which `sage:read` and `sage:write` count.
        otlp_endpoint: OpenTelemetry collector to send traces to, such as http://127.0.0.1:4317. Empty: no traces.
    """

    host: Ip = Field(default="127.0.0.1", validation_alias="SAGE_GATEWAY_HOST")
    port: int = Field(default=8080, ge=0, le=65_535, validation_alias="SAGE_GATEWAY_PORT")
    names: Names = Field(default="localhost,127.0.0.1,[::1]", validation_alias="SAGE_GATEWAY_NAMES")
    admin_socket: SocketPath = Field(default="/tmp/sage-gateway.sock", validation_alias="SAGE_GATEWAY_ADMIN_SOCKET")
    probe_listen: IpListenAddress = Field(default="127.0.0.1:9902", validation_alias="SAGE_GATEWAY_PROBE_LISTEN")
    metrics_public: bool = Field(default=False, validation_alias="SAGE_METRICS_PUBLIC")
    ingest_address: Addresses = Field(default="127.0.0.1:50051", validation_alias="SAGE_INGEST_ADDRESS")
    embed_address: Addresses = Field(default="127.0.0.1:50052", validation_alias="SAGE_EMBED_ADDRESS")
    compare_address: Addresses = Field(default="127.0.0.1:50053", validation_alias="SAGE_COMPARE_ADDRESS")
    allowed_origins: Origins = Field(default="", validation_alias="SAGE_GATEWAY_ALLOWED_ORIGINS")
    rate_limit: int = Field(default=0, ge=0, le=1_000_000, validation_alias="SAGE_GATEWAY_RATE_LIMIT")
    rate_burst: int = Field(default=100, ge=1, le=1_000_000, validation_alias="SAGE_GATEWAY_RATE_BURST")
    max_connections: int = Field(default=5000, ge=10, le=1_000_000, validation_alias="SAGE_GATEWAY_MAX_CONNECTIONS")
    max_connections_per_address: int = Field(
        default=1000, ge=0, le=1_000_000, validation_alias="SAGE_GATEWAY_MAX_CONNECTIONS_PER_ADDRESS"
    )
    idle_s: int = Field(default=300, ge=1, le=86_400, validation_alias="SAGE_GATEWAY_IDLE_SECONDS")
    trusted_proxies: int = Field(default=0, ge=0, le=16, validation_alias="SAGE_GATEWAY_TRUSTED_PROXIES")
    tls_cert: str = Field(default="", validation_alias="SAGE_GATEWAY_TLS_CERT")
    tls_key: str = Field(default="", validation_alias="SAGE_GATEWAY_TLS_KEY")
    token: SecretStr = Field(default=SecretStr(""), validation_alias="SAGE_GATEWAY_TOKEN")
    tokens_file: str = Field(default="", validation_alias="SAGE_TOKENS_FILE")
    sign_in: Literal["auto", "on", "off"] = Field(default="auto", validation_alias="SAGE_SIGN_IN")
    oidc_issuer: str = Field(default="", validation_alias="SAGE_GATEWAY_OIDC_ISSUER")
    oidc_audience: str = Field(default="", validation_alias="SAGE_GATEWAY_OIDC_AUDIENCE")
    oidc_jwks: str = Field(default="", validation_alias="SAGE_GATEWAY_OIDC_JWKS")
    oidc_user_claim: str = Field(default="sub", validation_alias="SAGE_GATEWAY_OIDC_USER_CLAIM")
    oidc_scope_claim: str = Field(default="scope", validation_alias="SAGE_GATEWAY_OIDC_SCOPE_CLAIM")
    otlp_endpoint: str = Field(default="", pattern="^(https?://.+)?$", validation_alias="SAGE_OTLP_ENDPOINT")

    @property
    def oidc(self) -> bool:
        """Whether users sign in with JSON web tokens."""
        return bool(self.oidc_issuer)

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if bool(self.tls_cert) != bool(self.tls_key):
            raise ValueError("SAGE_GATEWAY_TLS_CERT and SAGE_GATEWAY_TLS_KEY must both be set, or neither")
        if self.oidc and not (self.oidc_audience and self.oidc_jwks and self.token.get_secret_value()):
            raise ValueError(
                "SAGE_GATEWAY_OIDC_ISSUER also requires SAGE_GATEWAY_OIDC_AUDIENCE, SAGE_GATEWAY_OIDC_JWKS and "
                "SAGE_GATEWAY_TOKEN"
            )
        if self.tokens_file:
            try:
                TokenFiles(token_paths(self.tokens_file))
            except TokensError as error:
                raise ValueError(f"SAGE_TOKENS_FILE: {error}") from error
        if not self.metrics_public and not is_loopback(parse_addresses(self.probe_listen)[0].host):
            raise ValueError(
                f"SAGE_GATEWAY_PROBE_LISTEN={self.probe_listen} is open to other machines, and statistics need no "
                "token. Listen on 127.0.0.1, or allow it with SAGE_METRICS_PUBLIC=true"
            )
        if not (self.tokens_file or self.oidc or self.sign_in == "off" or is_loopback(self.host)):
            raise ValueError(
                f"SAGE_GATEWAY_HOST={self.host} is open to other machines, and callers need not sign in. Set "
                "SAGE_TOKENS_FILE or SAGE_GATEWAY_OIDC_ISSUER, or allow it with SAGE_SIGN_IN=off"
            )
        return self
