"""IDs and pages."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sage_runtime.api import MAX_PAGE_SIZE, make_page_token, new_id, page_size_of, read_page_token
from sage_runtime.errors import Reason, SageError


def test_new_ids_sort_by_age():
    ids = [new_id("video") for _ in range(50)]
    assert ids == sorted(ids)
    assert all(one.startswith("video_") for one in ids)


@pytest.mark.parametrize(("requested", "size"), [(0, 50), (1, 1), (200, 200), (201, MAX_PAGE_SIZE), (2**31 - 1, 200)])
def test_page_sizes_are_coerced(requested, size):
    assert page_size_of(requested) == size


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), st.text())
def test_page_token_returns_the_id_it_was_made_from(last_id, scope):
    assert read_page_token(make_page_token(last_id, scope=scope), scope=scope) == last_id


def test_empty_page_token_is_the_first_page():
    assert read_page_token("", scope="videos") is None


@given(st.text(min_size=1))
def test_any_other_text_is_no_page_token(token):
    with pytest.raises(SageError) as error:
        read_page_token(token, scope="videos")
    assert error.value.reason is Reason.PAGE_TOKEN_INVALID


def test_page_token_of_another_list_is_refused():
    with pytest.raises(SageError):
        read_page_token(make_page_token("video_1", scope="videos"), scope="embeddings")


def test_forged_page_token_with_nul_is_refused():
    with pytest.raises(SageError) as error:
        read_page_token(make_page_token("a\0b", scope="videos"), scope="videos")
    assert error.value.reason is Reason.PAGE_TOKEN_INVALID
