"""Errors of the gateway itself, in the same form as those of the services: a `google.rpc.Status` with details."""

import base64
from collections.abc import Mapping
from typing import Any

from google.protobuf import json_format
from google.rpc import status_pb2
from sage_runtime.errors import Reason, SageError, invalid_field
from sage_runtime.errors.catalogue import to_status

Json = dict[str, Any]

HEALTH_PATH = "/v1/health"
# Envoy's default.
_MAX_HEADER_BYTES = 60 * 1024

# Envoy replaces the operators between percent signs. See "Access logging, command operators" in its documentation.
_WHAT = "%LOCAL_REPLY_BODY% (%RESPONSE_CODE_DETAILS%)"
_METHOD = "%REQ(:METHOD):16% %PATH(NQ:ORIG_OR_PATH):128%"
_SERVICE = "%UPSTREAM_CLUSTER%"


def local_replies(*, max_json_bytes: int, rate_limit: int) -> Json:
    """Return Envoy's `local_reply_config`.

    Over HTTP the response is the JSON of a `google.rpc.Status`, in the same form as errors of the services. Over
    gRPC and gRPC-Web it is the message, with the details in the trailer where clients expect them.

    Args:
        max_json_bytes: The largest body of a JSON call.
        rate_limit: Calls per second that one address may make.
    """
    over_http = _refusals(max_json_bytes, rate_limit, what=_WHAT, method=_METHOD, service=_SERVICE)
    # The details are bytes, in which Envoy makes no replacements.
    over_grpc = _refusals(
        max_json_bytes,
        rate_limit,
        what="it is malformed, incomplete or too slow",
        method="this method",
        service="called",
    )
    return {
        "mappers": [
            _health(200, "SERVING"),
            _health(503, "NOT_SERVING"),
            *(_grpc_mapper(_has_status(code), status) for code, status in over_grpc.items()),
            *(_json_mapper(_has_status(code), status) for code, status in over_http.items()),
            # Every other error that Envoy may respond with, such as 507 if it can no longer repeat an upload.
            *(
                mapper
                for lowest, like in ((500, 503), (400, 400))
                for mapper in (
                    _grpc_mapper(_has_status(lowest, op="GE"), over_grpc[like]),
                    _json_mapper(_has_status(lowest, op="GE"), over_http[like]) | {"status_code": like},
                )
            ),
        ],
        "body_format": {"json_format": _as_json(status_pb2.Status(code=2, message=_WHAT))},
    }


def _refusals(
    max_json_bytes: int, rate_limit: int, *, what: str, method: str, service: str
) -> Mapping[int, status_pb2.Status]:
    """Return the error for each HTTP status with which Envoy refuses a call."""
    unknown_page = to_status(SageError(Reason.FORBIDDEN, needs="a host name and an origin that the gateway knows"))
    unknown_page.message = (
        "The gateway does not accept this host name or calls from pages of this origin. Its operator can add them "
        "to SAGE_GATEWAY_NAMES and SAGE_GATEWAY_ALLOWED_ORIGINS."
    )
    too_large = SageError(
        Reason.LIMIT_EXCEEDED,
        limit="the size of a JSON body in bytes",
        max=max_json_bytes,
        what_to_do="Upload a film as the body of /v1/videos, or in parts.",
    )
    too_many = SageError(
        Reason.LIMIT_EXCEEDED,
        limit="calls per second from one address",
        max=rate_limit,
        what_to_do="Wait a second, then try again.",
    )
    headers_too_large = SageError(
        Reason.LIMIT_EXCEEDED,
        limit="the size of all headers in bytes",
        max=_MAX_HEADER_BYTES,
        what_to_do="Send fewer or shorter ones.",
    )
    unreadable = to_status(invalid_field("request", f"could not be read: {what}."))
    unreachable = to_status(SageError(Reason.SERVICE_UNAVAILABLE, service=service))
    return {
        # Malformed; not complete in time; HTTP/1.0.
        **dict.fromkeys((400, 408, 426), unreadable),
        401: to_status(SageError(Reason.UNAUTHENTICATED, why="The call has no valid token.")),
        403: unknown_page,
        404: to_status(SageError(Reason.UNIMPLEMENTED, method=method)),
        413: to_status(too_large),
        429: to_status(too_many),
        431: to_status(headers_too_large),
        **dict.fromkeys((502, 503, 504), unreachable),
    }


def _grpc_mapper(when: Json, status: status_pb2.Status) -> Json:
    is_grpc = [
        _header("content-type", string_match={"prefix": "application/grpc"}),
        # After the transcoder a JSON call has the same type; only this header distinguishes it.
        _header("x-envoy-original-path", present_match=True, invert_match=True),
    ]
    details = base64.b64encode(status.SerializeToString()).decode().rstrip("=")
    # A response of headers only. By default Envoy's filters derive the status from the HTTP status, and UNAVAILABLE
    # from 429.
    headers = {"grpc-status": str(status.code), "grpc-message": status.message, "grpc-status-details-bin": details}
    return {
        "filter": {"and_filter": {"filters": [when, *is_grpc]}},
        "status_code": 200,
        "body_format_override": {"text_format_source": {"inline_string": ""}, "content_type": "application/grpc"},
        "headers_to_add": [
            {"header": {"key": name, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
            for name, value in headers.items()
        ],
    }


def _json_mapper(when: Json, status: status_pb2.Status) -> Json:
    return {"filter": when, "body_format_override": {"json_format": _as_json(status)}}


def _health(http_status: int, word: str) -> Json:
    asked = _header(":path", string_match={"exact": HEALTH_PATH})
    return {
        "filter": {"and_filter": {"filters": [_has_status(http_status), asked]}},
        "body_format_override": {"json_format": {"status": word}},
    }


def _as_json(status: status_pb2.Status) -> Json:
    return json_format.MessageToDict(status, always_print_fields_with_no_presence=True)


def _has_status(http_status: int, *, op: str = "EQ") -> Json:
    value = {"default_value": http_status, "runtime_key": "sage.local_reply"}
    return {"status_code_filter": {"comparison": {"op": op, "value": value}}}


def _header(name: str, **match: Any) -> Json:
    return {"header_filter": {"header": {"name": name, **match}}}
