"""Makes one call over gRPC-Web, as a browser does, and prints the messages as they arrive.

usage: grpc_web.py URL SERVICE/METHOD JSON [HEADER: VALUE ...]

Each message is a line of JSON. The last line is `{"status": "OK", ...}` with the contents of the trailers.
"""

import base64
import http.client
import json
import ssl
import sys
from collections.abc import Iterator, Mapping
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

import grpc
from google.protobuf import descriptor_pool, json_format, message_factory
from google.rpc import error_details_pb2, status_pb2
from sage.compare.v1 import compare_pb2
from sage.embed.v1 import api_key_pb2, embed_pb2
from sage.ingest.v1 import ingest_pb2

# Imported for the messages that they register: the contracts, and the details of errors.
CONTRACTS = (compare_pb2, api_key_pb2, embed_pb2, ingest_pb2, error_details_pb2)

_TRAILERS = 0x80
_TIMEOUT_S = 60


def main() -> None:
    """Make the call that the command line describes."""
    url, path, body, *headers = sys.argv[1:]
    service, _, name = path.rpartition("/")
    method = descriptor_pool.Default().FindServiceByName(service).methods_by_name[name]
    request = json_format.Parse(body, message_factory.GetMessageClass(method.input_type)())
    response_type = message_factory.GetMessageClass(method.output_type)
    response = send(url, path, request.SerializeToString(), dict(one.split(": ", 1) for one in headers))
    trailers = {name.lower(): value for name, value in response.getheaders()}
    for kind, payload in frames(response):
        if kind & _TRAILERS:
            trailers |= dict(line.split(":", 1) for line in payload.decode().splitlines() if line)
        else:
            print(json_format.MessageToJson(response_type.FromString(payload), indent=None), flush=True)
    print(json.dumps(outcome(response.status, trailers)))


def send(url: str, path: str, message: bytes, headers: Mapping[str, str]) -> http.client.HTTPResponse:
    """Send one message and return the response, whose body may last long."""
    parts = urlsplit(url)
    host, port = parts.hostname or "localhost", parts.port
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        # A gateway under test has a self-signed certificate.
        trusting = ssl.create_default_context()
        trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
        connection = http.client.HTTPSConnection(host, port, timeout=_TIMEOUT_S, context=trusting)
    else:
        connection = http.client.HTTPConnection(host, port, timeout=_TIMEOUT_S)
    kind = {"content-type": "application/grpc-web+proto", "accept": "application/grpc-web+proto", "x-grpc-web": "1"}
    frame = b"\0" + len(message).to_bytes(4, "big") + message
    connection.request("POST", f"/{path}", body=frame, headers={**kind, **headers})
    return connection.getresponse()


def frames(body: BinaryIO | http.client.HTTPResponse) -> Iterator[tuple[int, bytes]]:
    """Yield kind and payload of each frame of a response."""
    while len(head := body.read(5)) == 5:
        yield head[0], body.read(int.from_bytes(head[1:], "big"))


def outcome(http_status: int, trailers: Mapping[str, str]) -> dict[str, object]:
    """Return how the call ended."""
    if "grpc-status" not in trailers:
        return {"status": f"HTTP {http_status}"}
    code = int(trailers["grpc-status"])
    found: dict[str, object] = {"status": next(one.name for one in grpc.StatusCode if one.value[0] == code)}
    if message := trailers.get("grpc-message", "").strip():
        found["message"] = unquote(message)
    if packed := trailers.get("grpc-status-details-bin", "").strip():
        status = status_pb2.Status.FromString(base64.b64decode(packed + "=" * (-len(packed) % 4)))
        found["details"] = json_format.MessageToDict(status)["details"]
    return found


if __name__ == "__main__":
    main()
