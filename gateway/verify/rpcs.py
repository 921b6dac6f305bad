"""Prints the name of every RPC that the gateway serves over JSON, from its descriptor set."""

from pathlib import Path

from google.api import annotations_pb2
from google.protobuf.descriptor_pb2 import FileDescriptorSet

CONTRACTS = Path(__file__).parents[1] / "sage_gateway" / "sage.binpb"


def main() -> None:
    """Print the names."""
    for file in FileDescriptorSet.FromString(CONTRACTS.read_bytes()).file:
        for service in file.service:
            for method in service.method:
                if method.options.HasExtension(annotations_pb2.http):
                    print(method.name)


if __name__ == "__main__":
    main()
