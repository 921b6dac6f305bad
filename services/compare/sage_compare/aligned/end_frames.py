"""A frame more at an end of one film: encoders and conversions add and drop it, so it is no edit."""

import itertools
from collections.abc import Sequence
from dataclasses import replace

from sage_compare.aligned.script import Edit, EditKind, Frames, Normalization, NormalizationKind


def without_end_frames(
    edits: Sequence[Edit], most_a: int = 1, most_b: int = 1
) -> tuple[list[Edit], tuple[Normalization, ...]]:
    """Return the edits with frames that only one film has at an end matched with their neighbour, and what was ignored.

    All other frames keep their counterpart.

    Args:
        edits: An edit script.
        most_a: Frames that a may have more at an end.
        most_b: Frames that b may have more at an end.
    """
    kept = list(edits)
    length_a, length_b = (max((one.end for one in side if one), default=0) for side in _sides(edits))
    ignored = [0, 0]
    for at_start in (True, False):
        edges = (0, 0) if at_start else (length_a, length_b)
        reach = (most_a, most_b) if at_start else (length_a - most_a, length_b - most_b)
        outer = [edit for edit in kept if _reaches(edit, reach, at_start=at_start)]
        for lone, matched in itertools.permutations(outer, 2):
            most = {EditKind.DELETED: most_a, EditKind.INSERTED: most_b}.get(lone.kind, 0)
            a, b = lone.a or Frames(0, 0), lone.b or Frames(0, 0)
            if 0 < len(a) + len(b) <= most and _ends_with(lone, matched, edges, at_start=at_start):
                kept.remove(lone)
                place = kept.index(matched)
                kept[place : place + 1] = _divided(matched, len(a), len(b), at_start=at_start)
                ignored = [ignored[0] + len(a), ignored[1] + len(b)]
                break
    if ignored == [0, 0]:
        return kept, ()
    return kept, (Normalization(NormalizationKind.END_FRAMES, str(ignored[0]), str(ignored[1])),)


def _sides(edits: Sequence[Edit]) -> tuple[list[Frames | None], list[Frames | None]]:
    return [edit.a for edit in edits], [edit.b for edit in edits]


def _reaches(edit: Edit, reach: tuple[int, int], *, at_start: bool) -> bool:
    """Return whether an edit begins, or ends, near that end of a film."""
    return any(
        one and (one.first <= near if at_start else one.end >= near)
        for one, near in zip((edit.a, edit.b), reach, strict=True)
    )


def _ends_with(lone: Edit, matched: Edit, edges: tuple[int, int], *, at_start: bool) -> bool:
    """Return whether both films begin, or end, with a matched range but for frames that one film has alone."""
    if matched.kind is not EditKind.MATCHED:
        return False
    for one, other, edge in zip((lone.a, lone.b), (matched.a, matched.b), edges, strict=True):
        outer = one or other
        if other is None or outer is None or (outer.first if at_start else outer.end) != edge:
            return False
        if one and (one.end != other.first if at_start else other.end != one.first):
            return False
    return True


def _divided(matched: Edit, more_a: int, more_b: int, *, at_start: bool) -> list[Edit]:
    """Return a matched range with more frames at one end: that end, and the rest as it was."""
    a, b = matched.a or Frames(0, 0), matched.b or Frames(0, 0)
    whole_a = Frames(a.first - more_a, a.end) if at_start else Frames(a.first, a.end + more_a)
    whole_b = Frames(b.first - more_b, b.end) if at_start else Frames(b.first, b.end + more_b)
    if min(len(a), len(b)) < 2:
        return [replace(matched, a=whole_a, b=whole_b)]
    at_a = a.first + 1 if at_start else a.end - 1
    at_b = b.first + 1 if at_start else b.end - 1
    return [
        replace(matched, a=Frames(whole_a.first, at_a), b=Frames(whole_b.first, at_b)),
        replace(matched, a=Frames(at_a, whole_a.end), b=Frames(at_b, whole_b.end)),
    ]
