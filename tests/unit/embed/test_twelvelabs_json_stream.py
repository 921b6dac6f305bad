"""JSON that is read while it arrives."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sage_embed.adapters.twelvelabs.answers import ListReader, TaskReader
from sage_embed.adapters.twelvelabs.json_stream import JsonStream, JsonStreamError

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
    """Read pieces of a document to their end."""
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
def test_a_document_is_the_same_however_it_is_cut(document, sizes, indent, ascii_only):
    """Elements come one by one and in order; all else is in the document, at any length of the pieces."""
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
def test_what_is_no_document_is_refused(text):
    """Neither a cut nor an odd text passes for a document."""
    with pytest.raises(JsonStreamError):
        read(text)
    with pytest.raises(JsonStreamError):
        read(*text)


def test_a_value_without_end_is_refused_before_it_fills_the_memory():
    """A string of many megabytes is no answer of TwelveLabs."""
    with pytest.raises(JsonStreamError):
        read('{"a": "', *["x" * 1024 * 1024] * 6)


def test_numbers_that_are_cut_are_whole():
    """The pieces 1 and 2.5e3 of a number are one number."""
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
def test_odd_vectors_are_read_as_what_no_check_lets_pass(element):
    """A vector that is none does not end the reading: it is found when the result is checked."""
    reader = TaskReader({"visual"})
    whole = {"embedding_option": "visual", "embedding_scope": "clip"} | element
    reader.feed(json.dumps({"status": "READY", "data": [whole]}).encode())
    (found,) = reader.finish().vectors
    assert found.numbers.shape != (512,)


@pytest.mark.parametrize("body", [b'{"data": [7]}', b'{"status": "ready", "data": [null]}', b'{"status": 7}', b"\xff"])
def test_what_is_no_task_is_refused(body):
    """A task has a status, and its vectors are objects."""
    with pytest.raises(ValueError):  # noqa: PT011 - each parser has its own words
        read_task(body)


def test_odd_tasks_of_a_list_do_not_hide_the_others():
    """What has no id is passed over; what is odd about a task is left out."""
    reader = ListReader()
    tasks = [None, 7, {}, {"_id": 3}, {"_id": "a", "created_at": "never", "video_embedding": 9, "metadata": []}]
    tasks.append({"_id": "b", "created_at": "2030-01-01T00:00:00Z", "metadata": {"input_url": "https://b"}})
    reader.feed(json.dumps({"data": tasks, "page_info": {"page": "1"}}).encode())
    page = reader.finish()
    assert [(task.id, task.url) for task in page.tasks] == [("a", None), ("b", "https://b")]
    assert page.tasks[0].created_at is None
    assert page.tasks[1].created_at is not None
    assert not page.last
