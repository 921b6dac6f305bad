"""Requests are validated against the contract's annotations before they reach a servicer."""

import time

import grpc
import pytest
from fakes.contract import METHODS, call, path_of, registrations, shape_of, valid_request
from google.protobuf.wrappers_pb2 import StringValue
from google.rpc import error_details_pb2, status_pb2
from sage.compare.v1 import compare_pb2
from sage.embed.v1 import api_key_pb2, embed_pb2
from sage.ingest.v1 import ingest_pb2
from sage_runtime.process.settings import ServerSettings
from sage_runtime.server import running_server, validation

_INGEST = "/sage.ingest.v1.IngestService"
_ID = f"embed_{0:032}"


@pytest.fixture(scope="module")
async def channel():
    """A channel to every service of the contracts."""
    async with (
        running_server(settings=ServerSettings(listen="127.0.0.1:0"), services=registrations()) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        yield channel


def _violations(error: grpc.aio.AioRpcError) -> dict[str, str]:
    status = status_pb2.Status.FromString(dict(error.trailing_metadata())["grpc-status-details-bin"])
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    assert status.details[0].Unpack(info)
    assert status.details[1].Unpack(bad)
    assert info.reason == "FIELD_INVALID"
    assert info.metadata["fields"] == ",".join(one.field for one in bad.field_violations)
    return {one.field: one.description for one in bad.field_violations}


async def _refused(channel, path, *requests, shape="unary_unary") -> grpc.aio.AioRpcError:
    rpc = getattr(channel, shape)(path, request_serializer=lambda request: request.SerializeToString())
    response = rpc(iter(requests) if shape.startswith("stream") else requests[0])
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await (response.read() if shape.endswith("stream") else response)
    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    return error.value


@pytest.mark.parametrize("method", METHODS, ids=path_of)
async def test_valid_request_reaches_the_servicer(channel, method):
    await call(channel, method)


@pytest.mark.parametrize(
    "method", [method for method in METHODS if "embedding_id" in method.input_type.fields_by_name], ids=path_of
)
async def test_malformed_id_names_its_field_in_every_method(channel, method):
    request = valid_request(method)
    request.embedding_id = "embed_1"
    error = await _refused(channel, path_of(method), request, shape=shape_of(method))
    assert _violations(error) == {"embedding_id": "must be an embedding's ID: `embed_` and 32 hexadecimal digits."}
    assert error.details() == "embedding_id: must be an embedding's ID: `embed_` and 32 hexadecimal digits."


async def test_nested_and_repeated_fields_are_named_by_path(channel):
    request = compare_pb2.CompareEmbeddingsRequest(
        embedding_id_a=_ID,
        embedding_id_b=_ID,
        mode=77,
        tracks=[{"name": "visual"}, {"name": "video", "threshold": float("nan")}],
    )
    error = await _refused(channel, "/sage.compare.v1.CompareService/CompareEmbeddings", request)
    assert set(_violations(error)) == {"mode", "tracks[1].name", "tracks[1].threshold"}


async def test_each_field_is_named_once_with_the_first_rule_it_breaks(channel):
    request = embed_pb2.CreateEmbeddingRequest(
        video_id=f"video_{0:032}", model="local-v1", tracks=["visual", "visual"], request_id="é"
    )
    error = await _refused(channel, "/sage.embed.v1.EmbedService/CreateEmbedding", request)
    assert list(_violations(error)) == ["tracks", "request_id"]


@pytest.mark.parametrize("filename", ["", "a" * 256, "a\nb", "a\x00b", "\x7f", "a\u2028b"])
async def test_bad_filename_is_refused(channel, filename):
    request = ingest_pb2.CreateUploadRequest(spec={"filename": filename})
    error = await _refused(channel, f"{_INGEST}/CreateUpload", request)
    assert _violations(error) == {"spec.filename": "must be 1 to 255 characters without control characters."}


@pytest.mark.parametrize("filename", ["holiday.mp4", "été 🎬.mov", "../../etc/passwd", "a" * 255])
def test_filename_keeps_what_people_write(filename):
    validation.validate(ingest_pb2.CreateUploadRequest(spec={"filename": filename}))


async def test_later_message_of_a_stream_is_validated_too(channel):
    first = ingest_pb2.UploadPartRequest(upload_id=f"upload_{0:032}", part_number=1)
    later = ingest_pb2.UploadPartRequest(part_number=10_001)
    error = await _refused(channel, f"{_INGEST}/UploadPart", first, later, shape="stream_unary")
    assert list(_violations(error)) == ["part_number"]


async def test_error_never_contains_the_value_of_a_field(channel):
    key = "tlk_" + "s3cr3t" * 100
    error = await _refused(channel, "/sage.embed.v1.ApiKeyService/SetApiKey", api_key_pb2.SetApiKeyRequest(key=key))
    assert _violations(error) == {"key": "must be at most 512 characters."}
    assert "s3cr3t" not in str(error) + str(error.trailing_metadata())


def test_list_that_is_far_too_long_is_refused_at_once():
    """Evaluating `tracks.unique` over 10,000 tracks blocks the event loop for 8.7 s."""
    tracks = [{"name": f"{number}"} for number in range(10_000)]
    request = compare_pb2.CompareEmbeddingsRequest(embedding_id_a=_ID, embedding_id_b=_ID, tracks=tracks)
    started = time.monotonic()
    with pytest.raises(Exception, match="FIELD_INVALID") as error:
        validation.validate(request)
    assert time.monotonic() - started < 1
    assert [one.field for one in error.value.violations] == ["tracks"]


def test_message_type_without_rules_is_not_validated(monkeypatch):
    monkeypatch.setattr(validation, "_validator", None)
    validation.validate(StringValue(value="hello"))
    validation.validate(embed_pb2.ListModelsRequest())


async def test_rules_are_compiled_before_the_first_call(monkeypatch):
    """Otherwise the first request of each type blocks the event loop for 1 to 17 ms."""
    compiled = set()

    class Recording:
        def collect_violations(self, message):
            compiled.add(message.DESCRIPTOR.name)
            return []

    monkeypatch.setattr(validation, "_validator", Recording())
    async with running_server(settings=ServerSettings(listen="127.0.0.1:0"), services=registrations()):
        pass
    # One without rules is not even looked at.
    assert {"UploadVideoRequest", "UploadPartRequest", "CompareEmbeddingsRequest", "SetApiKeyRequest"} <= compiled
    assert "ListModelsRequest" not in compiled


def _texts(descriptor, path=()):
    for field in descriptor.fields:
        if field.message_type is not None and not field.message_type.full_name.startswith("google.api"):
            yield from _texts(field.message_type, (*path, field))
        elif field.type == field.TYPE_STRING and field.name != "page_token":
            yield (*path, field)


@pytest.mark.parametrize("method", METHODS, ids=path_of)
async def test_nul_is_refused_in_every_text(channel, method):
    for path in _texts(method.input_type):
        request = valid_request(method)
        message = request
        for field in path[:-1]:
            message = getattr(message, field.name).add() if field.is_repeated else getattr(message, field.name)
        if path[-1].is_repeated:
            getattr(message, path[-1].name).append("a\0b")
        else:
            setattr(message, path[-1].name, "a\0b")
        violations = _violations(await _refused(channel, path_of(method), request, shape=shape_of(method)))
        assert any(path[-1].name in name for name in violations), violations
