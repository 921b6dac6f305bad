"""Errors in a terminal: the server's message in terms of commands, and what to do next."""

import re

import grpc
import pytest
from grpc_status import rpc_status
from sage.compare.v1 import compare_pb2
from sage.embed.v1 import api_key_pb2, embed_pb2
from sage.ingest.v1 import ingest_pb2
from sage_cli.__main__ import main
from sage_cli.api.errors import explain, in_commands
from sage_runtime.errors import Reason, SageError
from sage_runtime.errors.catalogue import to_status

RPC_NAMES = [
    method.name
    for module in (ingest_pb2, embed_pb2, api_key_pb2, compare_pb2)
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
]
RPC = re.compile(rf"\b(?:{'|'.join(RPC_NAMES)})\b")


def make_error(reason: Reason, **facts: str) -> grpc.aio.AioRpcError:
    facts = {"what_to_do": "Upload it again with CreateUpload.", **facts}
    status = rpc_status.to_status(to_status(SageError(reason, **facts)))
    metadata = grpc.aio.Metadata(*status.trailing_metadata)
    return grpc.aio.AioRpcError(status.code, grpc.aio.Metadata(), metadata, details=status.details)


@pytest.mark.parametrize("reason", list(Reason))
def test_no_error_names_an_rpc(reason):
    explained = explain(make_error(reason), address="localhost:8080")
    assert explained.message
    assert not RPC.search(explained.message + explained.next_step)


def test_sentence_about_an_rpc_gives_way_to_the_next_step():
    explained = explain(make_error(Reason.VIDEO_NOT_FOUND), address="localhost:8080")
    assert explained.message == "There is no video ?."
    assert explained.next_step == "`sage videos` lists the videos that exist."


@pytest.mark.parametrize("error", [make_error(Reason.UNAUTHENTICATED), make_error(Reason.FORBIDDEN, has="read")])
def test_sign_in_is_explained_with_variables_not_with_headers(error):
    explained = explain(error, address="localhost:8080")
    assert "SAGE_TOKEN" in explained.next_step
    assert "Bearer" not in explained.message


def test_unknown_host_name_is_not_explained_with_a_token():
    assert "SAGE_GATEWAY_NAMES" in explain(make_error(Reason.FORBIDDEN), address="localhost:8080").next_step


def test_rpc_is_replaced_by_its_command_if_there_is_no_next_step():
    assert in_commands("No key is set. Set one with SetApiKey.") == "No key is set. Set one with `sage key set`."


@pytest.mark.parametrize("name", RPC_NAMES)
def test_every_rpc_has_a_command_or_is_never_named(name):
    """Each command that replaces an RPC exists."""
    text = in_commands(name)
    if text == name:
        assert name in {"GetUpload", "ReadSegments"}
        return
    command = main
    for word in re.fullmatch(r"`sage (.+)`", text)[1].split():
        command = command.commands[word]
