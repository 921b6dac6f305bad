"""The comments of RPCs list the errors that the code can raise."""

from functools import cache

import pytest
from fakes.contract import METHODS, path_of
from sage_runtime.errors import Reason
from sage_runtime.server import validation
from support.error_lists import UNLISTED, Code, is_unlisted, listed


@cache
def _code(package: str) -> Code:
    return Code(package)


def test_every_rpc_lists_its_errors():
    assert {path_of(method) for method in METHODS} == {path for path, reasons in listed().items() if reasons}


@pytest.mark.parametrize("path", listed())
def test_listed_reasons_exist_and_are_not_those_of_every_rpc(path):
    assert listed()[path] <= set(Reason) - UNLISTED


@pytest.mark.parametrize("method", METHODS, ids=path_of)
def test_code_can_raise_every_listed_reason(method):
    """No comment lists an error that no longer exists. `tests/conftest.py` finds errors that no comment promises."""
    package = method.containing_service.full_name.split(".")[1]
    possible = _code(f"sage_{package}").reasons_of(method.name)
    if validation._rules_of(method.input_type):
        possible.add(Reason.FIELD_INVALID)
    assert listed()[path_of(method)] - possible == set()


@pytest.mark.parametrize(
    ("package", "rpc", "never"),
    [
        ("sage_ingest", "ListVideos", Reason.MODELS_DIFFER),
        ("sage_embed", "ListModels", Reason.PART_MISSING),
        ("sage_compare", "CompareEmbeddings", Reason.VIDEO_NOT_FOUND),
    ],
)
def test_stale_reason_would_be_found(package, rpc, never):
    assert never not in _code(package).reasons_of(rpc)


@pytest.mark.parametrize("method", METHODS, ids=path_of)
def test_request_with_rules_can_be_invalid(method):
    """The chassis raises FIELD_INVALID wherever the contract has rules."""
    if validation._rules_of(method.input_type):
        assert Reason.FIELD_INVALID in listed()[path_of(method)]


def test_reason_that_a_comment_does_not_list_is_unlisted():
    path = "/sage.ingest.v1.IngestService/ListVideos"
    assert is_unlisted(path, Reason.VIDEO_UNREADABLE)
    assert not is_unlisted(path, Reason.PAGE_TOKEN_INVALID)
    assert not is_unlisted(path, Reason.INTERNAL)
    assert not is_unlisted(path, Reason.STORE_FORBIDDEN)
    assert not is_unlisted("/test.v1.EchoService/unary_unary", Reason.VIDEO_UNREADABLE)
