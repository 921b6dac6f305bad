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

    `differ` corresponds to the exit code. A track's `tailNotComparedSeconds` is the length of the end of both films
    that no clip covers, which is listed under `differences` and does not count as one; null if there is none. Every
    track and every difference has the same keys; absent values are null.
    """
    document = message_document(comparison.response)
    for side, film in (("a", comparison.old), ("b", comparison.new)):
        document[side]["label"] = film.label
    document["tracks"] = [
        {
            "aCovered": None,
            "bCovered": None,
            **track,
            "tailNotComparedSeconds": _seconds(comparison.tail_of(message)),
            "time": track["time"]
            | {"differences": [_difference(one, comparison) for one in track["time"]["differences"]]},
        }
        for track, message in zip(document["tracks"], comparison.tracks, strict=True)
    ]
    return {"differ": comparison.differ, **document}


def _seconds(tail: compare_pb2.Difference | None) -> float | None:
    return None if tail is None else tail.a.end_seconds - tail.a.start_seconds


def _difference(difference: dict[str, Any], comparison: Comparison) -> dict[str, Any]:
    return {
        "kind": difference["kind"],
        "a": _with_timecode(difference.get("a"), comparison.old),
        "b": _with_timecode(difference.get("b"), comparison.new),
        "maxDistance": difference.get("maxDistance"),
        "meanDistance": difference.get("meanDistance"),
    }


def _with_timecode(where: dict[str, Any] | None, film: Film) -> dict[str, Any] | None:
    if where is None:
        return None
    start, end = film.times.ends_of(json_format.ParseDict(where, compare_pb2.FrameRange()))
    return {**where, "startTimecode": start, "endTimecode": end}
