"""The error catalogue: complete, equal to the contract, and small enough to send."""

import json
import re
import string
from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2
from sage.errors.v1 import error_reason_pb2
from sage_runtime.errors import FieldViolation, Reason, SageError, check_all, invalid, invalid_field
from sage_runtime.errors.catalogue import CATALOGUE, public_text, to_status

_CONTRACT = Path(__file__).parents[3] / "protos/sage/errors/v1/error_reason.proto"

_KINDS = {
    "info": error_details_pb2.ErrorInfo,
    "bad": error_details_pb2.BadRequest,
    "retry": error_details_pb2.RetryInfo,
}


def _details(status):
    found = {name: kind() for name, kind in _KINDS.items()}
    return {name: found[name] for name in found for detail in status.details if detail.Unpack(found[name])}


def test_reasons_equal_those_of_the_contract():
    names = {name.removeprefix("ERROR_REASON_") for name in error_reason_pb2.ErrorReason.keys()}  # noqa: SIM118 - an enum wrapper is no dict
    assert {str(reason) for reason in Reason} == names - {"UNSPECIFIED"}


def test_catalogue_has_every_reason():
    assert set(CATALOGUE) == set(Reason)


def _names_in(text):
    return [name for _, name, _, _ in string.Formatter().parse(text) if name]


@pytest.mark.parametrize("reason", Reason)
def test_contract_shows_an_example_with_the_facts_of_the_text(reason):
    comment = re.search(rf"((?: *//[^\n]*\n)+) *ERROR_REASON_{reason} =", _CONTRACT.read_text())[1]
    text = "\n".join(line.strip().removeprefix("//") for line in comment.splitlines())
    example = json.loads(text[text.index("{ ") :])
    assert (example["reason"], example["domain"]) == (reason, "sage")
    # The rules of FIELD_INVALID are in its BadRequest.
    assert set(_names_in(CATALOGUE[reason].text)) - {"rules"} <= set(example.get("metadata", {}))


@pytest.mark.parametrize("reason", Reason)
def test_no_status_is_ok_and_unavailable_has_a_retry_delay(reason):
    entry = CATALOGUE[reason]
    assert entry.status is not grpc.StatusCode.OK
    if entry.status is grpc.StatusCode.UNAVAILABLE:
        assert entry.retry_after_s


@pytest.mark.parametrize("reason", Reason)
def test_every_text_is_filled_from_facts(reason):
    text = public_text(SageError(reason, **dict.fromkeys(_names_in(CATALOGUE[reason].text), "fact")))
    assert "{" not in text
    assert "?" not in text


@pytest.mark.parametrize(
    ("why", "shown"),
    [
        ("it broke", "it broke."),
        ("It broke.", "It broke."),
        ("broken\n", "broken."),
        ("Is it?", "Is it?"),
        ("{a}", "{a}."),
    ],
)
def test_quoted_sentence_has_one_full_stop(why, shown):
    assert public_text(SageError(Reason.PROVIDER_FAILED, provider="P", why=why)) == f"P failed: {shown}"


def test_unpaired_surrogate_is_replaced():
    error = SageError(Reason.PROVIDER_FAILED, provider="P", why="half \ud83d of one")
    assert public_text(error) == to_status(error).message == "P failed: half ? of one."


def test_message_outside_a_status_may_be_longer():
    error = SageError(Reason.PROVIDER_FAILED, provider="P", why="x" * 3000)
    assert len(public_text(error)) < 1100
    assert public_text(error, max_bytes=8192) == f"P failed: {'x' * 3000}."


def test_missing_fact_is_shown_as_a_question_mark():
    assert "?" in public_text(SageError(Reason.VIDEO_NOT_FOUND))


def test_status_names_reason_domain_and_facts():
    status = to_status(SageError(Reason.VIDEO_TOO_LARGE, size_bytes=9, max_bytes=8))
    info = _details(status)["info"]
    assert (info.reason, info.domain) == ("VIDEO_TOO_LARGE", "sage")
    assert dict(info.metadata) == {"size_bytes": "9", "max_bytes": "8"}
    assert status.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]


def test_bad_fields_are_named():
    status = to_status(invalid(FieldViolation("threshold", "must be 0 to 2."), FieldViolation("track", "is required.")))
    bad = _details(status)["bad"]
    assert [(one.field, one.description, one.reason) for one in bad.field_violations] == [
        ("threshold", "must be 0 to 2.", "FIELD_INVALID"),
        ("track", "is required.", "FIELD_INVALID"),
    ]
    assert status.message == "threshold: must be 0 to 2. track: is required."


def test_retryable_error_has_a_retry_delay():
    retry = _details(to_status(SageError(Reason.STORE_UNAVAILABLE, store="database")))["retry"]
    assert retry.retry_delay.ToTimedelta().total_seconds() == 2


def test_detail_is_not_in_the_status():
    status = to_status(SageError(Reason.STORE_UNAVAILABLE, store="database", detail="10.0.0.7 refused"))
    assert b"10.0.0.7" not in status.SerializeToString()


@pytest.mark.parametrize("character", ["a", "é", "🎬"])
def test_status_fits_into_trailers(character):
    """However long the facts are, message and details stay within the 8 KiB that clients accept."""
    many = tuple(FieldViolation(f"field{n}", character * 300) for n in range(50))
    for error in (
        SageError(Reason.VIDEO_UNREADABLE, filename=character * 5000, why=character * 5000),
        invalid_field("spec.filename", character * 9000),
        SageError(Reason.FIELD_INVALID, violations=many[:3], rules=character * 5000),
    ):
        status = to_status(error)
        percent_encoded = 3 * len(status.message.encode())
        base64_encoded = len(status.SerializeToString()) * 4 / 3
        assert percent_encoded + base64_encoded < 8 * 1024
    assert len(_details(to_status(invalid(*many)))["bad"].field_violations) == 10


def test_long_value_is_shortened_and_the_next_step_remains():
    text = public_text(SageError(Reason.MODEL_UNKNOWN, model="x" * 5000, models="local"))
    assert text.endswith("This server has: local.")
    assert len(text) < 300


def test_all_fields_that_break_rules_are_named_at_once():
    """Every check runs; a reason other than FIELD_INVALID passes unchanged."""

    def fails(field):
        def check():
            raise invalid_field(field, "is wrong.")

        return check

    with pytest.raises(SageError) as caught:
        check_all(fails("one"), lambda: "fine", fails("two"))
    assert [violation.field for violation in caught.value.violations] == ["one", "two"]

    def other():
        raise SageError(Reason.VIDEO_NOT_FOUND)

    with pytest.raises(SageError, match="VIDEO_NOT_FOUND"):
        check_all(fails("one"), other)
