"""Errors in a terminal: the server's message in terms of commands, and what to do next."""

import ast
import json
import re
from pathlib import Path

import grpc
import pytest
from grpc_status import rpc_status
from sage.compare.v1 import compare_pb2
from sage.embed.v1 import api_key_pb2, embed_pb2, fingerprint_pb2
from sage.ingest.v1 import ingest_pb2
from sage_cli.__main__ import main
from sage_cli.api.errors import explain, in_commands
from sage_runtime.errors import Reason, SageError
from sage_runtime.errors.catalogue import to_status

RPC_NAMES = [
    method.name
    for module in (ingest_pb2, embed_pb2, fingerprint_pb2, api_key_pb2, compare_pb2)
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
        assert name in {"GetUpload", "ReadSegments", "ReadFingerprint", "CancelFingerprint"}
        return
    command = main
    for word in re.fullmatch(r"`sage (.+)`", text)[1].split():
        command = command.commands[word]


CONTRACT = (Path(__file__).parents[3] / "protos/sage/errors/v1/error_reason.proto").read_text()
EXAMPLES = [json.loads(re.sub(r"\n *//", "", text)) for text in re.findall(r"\{ \"reason\"(?:.|\n *//)*\}", CONTRACT)]
# Advice for programs: calls, headers, fields, and repeating what the command repeats or cannot repeat.
FOR_PROGRAMS = re.compile(
    rf"{RPC.pattern}|\w+Service\b|authorization:|[Rr]eflection|\bmetadata\b|^Try again\.|Send the bytes|Send one|"
    r"Choose another",
    re.MULTILINE,
)


def test_contract_has_an_example_of_every_reason():
    assert {example["reason"] for example in EXAMPLES} == {str(reason) for reason in Reason}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example["reason"])
def test_no_error_advises_what_only_a_program_can_do(example):
    """Checked with the facts of the contract's examples: what to do next is a command, a setting or a plain step."""
    explained = explain(make_error(Reason(example["reason"]), **example.get("metadata", {})), address="localhost:8080")
    shown = "\n".join((explained.message, *explained.details, explained.next_step)).replace(". ", ".\n")
    assert not FOR_PROGRAMS.search(shown), shown
    for command in re.findall(r"`sage ([a-z ]+)", shown):
        assert command.split()[0] in main.commands


def _advice() -> list[str]:
    """Return every text in the services that becomes the advice or the reason in an error."""
    found = []
    for path in sorted((Path(__file__).parents[3]).glob("[sg]*/**/sage_*/**/*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.keyword) and node.arg in {"what_to_do", "why", "limit"}:
                found += [
                    part.value
                    for part in ast.walk(node.value)
                    if isinstance(part, ast.Constant) and isinstance(part.value, str)
                ]
    return found


def test_advice_of_the_services_is_put_in_commands():
    advice = _advice()
    assert "To delete its video, use DeleteVideo." in advice
    for text in advice:
        assert not RPC.search(in_commands(text)), text


def test_method_that_is_not_implemented_is_named_by_its_command():
    error = make_error(Reason.UNIMPLEMENTED, method="/sage.embed.v1.EmbedService/ListModels")
    assert explain(error, address="localhost:8080").message == "This server does not implement `sage models`."
