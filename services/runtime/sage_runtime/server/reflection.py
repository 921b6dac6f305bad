"""Server reflection, in the version that grpcio implements (v1alpha) and the one that clients try first (v1)."""

import contextlib
import importlib
import pkgutil
from collections.abc import Iterable

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool
from grpc_reflection.v1alpha import reflection, reflection_pb2, reflection_pb2_grpc

_V1ALPHA = "grpc.reflection.v1alpha"
_V1 = "grpc.reflection.v1"


def add_reflection(server: grpc.aio.Server, service_names: Iterable[str]) -> None:
    """Describe the services to clients such as grpcurl.

    Both versions have the same messages on the wire, so one servicer serves both.
    """
    _add_v1_descriptor()
    services = (*service_names, f"{_V1ALPHA}.ServerReflection", f"{_V1}.ServerReflection")
    servicer = _Servicer(services)
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(servicer, server)
    method = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    v1 = grpc.method_handlers_generic_handler(f"{_V1}.ServerReflection", {"ServerReflectionInfo": method})
    server.add_generic_rpc_handlers((v1,))


def load_descriptors(service_names: Iterable[str]) -> None:
    """Import the generated messages of services by their full names, so that reflection can describe them.

    Raises:
        LookupError: The generated code has no such service.
    """
    pool = descriptor_pool.Default()
    for name in service_names:
        package, _, _ = name.rpartition(".")
        try:
            for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
                if module.name.endswith("_pb2"):
                    importlib.import_module(f"{package}.{module.name}")
            pool.FindServiceByName(name)
        except (ImportError, KeyError, ValueError) as error:
            raise LookupError(f"there is no service {name!r} to describe") from error


class _Servicer(reflection.aio.ReflectionServicer):  # type: ignore[misc] # its base has no types
    """The library's servicer, extended to find methods: `grpcurl describe package.Service.Method`."""

    def _file_containing_symbol(
        self, request: reflection_pb2.ServerReflectionRequest, symbol: str
    ) -> reflection_pb2.ServerReflectionResponse:
        # protobuf's pool finds messages, enums, services and extensions by this name, but not methods.
        with contextlib.suppress(KeyError):
            symbol = descriptor_pool.Default().FindMethodByName(symbol).containing_service.full_name
        return super()._file_containing_symbol(request, symbol)


def _add_v1_descriptor() -> None:
    """Add the service of v1 to the descriptor pool, so that `describe` finds what `list` shows."""
    pool = descriptor_pool.Default()
    file = descriptor_pb2.FileDescriptorProto()
    reflection_pb2.DESCRIPTOR.CopyToProto(file)
    file.name = "grpc/reflection/v1/reflection.proto"
    file.package = _V1
    for message in file.message_type:
        for field in message.field:
            if field.type_name:  # setting it, even to an empty string, would turn the field into a message
                field.type_name = field.type_name.replace(_V1ALPHA, _V1)
    for method in file.service[0].method:
        method.input_type = method.input_type.replace(_V1ALPHA, _V1)
        method.output_type = method.output_type.replace(_V1ALPHA, _V1)
    # Adding the same file again is allowed: two servers may run in one process.
    pool.AddSerializedFile(file.SerializeToString())
