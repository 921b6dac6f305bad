"""JSON that is parsed as it arrives."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sage_embed.engines.twelvelabs.client import JsonStream, JsonStreamError
from sage_embed.engines.twelvelabs.responses import ListReader, TaskReader

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
documents = st.fixed_dictionaries(
    {"before": values, "data": st.lists(values, max_size=5)},
    optional={"video_embedding": st.fixed_dictionaries({"segments": st.lists(values, max_size=3), "more": values})},
)


def read(*pieces: str) -> None:
    """Parse a document in pieces."""
    stream = JsonStream({("data",): lambda _: None})
    for piece in pieces:
        stream.feed(piece)
    stream.finish()


def read_task(body: bytes) -> None:
    """Read a task."""
    reader = TaskReader({"visual"})
    reader.feed(body)
    reader.finish()


@given(documents, st.lists(st.integers(1, 20), min_size=1), st.sampled_from([None, 2]), st.booleans())
def test_the_document_does_not_depend_on_how_it_is_cut(document, sizes, indent, ascii_only):
    found: dict[str, list[object]] = {"data": [], "segments": []}
    stream = JsonStream({("data",): found["data"].append, ("video_embedding", "segments"): found["segments"].append})
    text, at = json.dumps(document, indent=indent, ensure_ascii=ascii_only), 0
    while at < len(text):
        size = sizes[at % len(sizes)]
        stream.feed(text[at : at + size])
        at += size
    rest = stream.finish()
    assert found["data"] == document["data"]
    assert found["segments"] == document.get("video_embedding", {}).get("segments", [])
    assert rest["before"] == document["before"]
    if "video_embedding" in document:
        assert rest["video_embedding"] == {"segments": None, "more": document["video_embedding"]["more"]}


@pytest.mark.parametrize(
    "text",
    ["", " ", "<html>", "null", "[]", "3", '"text"', "{", '{"data"', '{"data": [1, 2', '{"data": [1 2]}', '{"a": 1,}',
     '{"data": [1],}', "{} {}", '{"a": tru}', "{1: 2}", '{"a" 1}', '{"a": 1 "b": 2}', '{"a": "cut'],
)  # fmt: skip
def test_malformed_or_incomplete_documents_are_refused(text):
    with pytest.raises(JsonStreamError):
        read(text)
    with pytest.raises(JsonStreamError):
        read(*text)


def test_an_endless_value_is_refused_before_it_fills_memory():
    with pytest.raises(JsonStreamError):
        read('{"a": "', *["x" * 1024 * 1024] * 6)


def test_a_number_may_be_cut_anywhere():
    found: list[object] = []
    stream = JsonStream({("data",): found.append})
    for piece in ('{"data": [1', "2.5", "e3, -", "4]", "}"):
        stream.feed(piece)
    stream.finish()
    assert found == [12.5e3, -4]


@pytest.mark.parametrize(
    "element",
    [{"embedding": None}, {"embedding": "text"}, {"embedding": [[1.0], [2.0]]}, {"embedding": [1.0, {}]},
     {"embedding": [1e300]}, {"start_sec": "0"}, {"start_sec": True}, {"start_sec": 10**400}, {}],
)  # fmt: skip
def test_unexpected_vectors_are_read_and_left_to_the_checks(element):
    reader = TaskReader({"visual"})
    whole = {"embedding_option": "visual", "embedding_scope": "clip"} | element
    reader.feed(json.dumps({"status": "READY", "data": [whole]}).encode())
    (found,) = reader.finish().vectors
    assert found.numbers.shape != (512,)


@pytest.mark.parametrize("body", [b'{"data": [7]}', b'{"status": "ready", "data": [null]}', b'{"status": 7}', b"\xff"])
def test_documents_that_are_not_tasks_are_refused(body):
    with pytest.raises(ValueError):  # noqa: PT011 - each parser has its own words
        read_task(body)


def test_unexpected_tasks_in_a_list_do_not_hide_the_others():
    reader = ListReader()
    tasks = [None, 7, {}, {"_id": 3}, {"_id": "a", "created_at": "never", "video_embedding": 9, "metadata": []}]
    tasks.append({"_id": "b", "created_at": "2030-01-01T00:00:00Z", "metadata": {"input_url": "https://b"}})
    reader.feed(json.dumps({"data": tasks, "page_info": {"page": "1"}}).encode())
    page = reader.finish()
    assert [(task.id, task.url) for task in page.tasks] == [("a", None), ("b", "https://b")]
    assert page.tasks[0].created_at is None
    assert page.tasks[1].created_at is not None
    assert not page.last
