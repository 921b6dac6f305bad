"""A frame more at an end of one film: encoders and conversions add and drop it, so it is no edit."""

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
    ignored = [0, 0]
    for more, beside in ((0, 1), (-1, -2)):
        if len(kept) < 2 or kept[beside].kind is not EditKind.MATCHED:
            continue
        lone, matched = kept[more], kept[beside]
        most = {EditKind.DELETED: most_a, EditKind.INSERTED: most_b}.get(lone.kind, 0)
        a, b = lone.a or Frames(0, 0), lone.b or Frames(0, 0)
        if not 0 < len(a) + len(b) <= most or not _touches(lone, matched, at_start=more == 0):
            continue
        kept.remove(lone)
        place = kept.index(matched)
        kept[place : place + 1] = _divided(matched, len(a), len(b), at_start=more == 0)
        ignored = [ignored[0] + len(a), ignored[1] + len(b)]
    if ignored == [0, 0]:
        return kept, ()
    return kept, (Normalization(NormalizationKind.END_FRAMES, str(ignored[0]), str(ignored[1])),)


def _touches(lone: Edit, matched: Edit, *, at_start: bool) -> bool:
    """Return whether a frame that one film has alone lies beside a matched range in that film."""
    for one, other in ((lone.a, matched.a), (lone.b, matched.b)):
        if one and other:
            return one.end == other.first if at_start else other.end == one.first
    return False


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
