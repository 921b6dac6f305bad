"""Every RPC of the contracts, each with an empty response."""

import importlib
from collections.abc import Iterator
from pathlib import Path

import grpc
import sage
from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from sage_runtime.server import ServiceRegistration


def _services() -> Iterator[ServiceDescriptor]:
    for root in map(Path, sage.__path__):
        for file in sorted(root.rglob("*_pb2.py")):
            name = ".".join(("sage", *file.relative_to(root).with_suffix("").parts))
            yield from importlib.import_module(name).DESCRIPTOR.services_by_name.values()


SERVICES = tuple(_services())
METHODS = tuple(method for service in SERVICES for method in service.methods)
# RPCs that have side effects but need only the scope `read`.
READ_METHODS = {"sage.ingest.v1.IngestService": frozenset({"GetPlaybackUrl"})}

_VALID = {
    "embedding_id": f"embed_{0:032}",
    "embedding_id_a": f"embed_{0:032}",
    "embedding_id_b": f"embed_{1:032}",
    "model": "local-v1",
    "upload_id": f"upload_{0:032}",
    "video_id": f"video_{0:032}",
}


def path_of(method: MethodDescriptor) -> str:
    """Return the path that a call to a method has."""
    return f"/{method.containing_service.full_name}/{method.name}"


def shape_of(method: MethodDescriptor) -> str:
    """Return the shape of a method, such as `unary_stream`."""
    return "_".join("stream" if streams else "unary" for streams in (method.client_streaming, method.server_streaming))


def valid_request(method: MethodDescriptor) -> Message:
    """Return a request that no rule of the contract refuses."""
    request = message_factory.GetMessageClass(method.input_type)()
    for name in method.input_type.fields_by_name:
        if name in _VALID:
            setattr(request, name, _VALID[name])
    if "spec" in method.input_type.fields_by_name:
        request.spec.filename = "film.mp4"
    return request


async def call(channel: grpc.aio.Channel, method: MethodDescriptor, **options) -> None:
    """Call a method with a valid request, and read its response to the end."""
    request = valid_request(method).SerializeToString()
    response = getattr(channel, shape_of(method))(path_of(method))(
        iter([request]) if method.client_streaming else request, **options
    )
    if method.server_streaming:
        assert [one async for one in response] == [b""]
    else:
        assert await response == b""


def registrations() -> list[ServiceRegistration]:
    """Return every service."""
    return [_registration(service) for service in SERVICES]


def _registration(service: ServiceDescriptor) -> ServiceRegistration:
    handlers = {method.name: _handler(method) for method in service.methods}

    async def check() -> None:
        pass

    def add(server: grpc.aio.Server) -> None:
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service.full_name, handlers),))

    read_methods = READ_METHODS.get(service.full_name, frozenset())
    return ServiceRegistration(service.full_name, add, check, read_methods=read_methods)


def _handler(method: MethodDescriptor) -> grpc.RpcMethodHandler:
    response = message_factory.GetMessageClass(method.output_type)()

    async def respond(request, _context):
        if method.client_streaming:
            async for _ in request:
                pass
        return response

    async def respond_with_stream(request, context):
        yield await respond(request, context)

    return getattr(grpc, f"{shape_of(method)}_rpc_method_handler")(
        respond_with_stream if method.server_streaming else respond,
        request_deserializer=message_factory.GetMessageClass(method.input_type).FromString,
        response_serializer=type(response).SerializeToString,
    )
