"""Fills in `envoy.yaml` with values from the settings."""

import functools
import json
import string
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from google.protobuf import descriptor_pb2

from sage_gateway.config import Address, GatewaySettings, names_of, parse_addresses
from sage_gateway.errors import local_replies

DESCRIPTORS = "sage.binpb"

_SERVICES = (
    "sage.ingest.v1.IngestService",
    "sage.embed.v1.EmbedService",
    "sage.embed.v1.ApiKeyService",
    "sage.embed.v1.FingerprintService",
    "sage.compare.v1.CompareService",
)
_MAX_JSON_BYTES = 1024 * 1024
# The comparison of two long films is several MiB of JSON.
_MAX_RESPONSE_BYTES = 32 * 1024 * 1024
_EXTENSIONS = "type.googleapis.com/envoy.extensions"
# Headers that only the gateway may send to the services: see docs/adr/0012.
_TOKEN, _USER, _SCOPE = "x-sage-gateway-token", "x-sage-user", "x-sage-scope"
_UPLOAD_LENGTH = "x-upload-content-length"
# gRPC's own headers except grpc-timeout, grpc-encoding and grpc-accept-encoding, and all binary ones. A grpcio server
# ends its connection at some that it cannot read, and no service uses them.
_REFUSED_BY_GRPC = ("grpc-(|[^aet].*|a[^c].*|e[^n].*|t[^i].*)", ".*-bin")
_ADDRESS_GROUPS = 16
# The transcoder sets these on a JSON call, for the log and for local replies.
_ORIGINAL_PATH, _ORIGINAL_METHOD = "x-envoy-original-path", "x-envoy-original-method"

Json = dict[str, Any]


def render(settings: GatewaySettings, *, descriptors: Path | None = None) -> str:
    """Return Envoy's configuration.

    Args:
        settings: The gateway's settings.
        descriptors: The descriptor set that Envoy reads. By default the one in this package.
    """
    template = resources.files(__package__).joinpath("envoy.yaml").read_text()
    descriptor_set = descriptors or Path(str(resources.files(__package__).joinpath(DESCRIPTORS)))
    # JSON is YAML, so a value can be anything from a number to a whole section.
    values = {name: json.dumps(value) for name, value in _values(settings, descriptor_set).items()}
    # Not JSON, because these chains consist of parts of the first one.
    values["other_groups"] = "\n        ".join(
        f"- {{ name: group_{group}, transport_socket: *tls, transport_socket_connect_timeout: 10s, "
        "filters: [*connections, *http] }"
        for group in range(1, _groups(settings))
    )
    return string.Template(template).substitute(values)


def _values(settings: GatewaySettings, descriptors: Path) -> Json:
    origins = names_of(settings.allowed_origins)
    names = names_of(settings.names)
    probe = parse_addresses(settings.probe_listen)[0]
    return {
        "host": settings.host,
        "port": settings.port,
        "names": names,
        # Envoy accepts `*` only once.
        "other_names": ["none.invalid"] if "*" in names else ["*"],
        "admin_socket": settings.admin_socket,
        "probe_host": probe.host,
        "probe_port": probe.port,
        "tls": _downstream_tls(settings),
        "max_connections": settings.max_connections,
        "max_connections_per_address": (
            settings.max_connections_per_address if _groups(settings) > 1 else settings.max_connections
        ),
        "address_groups": _address_groups(settings),
        "idle_timeout": f"{settings.idle_s}s",
        "trusted_proxies": settings.trusted_proxies,
        "files_transcoder": _transcoder(descriptors),
        "messages_transcoder": _transcoder(descriptors, max_response_bytes=_MAX_RESPONSE_BYTES),
        "events_transcoder": _transcoder(descriptors, max_response_bytes=_MAX_RESPONSE_BYTES, events=True),
        "max_json_bytes": _MAX_JSON_BYTES,
        "local_replies": local_replies(max_json_bytes=_MAX_JSON_BYTES, rate_limit=settings.rate_limit),
        "cors_origins": [{"exact": origin} for origin in origins],
        "csrf_origins": [{"exact": urlsplit(origin).netloc} for origin in origins],
        "rate_limit": _rate_limit(settings),
        "request_mutations": _request_mutations(settings),
        # gRPC clients send no trailers.
        "request_trailers_mutations": [_removal(".*")],
        "retries": _retry_policy("connect-failure,refused-stream,reset-before-request"),
        "retries_of_reads": _retry_policy("connect-failure,refused-stream,reset"),
        **{f"{service}_reads": _reads(service) for service in ("ingest", "embed", "compare")},
        "methods": {
            "services": [
                {"name": name, "method_names": [method.name for method in service.method]}
                for name, service in _services().items()
            ]
        },
        "oidc": _oidc(settings),
        "tracing": _tracing(settings),
        **{
            f"{service}_endpoints": _endpoints(service, parse_addresses(getattr(settings, f"{service}_address")))
            for service in ("ingest", "embed", "compare")
        },
        "oidc_endpoints": _endpoints("oidc", _address_of_url(settings.oidc_jwks)),
        "oidc_tls": _upstream_tls(settings.oidc_jwks),
        "telemetry_endpoints": _endpoints("telemetry", _address_of_url(settings.otlp_endpoint)),
    }


def _transcoder(descriptors: Path, *, max_response_bytes: int | None = None, events: bool = False) -> Json:
    """Return a configuration of `grpc_json_transcoder`.

    Args:
        descriptors: The descriptor set of the contracts.
        max_response_bytes: Largest single response. Envoy also buffers this much of a request if the service reads
            slowly, so files use the connection's 1 MiB instead.
        events: Whether response streams are server-sent events instead of lines of JSON.
    """
    limit = {} if max_response_bytes is None else {"max_response_body_size": max_response_bytes}
    return limit | {
        "@type": f"{_EXTENSIONS}.filters.http.grpc_json_transcoder.v3.GrpcJsonTranscoder",
        "proto_descriptor": str(descriptors),
        "services": list(_SERVICES),
        "convert_grpc_status": True,
        "request_validation_options": {"reject_unknown_method": True, "reject_unknown_query_parameters": True},
        "query_param_unescape_plus": True,
        "print_options": {
            "always_print_primitive_fields": True,
            "stream_newline_delimited": True,
            "stream_sse_style_delimited": events,
        },
    }


def _endpoints(cluster: str, addresses: list[Address]) -> Json:
    endpoints = [
        {"endpoint": {"address": {"socket_address": {"address": one.host, "port_value": one.port}}}}
        for one in addresses
    ]
    return {"cluster_name": cluster, "endpoints": [{"lb_endpoints": endpoints}] if endpoints else []}


def _downstream_tls(settings: GatewaySettings) -> Json | None:
    if not settings.tls_cert:
        return None
    files = {"certificate_chain": {"filename": settings.tls_cert}, "private_key": {"filename": settings.tls_key}}
    return {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": f"{_EXTENSIONS}.transport_sockets.tls.v3.DownstreamTlsContext",
            "common_tls_context": {"alpn_protocols": ["h2", "http/1.1"], "tls_certificates": [files]},
        },
    }


def _upstream_tls(url: str) -> Json | None:
    parts = urlsplit(url)
    if parts.scheme != "https":
        return None
    authorities = {"trusted_ca": {"filename": "/etc/ssl/certs/ca-certificates.crt"}}
    return {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": f"{_EXTENSIONS}.transport_sockets.tls.v3.UpstreamTlsContext",
            "sni": parts.hostname,
            "auto_sni_san_validation": True,
            "common_tls_context": {"validation_context": authorities},
        },
    }


def _address_of_url(url: str) -> list[Address]:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or parts.hostname is None:
        return []
    return [Address(parts.hostname, parts.port or (443 if parts.scheme == "https" else 80))]


def _request_mutations(settings: GatewaySettings) -> list[Json]:
    """Return the header changes that are applied before any other filter sees the request."""
    ours = (_TOKEN, _USER, _SCOPE, _UPLOAD_LENGTH, _ORIGINAL_PATH, _ORIGINAL_METHOD)
    removed = [{"remove": name} for name in ours] + [_removal(pattern) for pattern in _REFUSED_BY_GRPC]
    token = settings.token.get_secret_value()
    added = {_UPLOAD_LENGTH: "%REQ(content-length)%"} | ({_TOKEN: token} if token else {})
    return removed + [
        {"append": {"header": {"key": name, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}}
        for name, value in added.items()
    ]


def _removal(pattern: str) -> Json:
    return {"remove_on_match": {"key_matcher": {"safe_regex": {"regex": pattern}}}}


@functools.cache
def _services() -> dict[str, descriptor_pb2.ServiceDescriptorProto]:
    """Return the services by their full names."""
    files = descriptor_pb2.FileDescriptorSet.FromString(resources.files(__package__).joinpath(DESCRIPTORS).read_bytes())
    found = {f"{file.package}.{service.name}": service for file in files.file for service in file.service}
    return {name: found[name] for name in _SERVICES}


def _reads(service: str) -> str:
    """Return a pattern of the paths of a service's methods that the contract marks as without side effects."""
    return "|".join(
        f"/{name}/{method.name}".replace(".", "[.]")
        for name, one in _services().items()
        if name.startswith(f"sage.{service}.")
        for method in one.method
        if method.options.idempotency_level == descriptor_pb2.MethodOptions.NO_SIDE_EFFECTS
    )


def _retry_policy(retry_on: str) -> Json:
    kind = f"{_EXTENSIONS}.retry.host.previous_hosts.v3.PreviousHostsPredicate"
    others = {"name": "envoy.retry_host_predicates.previous_hosts", "typed_config": {"@type": kind}}
    return {
        "retry_on": retry_on,
        "num_retries": 2,
        "host_selection_retry_max_attempts": 3,
        "retry_host_predicate": [others],
    }


def _groups(settings: GatewaySettings) -> int:
    # Behind a load balancer, all connections come from its address.
    return _ADDRESS_GROUPS if settings.max_connections_per_address and not settings.trusted_proxies else 1


def _address_groups(settings: GatewaySettings) -> Json | None:
    """Return the matcher that chooses the filter chain of a connection by a hash of its client's address.

    Each chain has its own limit, so one address can use up that of its group, 1/16 of all addresses, but not the
    others'. Envoy has no limit for each address. A chain costs 3 MB.
    """
    groups = _groups(settings)
    if groups == 1:
        return None
    source = {"@type": f"{_EXTENSIONS}.matching.common_inputs.network.v3.SourceIPInput"}
    hashing = f"{_EXTENSIONS}.matching.input_matchers.consistent_hashing.v3.ConsistentHashing"

    def chain(group: int) -> Json:
        name = {"@type": "type.googleapis.com/google.protobuf.StringValue", "value": f"group_{group}"}
        return {"action": {"name": "chain", "typed_config": name}}

    def hashed_from(group: int) -> Json:
        matcher = {"@type": hashing, "threshold": group, "modulo": groups}
        return {
            "single_predicate": {
                "input": {"name": "source", "typed_config": source},
                "custom_match": {"name": "hash", "typed_config": matcher},
            }
        }

    matchers = [{"predicate": hashed_from(group), "on_match": chain(group)} for group in range(groups - 1, 0, -1)]
    return {"matcher_list": {"matchers": matchers}, "on_no_match": chain(0)}


def _rate_limit(settings: GatewaySettings) -> Json:
    """Return the configuration of `local_ratelimit`: one token bucket per client address."""
    limit: Json = {
        "@type": f"{_EXTENSIONS}.filters.http.local_ratelimit.v3.LocalRateLimit",
        "stat_prefix": "gateway",
    }
    if not settings.rate_limit:
        return limit
    always = {"default_value": {"numerator": 100, "denominator": "HUNDRED"}}
    bucket = {
        "max_tokens": settings.rate_burst,
        # Envoy fills it continuously, not once per interval.
        "tokens_per_fill": settings.rate_limit,
        "fill_interval": "1s",
    }
    return limit | {
        "filter_enabled": always,
        "filter_enforced": always,
        "rate_limited_as_resource_exhausted": True,
        "rate_limits": [{"actions": [{"remote_address": {}}]}],
        "descriptors": [{"entries": [{"key": "remote_address"}], "token_bucket": bucket}],
        "max_dynamic_descriptors": 10_000,
        # For calls without an address. There are none, but Envoy requires it.
        "token_bucket": bucket,
    }


def _oidc(settings: GatewaySettings) -> Json:
    """Return the configuration of `jwt_authn`.

    A call without a valid JSON web token passes unchanged: it may have an API token, and the services check every call
    and refuse those without one.
    """
    authn: Json = {"@type": f"{_EXTENSIONS}.filters.http.jwt_authn.v3.JwtAuthentication"}
    if not settings.oidc:
        return authn
    if _address_of_url(settings.oidc_jwks):
        http_uri = {"uri": settings.oidc_jwks, "cluster": "oidc", "timeout": "5s"}
        keys: Json = {"remote_jwks": {"http_uri": http_uri, "cache_duration": "600s", "async_fetch": {}}}
    else:
        keys = {"local_jwks": {"filename": settings.oidc_jwks}}
    provider = keys | {
        "issuer": settings.oidc_issuer,
        "audiences": names_of(settings.oidc_audience),
        # A token without an expiry would be valid forever.
        "require_expiration": True,
        # By default Envoy also reads them from the query, which logs and browser histories keep.
        "from_headers": [{"name": "authorization", "value_prefix": "Bearer "}],
        "forward": False,
        "claim_to_headers": [
            {"header_name": _USER, "claim_name": settings.oidc_user_claim},
            {"header_name": _SCOPE, "claim_name": settings.oidc_scope_claim},
        ],
    }
    optional = {"requires_any": {"requirements": [{"provider_name": "oidc"}, {"allow_missing_or_failed": {}}]}}
    return authn | {
        "providers": {"oidc": provider},
        "rules": [{"match": {"prefix": "/"}, "requires": optional}],
        "bypass_cors_preflight": True,
    }


def _tracing(settings: GatewaySettings) -> Json | None:
    if not settings.otlp_endpoint:
        return None
    service = {"envoy_grpc": {"cluster_name": "telemetry"}, "timeout": "1s"}
    return {
        "provider": {
            "name": "envoy.tracers.opentelemetry",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.config.trace.v3.OpenTelemetryConfig",
                "grpc_service": service,
                "service_name": "gateway",
            },
        }
    }
