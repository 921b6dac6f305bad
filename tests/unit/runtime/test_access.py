"""Which methods a token with the scope `read` may call."""

import pytest
from fakes.contract import METHODS, READ_METHODS, SERVICES, path_of
from google.api import annotations_pb2
from sage_runtime.auth.sign_in import ReadMethods, needs_token

_READ = {
    "sage.compare.v1.CompareService": {"CompareEmbeddings"},
    "sage.embed.v1.ApiKeyService": {"GetApiKey"},
    "sage.embed.v1.FingerprintService": {"GetFingerprint", "WatchFingerprint", "ReadFingerprint"},
    "sage.embed.v1.EmbedService": {
        "GetEmbedding",
        "ListEmbeddings",
        "ListModels",
        "ReadSegments",
        "WatchEmbedding",
    },
    "sage.ingest.v1.IngestService": {"GetPlaybackUrl", "GetUpload", "GetVideo", "ListUploads", "ListVideos"},
}


def _reads(service_name: str) -> ReadMethods:
    return ReadMethods({service_name: READ_METHODS.get(service_name, ())})


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.full_name)
def test_read_methods_are_exactly_the_intended_ones(service):
    """A new RPC must be added to `_READ` or left out of it deliberately."""
    reads = _reads(service.full_name)
    assert {method.name for method in service.methods if path_of(method) in reads} == _READ[service.full_name]


@pytest.mark.parametrize("method", METHODS, ids=path_of)
def test_every_get_over_json_needs_only_read(method):
    """GET, which caches and browsers repeat freely, must reach only RPCs that need `read`."""
    is_get = method.GetOptions().Extensions[annotations_pb2.http].WhichOneof("pattern") == "get"
    is_read = path_of(method) in _reads(method.containing_service.full_name)
    assert is_read == (is_get or method.name in {"CompareEmbeddings", "GetPlaybackUrl"})


def test_unknown_methods_are_not_read_methods():
    reads = ReadMethods({"sage.ingest.v1.IngestService": (), "test.v1.EchoService": ("List",)})
    assert "/test.v1.EchoService/List" in reads
    assert "/test.v1.EchoService/Get" not in reads
    assert "/sage.embed.v1.EmbedService/GetEmbedding" not in reads
    assert "/sage.ingest.v1.IngestService/Nothing" not in reads


def test_additional_read_method_must_exist():
    with pytest.raises(LookupError, match="GetPlaybackURL"):
        ReadMethods({"sage.ingest.v1.IngestService": {"GetPlaybackURL"}})


def test_only_health_is_open():
    """Reflection needs `read`, and a name that merely resembles health is not health."""
    assert not needs_token("/grpc.health.v1.Health/Check")
    assert needs_token("/grpc.health.v1.HealthAdmin/Check")
    assert needs_token("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo")
    assert "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo" in ReadMethods({})
