"""Changes of the sound put into the cuts of the picture."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from sage_fingerprint.model import SOUND_RATE, Fingerprint

from sage_compare.aligned.script import Change, ChangeKind, ChangeSide, Edit, EditKind, Frames
from sage_compare.aligned.sound_windows import Steps

_NEAR_SECONDS: Final = 0.12


@dataclass(frozen=True)
class Run:
    """Entries of `Steps` with one change."""

    kind: ChangeKind
    first: int
    end: int
    strength: float
    amount: float | None = None
    side: ChangeSide | None = None


def cuts_of(edits: Sequence[Edit]) -> list[Edit]:
    """Return the edits of the picture without what only the picture has; neighbours that became alike are one."""
    cuts = list[Edit]()
    for edit in edits:
        kind = EditKind.MATCHED if edit.kind is EditKind.CHANGED else edit.kind
        plain = replace(edit, kind=kind, changes=())
        before = cuts[-1] if cuts else None
        if (
            before
            and kind is before.kind is EditKind.MATCHED
            and before.a
            and before.b
            and plain.a
            and plain.b
            and before.a.end == plain.a.first
            and abs(before.rate - plain.rate) < 1e-3
        ):
            cuts[-1] = replace(
                before,
                a=Frames(before.a.first, plain.a.end),
                b=Frames(before.b.first, plain.b.end),
                confidence=min(before.confidence, plain.confidence),
            )
        else:
            cuts.append(plain)
    return cuts


def with_runs(a: Fingerprint, b: Fingerprint, edit: Edit, runs: Sequence[Run], steps: Steps) -> list[Edit]:
    """Return an edit, divided at the ends of its changes."""
    if edit.a is None or edit.b is None or not runs:
        return [edit]
    changes = list[Change]()
    at_a, at_b = edit.a.first, edit.b.first
    # Parts of a few frames between two changes, or beside a cut, are of neither.
    near = max(1, round(_NEAR_SECONDS * len(b) / max(b.duration_seconds, 1e-9)))
    for run in sorted(runs, key=lambda one: one.first):
        first = _frame(b, steps.b[run.first] / SOUND_RATE, edit.b)
        end = _frame(b, (steps.b[run.end - 1] + 1) / SOUND_RATE, edit.b)
        first_a, end_a = _opposite(edit, first), _opposite(edit, end)
        if first - at_b <= near or first_a <= at_a:
            first, first_a = at_b, at_a
        if edit.b.end - end <= near or end_a >= edit.a.end:
            end, end_a = edit.b.end, edit.a.end
        if end - first <= near or end_a <= first_a:
            continue
        before = changes[-1] if changes else None
        if before and before.kind is run.kind is ChangeKind.SOUND_REPLACED and before.b.end == first:
            changes.pop()
            first_a, first = before.a.first, before.b.first
        changes.append(
            Change(run.kind, Frames(first_a, end_a), Frames(first, end), run.strength, side=run.side, amount=run.amount)
        )
        at_a, at_b = end_a, end
    if edit.kind is not EditKind.MATCHED:
        return [replace(edit, changes=tuple(changes))]
    parts = list[Edit]()
    last_a, last_b = edit.a.first, edit.b.first
    for change in changes:
        parts += _between(edit, Frames(last_a, change.a.first), Frames(last_b, change.b.first))
        parts.append(replace(edit, kind=EditKind.CHANGED, a=change.a, b=change.b, changes=(change,)))
        last_a, last_b = change.a.end, change.b.end
    parts += _between(edit, Frames(last_a, edit.a.end), Frames(last_b, edit.b.end))
    return parts


def _between(edit: Edit, a: Frames, b: Frames) -> list[Edit]:
    return [replace(edit, a=a, b=b)] if len(a) and len(b) else []


def _frame(film: Fingerprint, second: float, within: Frames) -> int:
    """Return the frame that begins closest to a time."""
    edges = np.append(film.frame_seconds, film.duration_seconds)
    after = int(np.searchsorted(edges, second))
    if after and (after == len(edges) or second - edges[after - 1] < edges[after] - second):
        after -= 1
    return min(max(after, within.first), within.end)


def _opposite(edit: Edit, frame: int) -> int:
    """Return the frame of a that corresponds to one of b."""
    if edit.a is None or edit.b is None:
        return frame
    share = (frame - edit.b.first) / len(edit.b)
    return edit.a.first + int(np.floor(share * len(edit.a) + 0.5))
