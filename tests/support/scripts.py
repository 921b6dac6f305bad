"""Edit scripts, as messages of the contract."""

from collections.abc import Sequence

from sage.compare.v1 import compare_pb2
from sage.compare.v1.compare_pb2 import (
    CHANGE_KIND_BLACK,
    CHANGE_KIND_GRADE,
    CHANGE_KIND_OVERLAY,
    CHANGE_KIND_REPLACED,
    CHANGE_KIND_RETIMED,
    CHANGE_KIND_SOUND_LEVEL,
    CHANGE_KIND_SOUND_MISSING,
    CHANGE_KIND_SOUND_REPLACED,
    CHANGE_KIND_SOUND_SHIFTED,
    CHANGE_KIND_TEXT,
    CHANGE_SIDE_A,
    CHANGE_SIDE_B,
    EDIT_KIND_CHANGED,
    EDIT_KIND_DELETED,
    EDIT_KIND_INSERTED,
    EDIT_KIND_MATCHED,
    EDIT_KIND_MOVED,
)

Frames = tuple[int, int]
FRAME_RATE = 24
LOGO = (0.85, 0.83, 0.11, 0.1)
SUBTITLE = (0.2, 0.85, 0.6, 0.08)


def frames(span: Frames, rate: float = FRAME_RATE) -> compare_pb2.FrameRange:
    """Return a range of frames with its seconds."""
    first, end = span
    return compare_pb2.FrameRange(first_frame=first, end_frame=end, start_seconds=first / rate, end_seconds=end / rate)


def make_change(
    kind: int,
    span: Frames | None = None,
    *,
    a: Frames | None = None,
    region: Sequence[float] | None = None,
    side: int = compare_pb2.CHANGE_SIDE_UNSPECIFIED,
    amount: float | None = None,
    weak: bool = False,
) -> compare_pb2.Change:
    """Return a change in the frames `span` of the new film, and of the old one unless `a` says otherwise."""
    return compare_pb2.Change(
        kind=kind,  # type: ignore[arg-type] # an enum value, or one of a newer server
        a=frames(a or span) if a or span else None,
        b=frames(span) if span else None,
        region=compare_pb2.Region(x=region[0], y=region[1], width=region[2], height=region[3]) if region else None,
        side=side,  # type: ignore[arg-type] # an enum value
        amount=amount,
        strength=9,
        confidence=1,
        weak=weak,
    )


def make_edit(
    kind: int,
    a: Frames | None,
    b: Frames | None,
    *changes: compare_pb2.Change,
    rate: float = 1.0,
    repeats: Frames | None = None,
) -> compare_pb2.Edit:
    """Return an edit. Its changes span it unless they have their own ranges."""
    edit = compare_pb2.Edit(
        kind=kind,  # type: ignore[arg-type] # an enum value, or one of a newer server
        a=frames(a) if a else None,
        b=frames(b) if b else None,
        rate=rate if a and b else 0,
        confidence=1,
        changes=changes,
        repeats=frames(repeats) if repeats else None,
    )
    for change in edit.changes:
        if not change.HasField("b"):
            change.a.CopyFrom(edit.a)
            change.b.CopyFrom(edit.b)
    return edit


def make_script(*edits: compare_pb2.Edit, **fields: object) -> compare_pb2.EditScript:
    """Return a script of these edits, with the usual levels."""
    return compare_pb2.EditScript(
        edits=edits,
        noise=compare_pb2.Noise(median=0.4, p95=1.1, p99=1.6),
        min_strength=3,
        levels=compare_pb2.SensitivityLevels(low=6, normal=3, high=1.5),
        **fields,  # type: ignore[arg-type] # fields by name
    )


# Every kind of edit, over 480 frames of the old film and 500 of the new one.
PICTURE = make_script(
    make_edit(EDIT_KIND_MATCHED, (0, 48), (0, 48)),
    make_edit(EDIT_KIND_CHANGED, (48, 96), (48, 96), make_change(CHANGE_KIND_REPLACED)),
    make_edit(EDIT_KIND_INSERTED, None, (96, 132)),
    make_edit(EDIT_KIND_MATCHED, (96, 144), (132, 180)),
    make_edit(EDIT_KIND_DELETED, (144, 156), None),
    make_edit(
        EDIT_KIND_CHANGED,
        (156, 216),
        (180, 240),
        make_change(CHANGE_KIND_OVERLAY, region=LOGO, side=CHANGE_SIDE_B),
        make_change(CHANGE_KIND_GRADE, (200, 240)),
    ),
    make_edit(EDIT_KIND_CHANGED, (216, 264), (240, 278), make_change(CHANGE_KIND_RETIMED), rate=1.25),
    make_edit(
        EDIT_KIND_CHANGED,
        (300, 360),
        (278, 338),
        make_change(CHANGE_KIND_TEXT, region=SUBTITLE, side=CHANGE_SIDE_A),
    ),
    make_edit(EDIT_KIND_CHANGED, (360, 372), (338, 350), make_change(CHANGE_KIND_BLACK, side=CHANGE_SIDE_B)),
    make_edit(EDIT_KIND_MOVED, (264, 300), (350, 386)),
    make_edit(EDIT_KIND_MATCHED, (372, 438), (386, 452)),
    make_edit(EDIT_KIND_INSERTED, None, (452, 458), repeats=(0, 6)),
    make_edit(EDIT_KIND_MATCHED, (438, 480), (458, 500)),
)
# The sound is cut like the picture, and differs in four places.
SOUND = make_script(
    *(edit for edit in PICTURE.edits if edit.kind not in {EDIT_KIND_CHANGED, EDIT_KIND_MATCHED}),
    make_edit(EDIT_KIND_CHANGED, (0, 24), (0, 24), make_change(CHANGE_KIND_SOUND_REPLACED)),
    make_edit(EDIT_KIND_CHANGED, (24, 48), (24, 48), make_change(CHANGE_KIND_SOUND_SHIFTED, amount=0.08)),
    make_edit(EDIT_KIND_CHANGED, (372, 400), (386, 414), make_change(CHANGE_KIND_SOUND_LEVEL, amount=6.0)),
    make_edit(EDIT_KIND_CHANGED, (438, 480), (458, 500), make_change(CHANGE_KIND_SOUND_MISSING, side=CHANGE_SIDE_A)),
)
