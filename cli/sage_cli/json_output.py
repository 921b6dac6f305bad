"""Results for scripts: the JSON of the API, and for a comparison what only this client knows added to it."""

from typing import Any

from google.protobuf import json_format
from google.protobuf.message import Message
from sage.compare.v1 import compare_pb2

from sage_cli.comparison import Comparison, Side, TrackComparison


def message_document(message: Message) -> dict[str, Any]:
    """Return a message as the API has it in JSON over HTTP, with every plain field, set or not."""
    document: dict[str, Any] = json_format.MessageToDict(message, always_print_fields_with_no_presence=True)
    return document


def comparison_document(response: compare_pb2.CompareEmbeddingsResponse, comparison: Comparison) -> dict[str, Any]:
    """Return a comparison: the service's answer, with labels, frame rates and timecodes.

    `differ` says what the exit code says. `tailNotComparedSeconds` is the length of the end that both films have and no
    clip covers, which stands under `differences` and does not count as one; null where there is none. What a difference
    does not have is null, so that every difference has the same keys; so is `second` where there is no second track.
    """
    document = message_document(response)
    for key, side in (("a", comparison.old), ("b", comparison.new)):
        rate = side.frame_rate.frames_per_second if side.frame_rate else None
        document[key]["label"] = side.label
        document[key]["frameRate"] = rate and {"numerator": rate.numerator, "denominator": rate.denominator}
        document[key].setdefault("covered", None)
    _complete(document, comparison, comparison.first)
    if comparison.second:
        second = {"aCovered": None, "bCovered": None, **document["second"]}
        _complete(second, comparison, comparison.second)
        document["second"] = second
    return {"differ": comparison.differ, "second": None, **document}


def _complete(document: dict[str, Any], comparison: Comparison, track: TrackComparison) -> None:
    """Add to the document of a track what only this client knows of it."""
    tail = comparison.tail_of(track)
    document["tailNotComparedSeconds"] = tail and tail.old and tail.old.end_seconds - tail.old.start_seconds
    document["differences"] = [
        {
            "kind": difference["kind"],
            "a": _with_timecode(difference.get("a"), comparison.old),
            "b": _with_timecode(difference.get("b"), comparison.new),
            "maxDistance": difference.get("maxDistance"),
            "meanDistance": difference.get("meanDistance"),
        }
        for difference in document["differences"]
    ]


def _with_timecode(time_range: dict[str, float] | None, side: Side) -> dict[str, Any] | None:
    if time_range is None:
        return None
    return {
        **time_range,
        "startTimecode": side.time_name(time_range["startSeconds"]),
        "endTimecode": side.time_name(time_range["endSeconds"]),
    }
