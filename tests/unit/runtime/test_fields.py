"""Ids, page tokens and the checks of single fields."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sage_runtime.errors import Reason, SageError
from sage_runtime.fields import check_label, check_page_size, check_request_id
from sage_runtime.ids import check_id, new_id
from sage_runtime.paging import make_page_token, read_page_token


def _violation(error):
    assert error.value.reason is Reason.FIELD_INVALID
    (violation,) = error.value.violations
    return violation


def test_new_ids_are_valid_and_sort_by_age():
    """An id passes its own check, and a later one sorts after an earlier one."""
    ids = [new_id("video") for _ in range(50)]
    assert [check_id(one, prefix="video", field="id") for one in ids] == sorted(ids)


@pytest.mark.parametrize(
    "value", ["", "video_", "video_123", "embed_" + "0" * 32, "video_" + "G" * 32, "video_" + "0" * 32 + "\n", "../etc"]
)
def test_malformed_ids_name_their_field(value):
    """What is not an id of the kind is refused, naming the field."""
    with pytest.raises(SageError) as error:
        check_id(value, prefix="video", field="video_id")
    assert _violation(error).field == "video_id"


@given(st.text(), st.text())
def test_page_tokens_come_back(last_id, scope):
    """A token read with the scope that it was made for gives the id back."""
    assert read_page_token(make_page_token(last_id, scope=scope), scope=scope) == last_id


def test_empty_page_token_is_the_first_page():
    """An empty token asks for the first page."""
    assert read_page_token("", scope="videos") is None


@given(st.text(min_size=1))
def test_foreign_page_tokens_are_refused(token):
    """What this server did not make is refused, whatever it is."""
    with pytest.raises(SageError) as error:
        read_page_token(token, scope="videos")
    assert error.value.reason is Reason.PAGE_TOKEN_INVALID


def test_page_token_of_another_list_is_refused():
    """A token holds for one list and its filters."""
    with pytest.raises(SageError):
        read_page_token(make_page_token("video_1", scope="videos"), scope="embeddings")


@pytest.mark.parametrize("label", ["holiday.mp4", "été 🎬.mov", "../../etc/passwd", "a" * 255])
def test_labels_keep_what_people_write(label):
    """A label is text for people: emoji and separators stay, it is never a path."""
    assert check_label(label, field="filename", max_length=255) == label


@pytest.mark.parametrize("label", ["", "a" * 256, "a\nb", "a\x00b", "\x7f", "a\u2028b", "\ud800"])
def test_bad_labels_name_their_field(label):
    """Empty, too long, or with control characters: refused, naming the field."""
    with pytest.raises(SageError) as error:
        check_label(label, field="filename", max_length=255)
    assert _violation(error).field == "filename"


def test_page_sizes():
    """Zero is the default, the maximum is allowed, one more and negative ones are not."""
    assert (check_page_size(0), check_page_size(200)) == (50, 200)
    for value in (201, -1):
        with pytest.raises(SageError):
            check_page_size(value)


def test_request_ids_are_short_printable_ascii():
    """An idempotency key may be empty; long, foreign or control characters are refused."""
    assert check_request_id("") == ""
    assert check_request_id("nightly 42") == "nightly 42"
    for value in ("a" * 129, "é", "a\nb"):
        with pytest.raises(SageError):
            check_request_id(value)
