"""Results for scripts: the JSON of the API, with labels and timecodes added to a comparison."""

from typing import Any

from google.protobuf import json_format
from google.protobuf.message import Message
from sage.compare.v1 import compare_pb2

from sage_cli.show.comparison import Comparison, Film


def message_document(message: Message) -> dict[str, Any]:
    """Return a message as the API's JSON, with every plain field, set or not."""
    document: dict[str, Any] = json_format.MessageToDict(message, always_print_fields_with_no_presence=True)
    return document


def comparison_document(comparison: Comparison) -> dict[str, Any]:
    """Return a comparison: the service's response, with labels and timecodes.

    `differ` corresponds to the exit code. Every track, edit, change and difference has the same keys; absent values are
    null. docs/diff.md describes the document.

    A track of mode TIME has `tailNotComparedSeconds`: the length of the end of both films that no clip covers, which is
    listed under `differences` and does not count as one; null if there is none.
    """
    document = message_document(comparison.response)
    for side, film in (("a", comparison.old), ("b", comparison.new)):
        document[side]["label"] = film.label
    document["tracks"] = [
        {"aCovered": None, "bCovered": None, **track}
        | (_script(track, comparison) if comparison.aligned else _time(track, message, comparison))
        for track, message in zip(document["tracks"], comparison.tracks, strict=True)
    ]
    return {"differ": comparison.differ, **document}


def _time(track: dict[str, Any], message: compare_pb2.TrackComparison, comparison: Comparison) -> dict[str, Any]:
    differences = [_difference(one, comparison) for one in track["time"]["differences"]]
    return {
        "tailNotComparedSeconds": _seconds(comparison.tail_of(message)),
        "time": track["time"] | {"differences": differences},
    }


def _seconds(tail: compare_pb2.Difference | None) -> float | None:
    return None if tail is None else tail.a.end_seconds - tail.a.start_seconds


def _script(track: dict[str, Any], comparison: Comparison) -> dict[str, Any]:
    edits = [_edit(one, comparison) for one in track["script"]["edits"]]
    return {"script": {"noise": None, "levels": None, **track["script"], "edits": edits}}


def _edit(edit: dict[str, Any], comparison: Comparison) -> dict[str, Any]:
    # An insertion repeats what the old film has; a deletion repeated what the new one has.
    repeated = comparison.old if "b" in edit else comparison.new
    return {
        "kind": edit["kind"],
        **_ranges(edit, comparison),
        "rate": edit["rate"],
        "confidence": edit["confidence"],
        "changes": [
            {"region": None, "amount": None, **change, **_ranges(change, comparison)} for change in edit["changes"]
        ],
        "repeats": _with_timecode(edit.get("repeats"), repeated),
        "semanticDistance": edit.get("semanticDistance"),
    }


def _difference(difference: dict[str, Any], comparison: Comparison) -> dict[str, Any]:
    return {
        "kind": difference["kind"],
        **_ranges(difference, comparison),
        "maxDistance": difference.get("maxDistance"),
        "meanDistance": difference.get("meanDistance"),
    }


def _ranges(where: dict[str, Any], comparison: Comparison) -> dict[str, Any]:
    return {
        "a": _with_timecode(where.get("a"), comparison.old),
        "b": _with_timecode(where.get("b"), comparison.new),
    }


def _with_timecode(where: dict[str, Any] | None, film: Film) -> dict[str, Any] | None:
    if where is None:
        return None
    start, end = film.times.ends_of(json_format.ParseDict(where, compare_pb2.FrameRange()))
    return {**where, "startTimecode": start, "endTimecode": end}
