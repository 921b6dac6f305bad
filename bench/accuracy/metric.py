"""The metric: how close a predicted edit script is to the truth about a pair.

Everything is computed from the two scripts and the times of the frames. Frames are weighed by how long they are shown.
Changes of the sound and changes marked as weak are not scored; an edit that has no other changes counts as matched.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from sage_compare.aligned.script import Change, ChangeKind, Edit, EditKind, Frames, Region

from accuracy.cutting import UNMAPPED
from accuracy.truth import Timeline, Truth

COLLAR_SECONDS = 0.25
SOUND = {kind for kind in ChangeKind if kind.name.startswith("SOUND")}
STRUCTURAL = {
    ChangeKind.REPLACED,
    ChangeKind.BLACK,
    ChangeKind.FROZEN,
    ChangeKind.FADE,
    ChangeKind.DISSOLVE,
    ChangeKind.RETIMED,
}
WHOLE = Region(0, 0, 1, 1)

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Event:
    """Something that was done: an insert, a delete, a move, or one change.

    Attributes:
        label: Its kind.
        a: Where it is in the old cut; `None` if it is not there.
        b: Where it is in the new cut.
        region: The part of the picture.
        slack: Frames at its start and at its end in which the two files do not show yet that anything was done.
    """

    label: str
    a: Frames | None
    b: Frames | None
    region: Region | None = None
    slack: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class Overlap:
    """Seconds of both timelines together.

    Attributes:
        right: Predicted, and true.
        typed: Predicted with a kind that is true.
        extra: Predicted, not true.
        missed: True, not predicted.
    """

    right: float = 0.0
    typed: float = 0.0
    extra: float = 0.0
    missed: float = 0.0

    def f1(self, right: float | None = None) -> float:
        """Return F1: 1 if there is nothing and nothing is predicted."""
        total = 2 * self.right + self.extra + self.missed
        return 2 * (self.right if right is None else right) / total if total else 1.0


@dataclass(frozen=True)
class PairScore:
    """How close a prediction is.

    Attributes:
        diff_f1: F1 of the time that is not matched, without what is wrong within the collar.
        diff_f1_strict: The same without a collar.
        typed_f1: As `diff_f1`, where only time with a right kind is right.
        event_f1: F1 of events at a temporal IoU of 0.5 and 0.75.
        boundary_errors: Frames by which the ends of found events are off.
        mapped: Frames of the new cut that have a counterpart, and how many of them are within one frame of it.
        regions: Box IoU of each found event that has a region.
        extra_seconds: Time that is predicted and not true, the mean of both timelines, without a collar.
        minutes: Length of the pair, the mean of both timelines.
    """

    diff_f1: float
    diff_f1_strict: float
    typed_f1: float
    event_f1: tuple[float, float]
    boundary_errors: tuple[int, ...]
    mapped: tuple[int, int]
    regions: tuple[float, ...]
    extra_seconds: float
    minutes: float


def score(truth: Truth, predicted: Sequence[Edit]) -> PairScore:
    """Return how close predicted edits are to the truth."""
    true_edits, found_edits = _scored(truth.edits, truth), _scored(predicted, truth)
    collared = _overlap(truth, true_edits, found_edits, collar=COLLAR_SECONDS)
    strict = _overlap(truth, true_edits, found_edits, collar=0.0)
    true_events, found_events = events(true_edits, truth), events(found_edits)
    loose, tight = (_matched(true_events, found_events, truth, at_least=iou) for iou in (0.5, 0.75))
    total = len(true_events) + len(found_events)
    errors = [e for mine, theirs, _ in loose for e in _boundary_errors(mine, theirs)]
    regions = [
        box_iou(mine.region, theirs.region or WHOLE)
        for mine, theirs, _ in loose
        if mine.region and theirs.label != "MOVED"
    ]
    return PairScore(
        diff_f1=collared.f1(),
        diff_f1_strict=strict.f1(),
        typed_f1=collared.f1(collared.typed),
        event_f1=(2 * len(loose) / total if total else 1.0, 2 * len(tight) / total if total else 1.0),
        boundary_errors=tuple(errors),
        mapped=_mapped(truth, predicted),
        regions=tuple(regions),
        extra_seconds=strict.extra / 2,
        minutes=(truth.old.duration + truth.new.duration) / 120,
    )


def _scored(edits: Sequence[Edit], truth: Truth) -> list[Edit]:
    """Return edits without the changes that are not scored."""

    def counts(change: Change) -> bool:
        if change.weak or change.kind in SOUND or change.kind in truth.tolerated:
            return False
        return truth.scored == "all" or change.kind in STRUCTURAL

    found = []
    for edit in edits:
        changes = tuple(c for c in edit.changes if counts(c))
        kind = EditKind.MATCHED if edit.kind is EditKind.CHANGED and not changes else edit.kind
        found.append(replace(edit, kind=kind, changes=changes))
    return _with_replacements(found)


def _with_replacements(edits: Sequence[Edit]) -> list[Edit]:
    """Return edits where an insert and a delete at the same place are one replacement: both ways to say it count."""
    found: list[Edit] = []
    for edit in edits:
        before = found[-1] if found else None
        if before is None or not _is_one_sided(before) or not _is_one_sided(edit):
            found.append(edit)
            continue
        a, b = _span(before.a, edit.a), _span(before.b, edit.b)
        if a is None or b is None:
            found.append(edit)
        else:
            replaced = Change(ChangeKind.REPLACED, a, b, 1.0)
            found[-1] = Edit(EditKind.CHANGED, a, b, changes=(replaced,))
    return found


def _is_one_sided(edit: Edit) -> bool:
    """Return whether an edit is an insert, a delete, or nothing but a replacement."""
    if edit.kind is EditKind.CHANGED:
        return {change.kind for change in edit.changes} == {ChangeKind.REPLACED}
    return edit.kind in (EditKind.INSERTED, EditKind.DELETED)


def _span(one: Frames | None, other: Frames | None) -> Frames | None:
    """Return two ranges as one; `None` if both are absent, or they do not touch."""
    if one is None or other is None:
        return one or other
    return Frames(one.first, other.end) if one.end == other.first else None


def _labels(edits: Iterable[Edit], side: str, frames: int) -> tuple[Mask, NDArray[np.uint32]]:
    """Return which frames of a timeline are not matched, and the kinds of each frame as bits."""
    differs, kinds = np.zeros(frames, bool), np.zeros(frames, np.uint32)
    for edit in edits:
        if edit.kind is EditKind.MATCHED:
            continue
        frames_here: Frames | None = getattr(edit, side)
        if frames_here is None:
            continue
        at = slice(max(0, frames_here.first), frames_here.end)
        differs[at] = True
        if edit.kind is not EditKind.CHANGED:
            kinds[at] |= np.uint32(1 << edit.kind.value)
        for change in edit.changes:
            within: Frames = getattr(change, side)
            kinds[max(at.start, within.first) : min(at.stop, within.end)] |= np.uint32(1 << (8 + change.kind.value))
    return differs, kinds


def _overlap(truth: Truth, true_edits: list[Edit], found_edits: list[Edit], *, collar: float) -> Overlap:
    total = np.zeros(4)
    for side, timeline in (("a", truth.old), ("b", truth.new)):
        lengths = timeline.lengths
        true, true_kinds = _labels(true_edits, side, len(timeline))
        found, found_kinds = _labels(found_edits, side, len(timeline))
        strict = ~_collar(true_edits, side, timeline, truth, collar)
        typed = true & found & ((true_kinds & found_kinds) != 0)
        for i, mask in enumerate((true & found, typed, found & ~true & strict, true & ~found & strict)):
            total[i] += lengths[mask].sum()
    return Overlap(*(float(t) for t in total))


def _collar(edits: list[Edit], side: str, timeline: Timeline, truth: Truth, seconds: float) -> Mask:
    """Return the frames around the ends of edits in which an error does not count.

    The collar of a short edit is at most a quarter of its length. The slack of a retimed one is added.
    """
    within = np.zeros(len(timeline), bool)
    if not seconds:
        return within
    middles = timeline.seconds + timeline.lengths / 2
    at = 0
    for edit in edits:
        here: Frames | None = getattr(edit, side)
        if edit.kind is not EditKind.MATCHED:
            longest = max(
                (line.second(f.end) - line.second(f.first))
                for f, line in ((edit.a, truth.old), (edit.b, truth.new))
                if f is not None
            )
            width = min(seconds, longest / 4)
            slack = _slack(edit, truth)
            ends = (here.first, here.end) if here else (at, at)
            for end, late in zip(ends, slack, strict=True):
                reach = max(width, late * float(np.median(timeline.lengths)))
                within |= np.abs(middles - timeline.second(end)) < reach
        if here:
            at = here.end
    return within


def _slack(edit: Edit, truth: Truth) -> tuple[int, int]:
    """Return for how many frames a retimed stretch shows, at its start and end, what it would show at the film's rate.

    At 4%, the first 24 frames are the same as without a retime, so nothing in the files says where it begins.
    """
    if edit.b is None or not any(c.kind is ChangeKind.RETIMED for c in edit.changes):
        return 0, 0
    plain = next((e.rate for e in truth.edits if e.kind is EditKind.MATCHED and e.rate), 1.0)
    # A ramp is a chain of edits, of which the first and the last have slack.
    chain = [e for e in events(truth.edits) if e.label == ChangeKind.RETIMED.name and e.b]
    whole = next(e.b for e in chain if e.b and e.b.first <= edit.b.first and edit.b.end <= e.b.end)
    at = truth.map[whole.first : whole.end]
    seconds = truth.new.seconds[whole.first : whole.end]
    step = float(np.median(truth.old.lengths))
    found = []
    for order in (slice(None), slice(None, None, -1)):
        drift = np.abs((at[order] - at[order][0]) - plain * (seconds[order] - seconds[order][0]))
        late = np.flatnonzero(drift >= step)
        found.append(min(int(late[0]) if len(late) else len(at), len(at) // 2))
    return (found[0] if edit.b.first == whole.first else 0), (found[1] if edit.b.end == whole.end else 0)


def events(edits: Iterable[Edit], truth: Truth | None = None) -> list[Event]:
    """Return what was done. What continues from one edit to the next is one event.

    Args:
        edits: The edits, in order.
        truth: Where the edits are from, if they are the truth: gives them their slack.
    """
    found: list[Event] = []
    for edit in edits:
        if edit.kind is EditKind.MATCHED:
            continue
        slack = _slack(edit, truth) if truth else (0, 0)
        new = [Event(change.kind.name, change.a, change.b, change.region, slack) for change in edit.changes]
        if edit.kind is not EditKind.CHANGED:
            new.insert(0, Event(edit.kind.name, edit.a, edit.b))
        for event in new:
            before = next((i for i, e in enumerate(found) if _continues(e, event)), None)
            if before is None:
                found.append(event)
            else:
                found[before] = _joined(found[before], event)
    return found


def _continues(before: Event, after: Event) -> bool:
    if before.label != after.label:
        return False
    if before == after:
        return True
    for one, next_one in ((before.a, after.a), (before.b, after.b)):
        if (one is None) != (next_one is None) or (one and next_one and one.end != next_one.first):
            return False
    if before.region is None or after.region is None:
        return before.region is after.region
    return box_iou(before.region, after.region) > 0.3


def _joined(before: Event, after: Event) -> Event:
    a, b = (
        Frames(one.first, next_one.end) if one and next_one else None
        for one, next_one in ((before.a, after.a), (before.b, after.b))
    )
    return replace(before, a=a, b=b, slack=(before.slack[0], after.slack[1]))


def _matched(
    true: list[Event], found: list[Event], truth: Truth, *, at_least: float
) -> list[tuple[Event, Event, float]]:
    """Return which true events were found, each by one predicted event, the closest first."""
    scored = [
        (temporal_iou(t, f, truth), t.label == f.label, i, j) for i, t in enumerate(true) for j, f in enumerate(found)
    ]
    used_true, used_found = set(), set()
    matched = []
    for iou, _, i, j in sorted(scored, key=lambda s: (-s[0], not s[1], s[2], s[3])):
        if iou >= at_least and i not in used_true and j not in used_found:
            used_true.add(i)
            used_found.add(j)
            matched.append((true[i], found[j], iou))
    return matched


def temporal_iou(one: Event, other: Event, truth: Truth) -> float:
    """Return how much two events overlap, in seconds of both timelines together."""
    shared = total = 0.0
    for x, y, line in ((one.a, other.a, truth.old), (one.b, other.b, truth.new)):
        lengths = [line.second(f.end) - line.second(f.first) if f else 0.0 for f in (x, y)]
        both = 0.0
        if x and y:
            both = max(0.0, line.second(min(x.end, y.end)) - line.second(max(x.first, y.first)))
        shared += both
        total += sum(lengths) - both
    return shared / total if total else 0.0


def _boundary_errors(true: Event, found: Event) -> list[int]:
    errors = []
    for t, f in ((true.a, found.a), (true.b, found.b)):
        if t and f:
            errors.append(max(0, abs(f.first - t.first) - true.slack[0]))
            errors.append(max(0, abs(f.end - t.end) - true.slack[1]))
    return errors


def _mapped(truth: Truth, predicted: Sequence[Edit]) -> tuple[int, int]:
    """Return how many frames of the new cut have a counterpart, and how many are predicted within a frame of it."""
    times = np.full(len(truth.new), np.nan)
    for edit in predicted:
        if not edit.a or not edit.b or any(c.kind in UNMAPPED and not c.weak for c in edit.changes):
            continue
        start, end = truth.new.second(edit.b.first), truth.new.second(edit.b.end)
        first, last = truth.old.second(edit.a.first), truth.old.second(edit.a.end)
        at = truth.new.seconds[edit.b.first : edit.b.end]
        times[edit.b.first : edit.b.end] = first + (at - start) * (last - first) / max(end - start, 1e-9)
    known = ~np.isnan(truth.map)
    step = max(float(np.median(line.lengths)) for line in (truth.old, truth.new))
    close = np.abs(times - truth.map) <= step * 1.02
    return int(known.sum()), int((known & close).sum())


def box_iou(one: Region, other: Region) -> float:
    """Return how much two rectangles overlap."""
    width = min(one.x + one.width, other.x + other.width) - max(one.x, other.x)
    height = min(one.y + one.height, other.y + other.height) - max(one.y, other.y)
    shared = max(0.0, width) * max(0.0, height)
    total = one.width * one.height + other.width * other.height - shared
    return shared / total if total else 0.0
