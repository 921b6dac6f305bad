"""Conversion of enums by name."""

from enum import Enum, StrEnum, auto

import pytest
from sage.embed.v1 import embed_pb2
from sage.ingest.v1 import ingest_pb2
from sage_runtime.api import EnumTable


class _State(StrEnum):
    OPEN = auto()
    COMPLETED = auto()
    ABORTED = auto()


def test_members_and_values_correspond_by_name():
    table = EnumTable(_State, ingest_pb2.UploadState)
    for member in _State:
        value = table.to_message(member)
        assert ingest_pb2.UploadState.Name(value) == f"UPLOAD_STATE_{member.name}"
        assert table.from_message(value) is member


def test_unspecified_is_none():
    assert EnumTable(_State, ingest_pb2.UploadState).from_message(0) is None


def test_value_from_a_newer_contract_is_refused():
    with pytest.raises(ValueError, match=r"sage\.ingest\.v1\.UploadState has no value 99"):
        EnumTable(_State, ingest_pb2.UploadState).from_message(99)


def test_member_that_the_contract_does_not_have_is_found_at_import():
    class Wrong(Enum):
        PAUSED = 1

    with pytest.raises(ValueError, match="PAUSED"):
        EnumTable(Wrong, embed_pb2.EmbeddingState)
