"""Which methods a token of the scope `read` reaches."""

import pytest
from fakes.contract import METHODS, SERVICES, path_of
from google.api import annotations_pb2
from sage_runtime.access import ReadMethods, is_open

_READ = {
    "sage.compare.v1.CompareService": {"CompareEmbeddings"},
    "sage.embed.v1.ApiKeyService": {"GetApiKey"},
    "sage.embed.v1.EmbedService": {
        "GetEmbedding",
        "ListEmbeddings",
        "ListModels",
        "ReadSegments",
        "WatchEmbedding",
    },
    "sage.ingest.v1.IngestService": {"GetPlaybackUrl", "GetUpload", "GetVideo", "ListVideos"},
}


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.full_name)
def test_methods_that_only_read_are_those_that_were_meant(service):
    """A new method joins neither group without somebody having thought about it."""
    reads = ReadMethods([service.full_name])
    assert {method.name for method in service.methods if path_of(method) in reads} == _READ[service.full_name]


@pytest.mark.parametrize("method", METHODS, ids=path_of)
def test_what_is_a_get_over_json_only_reads(method):
    """GET, which caches and browsers repeat as they like, and `read` reach the same methods; one POST asks, too."""
    is_get = method.GetOptions().Extensions[annotations_pb2.http].WhichOneof("pattern") == "get"
    is_read = path_of(method) in ReadMethods([method.containing_service.full_name])
    assert is_read == (is_get or method.name == "CompareEmbeddings")


def test_what_is_not_known_is_no_read():
    """Neither a service without a contract here nor one that the server does not have counts as read."""
    reads = ReadMethods(["sage.ingest.v1.IngestService", "test.v1.EchoService"])
    assert "/test.v1.EchoService/Get" not in reads
    assert "/sage.embed.v1.EmbedService/GetEmbedding" not in reads
    assert "/sage.ingest.v1.IngestService/Nothing" not in reads


def test_only_health_needs_no_token():
    """Probes go without; reflection is a read like others, and a name that only looks like health is not health."""
    assert is_open("/grpc.health.v1.Health/Check")
    assert not is_open("/grpc.health.v1.HealthAdmin/Check")
    assert not is_open("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo")
    assert "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo" in ReadMethods([])
