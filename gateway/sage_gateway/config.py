"""The settings of the gateway, each an environment variable."""

import ipaddress
from dataclasses import dataclass
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, model_validator
from sage_runtime.exposure import is_loopback
from sage_runtime.settings import ListenAddress, Settings

# sockaddr_un has 108 bytes for a path, with the zero after it.
_MAX_SOCKET_BYTES = 107


@dataclass(frozen=True)
class Address:
    """Where something answers.

    Attributes:
        host: A name or an IP address, IPv6 without brackets.
        port: Its port.
    """

    host: str
    port: int


def parse_addresses(value: str) -> list[Address]:
    """Return the addresses of a list, separated by commas.

    Args:
        value: HOST:PORT of each. A scheme of gRPC's, `ipv4:` or `dns:///`, may stand before the first, so that the
            gateway and the services take the same value.

    Raises:
        ValueError: One is not HOST:PORT.
    """
    for scheme in ("dns:///", "ipv4:"):
        value = value.removeprefix(scheme)
    found = []
    for one in names_of(value):
        host, _, port = one.rpartition(":")
        if not host or not port.isdigit() or not 0 < int(port) <= 65_535:
            raise ValueError("must be HOST:PORT, or several with commas between, such as 10.0.0.1:50051,10.0.0.2:50051")
        found.append(Address(host.strip("[]"), int(port)))
    if not found:
        raise ValueError("must be HOST:PORT")
    return found


def names_of(value: str) -> list[str]:
    """Return what a list with commas names."""
    return [one for one in (part.strip() for part in value.split(",")) if one]


def _check_addresses(value: str) -> str:
    parse_addresses(value)
    return value


def _check_ip(value: str) -> str:
    # Envoy takes nothing else to listen on, and says so only when it starts.
    try:
        ipaddress.ip_address(value.strip("[]"))
    except ValueError:
        raise ValueError("must be an IP address: 127.0.0.1 for this machine alone, 0.0.0.0 for all") from None
    return value.strip("[]")


def _check_ip_listen(value: str) -> str:
    _check_ip(value.rpartition(":")[0])
    return value


def _check_socket(value: str) -> str:
    if not value.startswith("/") or len(value.encode()) > _MAX_SOCKET_BYTES:
        raise ValueError(f"must be a path from the root, of {_MAX_SOCKET_BYTES} bytes at most")
    return value


def _check_names(value: str) -> str:
    if not names_of(value):
        raise ValueError("must have a host name, or * for all")
    return value


def _check_origins(value: str) -> str:
    for origin in names_of(value):
        parts = urlsplit(origin)
        if parts.scheme not in ("http", "https") or not parts.netloc or origin != f"{parts.scheme}://{parts.netloc}":
            raise ValueError("must be origins such as https://sage.example.com, with commas between: no path, no *")
    return value


Ip = Annotated[str, AfterValidator(_check_ip)]
IpListenAddress = Annotated[ListenAddress, AfterValidator(_check_ip_listen)]
SocketPath = Annotated[str, AfterValidator(_check_socket)]
Names = Annotated[str, AfterValidator(_check_names)]
Addresses = Annotated[str, AfterValidator(_check_addresses)]
Origins = Annotated[str, AfterValidator(_check_origins)]


class GatewaySettings(Settings):
    """What Envoy's configuration is made from.

    Attributes:
        host: IP address to listen on. Beyond loopback the gateway wants sign-in: tokens or OIDC.
        port: Port to listen on.
        names: Host names that the gateway answers to, with commas between; others get 403, so that no page can point
            a name of its own at it. `*`: all.
        admin_socket: Unix socket of Envoy's admin interface: readiness, statistics, draining.
        probe_listen: HOST:PORT where monitoring gets `/ready` and `/stats/prometheus`.
        ingest_address: HOST:PORT of ingest; several replicas with commas between, or a name that stands for all.
        embed_address: The same of embed.
        compare_address: The same of compare.
        allowed_origins: Origins of other pages that may call from a browser, with commas between. Empty: none.
        rate_limit: Calls a second that one client address may make; more get RESOURCE_EXHAUSTED. 0: no limit.
        rate_burst: Calls that it may make at once before that counts.
        trusted_proxies: Load balancers in front whose X-Forwarded-For is believed.
        tls_cert: File of the certificate chain, PEM. With `tls_key` the gateway speaks TLS only.
        tls_key: File of the certificate's private key, PEM.
        token: The gateway's own token, of scope `gateway`: with it the services believe what the gateway says of users.
        tokens_file: Where the services' tokens are; the gateway only wants to know that there are some.
        sign_in: `off` to listen beyond loopback without tokens or OIDC.
        oidc_issuer: Issuer of the JSON web tokens that sign users in. Empty: no OIDC.
        oidc_audience: Audience that they must be meant for.
        oidc_jwks: Where the issuer's keys are: an http(s) URL, or a file.
        oidc_user_claim: The claim that names the user in logs.
        oidc_scope_claim: The claim with the user's scopes; `sage:read` and `sage:write` count.
        otlp_endpoint: OpenTelemetry collector that traces are sent to, such as http://127.0.0.1:4317. Empty: none.
    """

    host: Ip = Field(default="127.0.0.1", validation_alias="SAGE_GATEWAY_HOST")
    port: int = Field(default=8080, ge=0, le=65_535, validation_alias="SAGE_GATEWAY_PORT")
    names: Names = Field(default="localhost,127.0.0.1,[::1]", validation_alias="SAGE_GATEWAY_NAMES")
    admin_socket: SocketPath = Field(default="/tmp/sage-gateway.sock", validation_alias="SAGE_GATEWAY_ADMIN_SOCKET")
    probe_listen: IpListenAddress = Field(default="127.0.0.1:9902", validation_alias="SAGE_GATEWAY_PROBE_LISTEN")
    ingest_address: Addresses = Field(default="127.0.0.1:50051", validation_alias="SAGE_INGEST_ADDRESS")
    embed_address: Addresses = Field(default="127.0.0.1:50052", validation_alias="SAGE_EMBED_ADDRESS")
    compare_address: Addresses = Field(default="127.0.0.1:50053", validation_alias="SAGE_COMPARE_ADDRESS")
    allowed_origins: Origins = Field(default="", validation_alias="SAGE_GATEWAY_ALLOWED_ORIGINS")
    rate_limit: int = Field(default=0, ge=0, le=1_000_000, validation_alias="SAGE_GATEWAY_RATE_LIMIT")
    rate_burst: int = Field(default=100, ge=1, le=1_000_000, validation_alias="SAGE_GATEWAY_RATE_BURST")
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
                "SAGE_GATEWAY_OIDC_ISSUER wants SAGE_GATEWAY_OIDC_AUDIENCE, SAGE_GATEWAY_OIDC_JWKS and "
                "SAGE_GATEWAY_TOKEN set as well"
            )
        if not (self.tokens_file or self.oidc or self.sign_in == "off" or is_loopback(f"{self.host}:0")):
            raise ValueError(
                f"SAGE_GATEWAY_HOST={self.host} is open to other machines, and nobody has to sign in. Set "
                "SAGE_TOKENS_FILE, or SAGE_GATEWAY_OIDC_ISSUER, or say by SAGE_SIGN_IN=off that this is meant"
            )
        return self
