"""Errors of TwelveLabs, and what users are told about them."""

import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from sage_embed.engines.twelvelabs.problems import failed, redacted, retry_after_s
from sage_embed.engines.twelvelabs.responses import error_of
from sage_runtime.errors.catalogue import public_text


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"Retry-After": "7"}, 7),
        ({"retry-after": " 2.5 "}, 2.5),
        ({"Retry-After": "-3"}, 0),
        ({"Retry-After": "11382"}, 11382),
        ({"Retry-After": "1e99"}, 24 * 3600),
        ({"Retry-After": "nan"}, None),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": ""}, None),
        ({"Retry-After": format_datetime(datetime.now(UTC) - timedelta(hours=1), usegmt=True)}, 0),
        ({"Retry-After": "Fri, 31 Dec 9999 23:59:59 GMT"}, 24 * 3600),
        ({"X-Ratelimit-Reset": "12"}, 0),
    ],
)
def test_retry_after_is_read_in_all_its_forms(headers, seconds):
    assert retry_after_s(headers) == seconds


def test_future_dates_and_resets_are_read():
    soon = datetime.now(UTC) + timedelta(minutes=1)
    assert retry_after_s({"Retry-After": format_datetime(soon, usegmt=True)}) == pytest.approx(60, abs=2)
    assert retry_after_s({"X-Ratelimit-Reset": str(time.time() + 60)}) == pytest.approx(60, abs=2)


def test_dates_are_compared_with_that_of_the_response():
    """The clock of this machine may be hours ahead or behind."""
    then = datetime(2030, 1, 1, tzinfo=UTC)
    headers = {"Date": format_datetime(then, usegmt=True)}
    assert retry_after_s(headers | {"Retry-After": format_datetime(then + timedelta(seconds=90), usegmt=True)}) == 90
    assert retry_after_s(headers | {"X-Ratelimit-Reset": str(then.timestamp() + 7)}) == 7


SIGNATURE = "5d41402abc4b2a76b9719d911017c5925d41402abc4b2a76b9719d911017c592"


@pytest.mark.parametrize(
    "text",
    [
        "Invalid key tlk_OTHERSECRET0123",
        "Invalid key TLK_otherSECRET0123",
        "the key is a/secret+key",
        "the key is a%2Fsecret%2Bkey",
        f"signature {SIGNATURE} does not match",
        f"X-Amz-Signature={SIGNATURE[:20]}",
        "X-Amz-Security-Token%3DSECRET%2B0",
        "X-Amz-Credential=SECRET/20300101/us-east-1/s3/aws4_request&X-Amz-Date=now",
        '{"x-api-key": "SECRET"}',
        "Authorization: Bearer SECRET",
        "token=SECRET",
        "https://user:SECRET@store.example/a.mp4",
        "HTTPS://store.example/a.mp4?sig=SECRET",
    ],
)
def test_keys_signatures_and_tokens_are_redacted(text):
    shown = redacted(text, {"a/secret+key"})
    assert not any(secret in shown.lower() for secret in ("secret", SIGNATURE[:20]))


@pytest.mark.parametrize(
    "text",
    [
        "failed to fetch or materialize source media",
        "The token limit of 512 was exceeded.",
        "The API key is either invalid or expired. Please check the API key or generate a new one.",
        "Task 64f8d2c7e4a1b37f8a9c5d12 failed: https://store.example/videos/a.mp4",
    ],
)
def test_harmless_messages_stay_verbatim(text):
    assert redacted(text, ()) == text


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"code": "a", "message": "b "}, ("a", "b")),
        ({"error": {"code": "a", "message": "b", "details": {}}}, ("a", "b")),
        ({"error": {"message": "b"}}, ("", "b")),
        ({"error": "b"}, ("", "b")),
        ({"code": 7, "message": ["b"]}, ("", "")),
        ({}, ("", "")),
        ("<html>", ("", "")),
        (None, ("", "")),
        ([], ("", "")),
    ],
)
def test_both_shapes_of_an_error_are_read_and_others_are_empty(body, expected):
    assert error_of(body) == expected


def test_messages_are_verbatim_except_for_signatures_and_length():
    message = "cannot read\n'https://s3.example/a.mp4?X-Amz-Signature=abc&x=1'"
    text = public_text(failed("", message))
    assert "cannot read 'https://s3.example/a.mp4'" in text
    assert len(public_text(failed("", "x" * 5000))) < 1000
    assert "it gave no reason" in public_text(failed("", ""))
