"""What a pair is known to be, and edit scripts as JSON.

A pair is a folder with `old.*`, `new.*` and `truth.json`:

    {
      "version": 1,
      "name": "insert-same-1",            the folder
      "class": "insert-same",             pairs of one class are averaged first
      "group": "structural",              structural, freeze, short, local, combined, silent, traps, human, editorial
      "scored": "all",                    or "structural": changes of the picture and of the sound are not scored
      "tolerated": ["GRADE"],             changes of these kinds are scored neither way ("HDR as such")
      "old": {"file": "old.mp4", "frames": 960, "rate": "24", "duration": 40.0, "seconds": null},
      "new": ...,                           seconds: when each frame is shown first; null if at even distances
      "edits": [                            in the order of new, each DELETED after the edit that it follows in old
        {"kind": "MATCHED", "a": [0, 113], "b": [0, 113], "rate": 1.0, "repeats": null, "changes": []},
        {"kind": "INSERTED", "a": null, "b": [113, 190], "rate": 0.0, "repeats": [300, 377], "changes": []},
        {"kind": "CHANGED", "a": [113, 200], "b": [190, 277], "rate": 1.0, "repeats": null, "changes": [
          {"kind": "TEXT", "a": [113, 200], "b": [190, 277], "region": [0.2, 0.84, 0.6, 0.07], "side": "B",
           "amount": null, "weak": false}]}
      ],
      "map": [0.0, 0.0417, null, ...]     for each frame of new: the second of old that it shows, if any
    }

Ranges are frames ``[first, end)`` in the order in which each *file* shows them. Kinds are the names in
`sage_compare.aligned.script`. The edits tile both files. A prediction is written in the same form of `edits`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sage_compare.aligned.script import Change, ChangeKind, ChangeSide, Edit, EditKind, Frames, Region

from accuracy.cutting import Edited
from accuracy.encoding import Encoded

VERSION = 1


@dataclass(frozen=True)
class Timeline:
    """The frames of one file.

    Attributes:
        path: The file.
        seconds: When each frame is shown first.
        duration: End of the last one.
    """

    path: Path
    seconds: NDArray[np.float64]
    duration: float

    def __len__(self) -> int:
        return len(self.seconds)

    @property
    def lengths(self) -> NDArray[np.float64]:
        """How long each frame is shown, in seconds."""
        return np.diff(self.seconds, append=self.duration)

    def second(self, frame: float) -> float:
        """Return when a frame is shown; the end of the film for the frame after the last one."""
        return float(np.interp(frame, np.arange(len(self) + 1), np.append(self.seconds, self.duration)))

    def frame(self, second: float) -> int:
        """Return the frame that begins closest to a time."""
        edges = np.append(self.seconds, self.duration)
        after = int(np.searchsorted(edges, second))
        if after == 0:
            return 0
        if after == len(edges):
            return len(self)
        return after if edges[after] - second <= second - edges[after - 1] else after - 1


@dataclass(frozen=True)
class Truth:
    """What a pair is known to be."""

    name: str
    klass: str
    group: str
    old: Timeline
    new: Timeline
    edits: tuple[Edit, ...]
    map: NDArray[np.float64]
    scored: str = "all"
    tolerated: frozenset[ChangeKind] = frozenset()


def truth_of(name: str, edited: Edited, old: Encoded, new: Encoded) -> tuple[tuple[Edit, ...], NDArray[np.float64]]:
    """Return the edits in frames of the files, and the time map, from where each frame comes from."""

    def moved(frames: Frames | None, file: Encoded) -> Frames | None:
        if frames is None:
            return None
        first, end = np.searchsorted(file.shown, [frames.first, frames.end])
        return Frames(int(first), int(end))

    def second(file: Encoded, frame: float) -> float:
        at = int(np.searchsorted(file.shown, np.floor(frame + 1e-6)))
        edges = np.append(file.seconds, file.duration)
        at = min(at, len(file.seconds) - 1)
        return float(edges[at] + (frame - np.floor(frame + 1e-6)) * (edges[at + 1] - edges[at]))

    edits = []
    for edit in edited.edits:
        a, b = moved(edit.a, old), moved(edit.b, new)
        if not ((a and len(a)) or (b and len(b))):
            continue
        rate = 0.0
        if a and b and len(a) and len(b):
            edges_a, edges_b = np.append(old.seconds, old.duration), np.append(new.seconds, new.duration)
            rate = float((edges_a[a.end] - edges_a[a.first]) / (edges_b[b.end] - edges_b[b.first]))
        changes = tuple(
            Change(c.kind, moved(c.a, old) or c.a, moved(c.b, new) or c.b, 1.0, region=c.region, side=c.side)
            for c in edit.changes
        )
        repeats = moved(edit.repeats, old if edit.kind is EditKind.INSERTED else new)
        edits.append(Edit(edit.kind, a, b, rate, changes=changes, repeats=repeats))
    times = np.array([np.nan if np.isnan(p) else second(old, p) for p in edited.a_of_b[new.shown]])
    _check_tiling(name, edits, len(old.seconds), len(new.seconds))
    return tuple(edits), times


def _check_tiling(name: str, edits: Sequence[Edit], old_frames: int, new_frames: int) -> None:
    for ranges, frames in (([e.a for e in edits if e.a], old_frames), ([e.b for e in edits if e.b], new_frames)):
        at = 0
        for found in sorted(ranges):
            if found.first != at:
                raise ValueError(f"{name}: the truth has a gap or an overlap at frame {at} of {frames}: {found}")
            at = found.end
        if at != frames:
            raise ValueError(f"{name}: the truth ends at frame {at} of {frames}")


def write(truth: Truth, rates: tuple[Fraction, Fraction], even: tuple[bool, bool]) -> None:
    """Write `truth.json` beside the files."""

    def side(timeline: Timeline, rate: Fraction, evenly: bool) -> dict[str, Any]:
        seconds = None if evenly else [round(float(s), 6) for s in timeline.seconds]
        return {
            "file": timeline.path.name,
            "frames": len(timeline),
            "rate": str(rate),
            "duration": timeline.duration,
            "seconds": seconds,
        }

    document = {
        "version": VERSION,
        "name": truth.name,
        "class": truth.klass,
        "group": truth.group,
        "scored": truth.scored,
        "tolerated": sorted(kind.name for kind in truth.tolerated),
        "old": side(truth.old, rates[0], even[0]),
        "new": side(truth.new, rates[1], even[1]),
        "edits": edits_to_json(truth.edits),
        "map": [None if np.isnan(s) else round(float(s), 4) for s in truth.map],
    }
    target = truth.old.path.with_name("truth.json")
    target.with_suffix(".part").write_text(json.dumps(document) + "\n")
    target.with_suffix(".part").rename(target)


def read(folder: Path) -> Truth:
    """Return what is known of the pair in a folder."""
    found = json.loads((folder / "truth.json").read_text())

    def side(stated: Mapping[str, Any]) -> Timeline:
        seconds = stated["seconds"]
        if seconds is None:
            seconds = np.arange(stated["frames"]) / float(Fraction(stated["rate"]))
        return Timeline(folder / stated["file"], np.array(seconds, np.float64), stated["duration"])

    times = np.array([np.nan if s is None else s for s in found["map"]], np.float64)
    tolerated = frozenset(ChangeKind[kind] for kind in found["tolerated"])
    return Truth(
        found["name"], found["class"], found["group"], side(found["old"]), side(found["new"]),
        edits_from_json(found["edits"]), times, found["scored"], tolerated,
    )  # fmt: skip


def edits_to_json(edits: Sequence[Edit]) -> list[dict[str, Any]]:
    """Return edits as JSON."""

    def frames(found: Frames | None) -> list[int] | None:
        return None if found is None else [found.first, found.end]

    return [
        {
            "kind": edit.kind.name,
            "a": frames(edit.a),
            "b": frames(edit.b),
            "rate": round(edit.rate, 6),
            "repeats": frames(edit.repeats),
            "changes": [
                {
                    "kind": c.kind.name,
                    "a": frames(c.a),
                    "b": frames(c.b),
                    "region": [round(v, 4) for v in (c.region.x, c.region.y, c.region.width, c.region.height)]
                    if c.region
                    else None,
                    "side": c.side.name if c.side else None,
                    "amount": c.amount,
                    "weak": c.weak,
                }
                for c in edit.changes
            ],
        }
        for edit in edits
    ]


def edits_from_json(found: Sequence[Mapping[str, Any]]) -> tuple[Edit, ...]:
    """Return edits from JSON."""

    def change(c: Mapping[str, Any]) -> Change:
        region = Region(*c["region"]) if c["region"] else None
        side = ChangeSide[c["side"]] if c["side"] else None
        kind = ChangeKind[c["kind"]]
        return Change(kind, Frames(*c["a"]), Frames(*c["b"]), 1.0, 1.0, region, side, c["amount"], c["weak"])

    return tuple(
        Edit(
            EditKind[e["kind"]],
            Frames(*e["a"]) if e["a"] else None,
            Frames(*e["b"]) if e["b"] else None,
            e["rate"],
            changes=tuple(change(c) for c in e["changes"]),
            repeats=Frames(*e["repeats"]) if e["repeats"] else None,
        )
        for e in found
    )


def edits_from_api(script: Mapping[str, Any], old: Timeline, new: Timeline) -> tuple[Edit, ...]:
    """Return edits from the JSON of `sage.compare.v1.EditScript`, whose times are turned into frames of the files.

    Args:
        script: The message as proto3 JSON, with either camelCase or snake_case names.
        old: The frames of a.
        new: The frames of b.
    """

    def get(message: Mapping[str, Any], name: str, default: Any = None) -> Any:
        head, *rest = name.split("_")
        return message.get(name, message.get(head + "".join(word.title() for word in rest), default))

    def frames(found: Mapping[str, Any] | None, timeline: Timeline) -> Frames | None:
        if found is None:
            return None
        return Frames(timeline.frame(get(found, "start_seconds", 0.0)), timeline.frame(get(found, "end_seconds", 0.0)))

    def change(c: Mapping[str, Any]) -> Change:
        region = get(c, "region")
        box = Region(*(float(get(region, key, 0.0)) for key in ("x", "y", "width", "height"))) if region else None
        side = {"CHANGE_SIDE_A": ChangeSide.A, "CHANGE_SIDE_B": ChangeSide.B}.get(get(c, "side", ""))
        kind = ChangeKind[get(c, "kind").removeprefix("CHANGE_KIND_")]
        a, b = frames(get(c, "a"), old), frames(get(c, "b"), new)
        nothing = Frames(0, 0)
        return Change(
            kind, a or nothing, b or nothing, float(get(c, "strength", 0.0)), float(get(c, "confidence", 0.0)),
            box, side, get(c, "amount"), bool(get(c, "weak", False)),
        )  # fmt: skip

    return tuple(
        Edit(
            EditKind[get(edit, "kind").removeprefix("EDIT_KIND_")],
            frames(get(edit, "a"), old),
            frames(get(edit, "b"), new),
            float(get(edit, "rate", 0.0)),
            changes=tuple(change(c) for c in get(edit, "changes", ())),
            repeats=frames(get(edit, "repeats"), old if get(edit, "kind") == "EDIT_KIND_INSERTED" else new),
        )
        for edit in get(script, "edits", ())
    )
