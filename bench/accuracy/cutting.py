"""Cuts a film the way an editor would, and remembers what was done: every frame of both cuts knows its source.

A `Cutting` reads the old cut from its first frame to its last. Each call takes the next frames of it and adds to the
new cut. Two cuts and the edit script between them come out, without looking at a picture.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from sage_compare.aligned.script import Change, ChangeKind, ChangeSide, Edit, EditKind, Frames

from accuracy.films import Film, Picture, film
from accuracy.looks import Look, dim, restyled

UNMAPPED = {ChangeKind.REPLACED, ChangeKind.BLACK, ChangeKind.FROZEN}
"""Changes after which a frame of the one film has no counterpart in the other."""
RAMP_STEP = 12
"""Frames of the new cut in one edit of a ramp."""


@dataclass(frozen=True)
class Source:
    """Where a frame comes from.

    Attributes:
        film: Name of the film; empty for black.
        frame: Its number there.
        also: A second frame that is mixed in, and its share.
        style: Makes another shot of the same pictures, if not 0: a part of them, mirrored or not, in another grade.
    """

    film: str = ""
    frame: int = 0
    also: tuple[str, int, float] | None = None
    style: int = 0


BLACK = Source()


@dataclass(frozen=True)
class Painted:
    """A look that a stretch of one cut has."""

    frames: Frames
    look: Look


@dataclass(frozen=True)
class Cut:
    """One of the two cuts.

    Attributes:
        frames: Where each of its frames comes from.
        looks: What is done to the pictures, in order.
        sound: Film whose sound replaces that of the pictures, from the first frame on.
    """

    frames: tuple[Source, ...]
    looks: tuple[Painted, ...] = ()
    sound: str | None = None


@dataclass(frozen=True)
class Edited:
    """Two cuts and the truth about them.

    Attributes:
        old: One cut.
        new: The other.
        edits: What was done, in the order of the new cut. They tile both.
        a_of_b: Frame of the old cut that each frame of the new one shows; not a number if none.
    """

    old: Cut
    new: Cut
    edits: tuple[Edit, ...]
    a_of_b: NDArray[np.float64]

    def swapped(self) -> "Edited":
        """Return the same with the two cuts in each other's place."""
        b_of_a = np.full(len(self.old.frames), np.nan)
        for edit in self.edits:
            if edit.a and edit.b:
                positions = self.a_of_b[edit.b.first : edit.b.end]
                wanted = np.arange(edit.a.first, edit.a.end)
                if not np.isnan(positions).any():
                    b_of_a[wanted] = np.interp(wanted, positions, np.arange(edit.b.first, edit.b.end))
        return Edited(self.new, self.old, order(tuple(_swap(edit) for edit in self.edits)), b_of_a)


def _swap(edit: Edit) -> Edit:
    kinds = {EditKind.INSERTED: EditKind.DELETED, EditKind.DELETED: EditKind.INSERTED}
    sides = {ChangeSide.A: ChangeSide.B, ChangeSide.B: ChangeSide.A, None: None}
    changes = tuple(replace(c, a=c.b, b=c.a, side=sides[c.side]) for c in edit.changes)
    rate = 1 / edit.rate if edit.rate else 0
    return replace(edit, kind=kinds.get(edit.kind, edit.kind), a=edit.b, b=edit.a, changes=changes, rate=rate)


def order(edits: tuple[Edit, ...]) -> tuple[Edit, ...]:
    """Return edits in the order of b, each one without a `b` after the edit that it follows in a."""
    script = sorted((e for e in edits if e.b), key=lambda e: e.b.first if e.b else 0)
    for edit in sorted((e for e in edits if e.b is None), key=lambda e: e.a.first if e.a else 0):
        ends = [e.a.end if e.a else -1 for e in script]
        first = edit.a.first if edit.a else 0
        script.insert(ends.index(first) + 1 if first in ends else 0, edit)
    return tuple(script)


@dataclass
class Cutting:
    """Reads the old cut and writes the new one.

    Attributes:
        old: Where the frames of the old cut come from.
    """

    old: Sequence[Source]
    at: int = 0
    _new: list[Source] = field(default_factory=list)
    _old_looks: list[Painted] = field(default_factory=list)
    _new_looks: list[Painted] = field(default_factory=list)
    _edits: list[Edit] = field(default_factory=list)
    _map: list[float] = field(default_factory=list)

    def _take(self, count: int) -> Frames:
        if count <= 0 or self.at + count > len(self.old):
            raise ValueError(f"cannot take {count} frames at {self.at} of {len(self.old)}")
        self.at += count
        return Frames(self.at - count, self.at)

    def _add(self, sources: Sequence[Source], positions: Sequence[float] | None) -> Frames:
        first = len(self._new)
        self._new.extend(sources)
        self._map.extend(positions if positions is not None else [np.nan] * len(sources))
        return Frames(first, len(self._new))

    def keep(self, count: int) -> None:
        """Leave frames as they are."""
        a = self._take(count)
        b = self._add(self.old[a.first : a.end], range(a.first, a.end))
        last = self._edits[-1] if self._edits else None
        if (
            last
            and last.kind is EditKind.MATCHED
            and last.a
            and last.b
            and (last.a.end, last.b.end) == (a.first, b.first)
        ):
            self._edits[-1] = replace(last, a=Frames(last.a.first, a.end), b=Frames(last.b.first, b.end))
        else:
            self._edits.append(Edit(EditKind.MATCHED, a, b))

    def keep_until(self, frame: int) -> None:
        """Leave the frames of the old cut up to a number as they are."""
        if frame > self.at:
            self.keep(frame - self.at)

    def keep_rest(self) -> None:
        """Leave everything else as it is."""
        self.keep_until(len(self.old))

    def delete(self, count: int) -> None:
        """Leave frames out."""
        self._edits.append(Edit(EditKind.DELETED, self._take(count), None, rate=0))

    def insert(self, sources: Sequence[Source], *, repeats: Frames | None = None) -> None:
        """Put other frames in."""
        self._edits.append(Edit(EditKind.INSERTED, None, self._add(sources, None), rate=0, repeats=repeats))

    def repeat(self, first: int, count: int) -> None:
        """Show frames of the old cut once more."""
        self.insert(self.old[first : first + count], repeats=Frames(first, first + count))

    def move_here(self, first: int, count: int) -> None:
        """Show frames of the old cut here instead of at their place, where `skip_moved` must leave them out."""
        b = self._add(self.old[first : first + count], range(first, first + count))
        self._edits.append(Edit(EditKind.MOVED, Frames(first, first + count), b))

    def skip_moved(self, count: int) -> None:
        """Leave out frames that `move_here` shows elsewhere."""
        self._take(count)

    def change(self, count: int, *, new: Sequence[Look] = (), old: Sequence[Look] = (), listed: bool = True) -> None:
        """Change the picture of frames, on either side.

        Args:
            count: Number of frames.
            new: Looks of the new cut.
            old: Looks of the old cut.
            listed: Whether it is an edit. If not, the frames count as matched.
        """
        a = self._take(count)
        b = self._add(self.old[a.first : a.end], range(a.first, a.end))
        self._old_looks.extend(Painted(a, look) for look in old)
        self._new_looks.extend(Painted(b, look) for look in new)
        both = {look.kind for look in new} & {look.kind for look in old}
        changes = []
        for look in new:
            side = None if look.kind in both else ChangeSide.B
            changes.append(Change(look.kind, a, b, 1.0, region=look.region, side=side))
        only_old = [look for look in old if look.kind not in both]
        changes.extend(Change(look.kind, a, b, 1.0, region=look.region, side=ChangeSide.A) for look in only_old)
        if listed:
            self._edits.append(Edit(EditKind.CHANGED, a, b, changes=tuple(changes)))
        else:
            self._edits.append(Edit(EditKind.MATCHED, a, b))

    def _changed(self, a: Frames, b: Frames, kind: ChangeKind, *, side: ChangeSide | None = None) -> None:
        rate = len(a) / len(b)
        self._edits.append(Edit(EditKind.CHANGED, a, b, rate, changes=(Change(kind, a, b, 1.0, side=side),)))

    def replace(self, count: int, sources: Sequence[Source]) -> None:
        """Put other frames in the place of frames."""
        a = self._take(count)
        self._changed(a, self._add(sources, None), ChangeKind.REPLACED)

    def paint_new(self, count: int, look: Look) -> None:
        """Apply a look to the last frames of the new cut, which are an edit already."""
        self._new_looks.append(Painted(Frames(len(self._new) - count, len(self._new)), look))

    def black(self, count: int) -> None:
        """Make frames black."""
        a = self._take(count)
        self._changed(a, self._add([BLACK] * count, None), ChangeKind.BLACK, side=ChangeSide.B)

    def freeze(self, count: int) -> None:
        """Hold the frame before some frames in place of them."""
        a = self._take(count)
        self._changed(a, self._add([self.old[a.first - 1]] * count, None), ChangeKind.FROZEN, side=ChangeSide.B)

    def retime(self, count: int, rate: float, ramp_to: float | None = None) -> None:
        """Play frames at another speed, or at one that changes evenly."""
        a = self._take(count)
        frames = round(count / ((rate + (ramp_to or rate)) / 2))
        time = np.arange(frames) / frames
        slope = ((ramp_to or rate) - rate) / 2
        positions = (rate * time + slope * time**2) / (rate + slope) * count
        shown = a.first + np.minimum(np.floor(positions + 1e-9).astype(int), count - 1)
        b = self._add([self.old[i] for i in shown], [float(p) for p in a.first + positions])
        if ramp_to is None:
            self._changed(a, b, ChangeKind.RETIMED)
            return
        # An edit has one rate, so a ramp is a chain of short edits.
        ends = [*range(0, frames - RAMP_STEP // 2, RAMP_STEP), frames]
        places = [*(round(float(positions[i])) for i in ends[:-1]), count]
        for i in range(len(ends) - 1):
            part_a = Frames(a.first + places[i], a.first + places[i + 1])
            part_b = Frames(b.first + ends[i], b.first + ends[i + 1])
            self._changed(part_a, part_b, ChangeKind.RETIMED)

    def dissolve(self, count: int, tail: Sequence[Source], head: Sequence[Source]) -> None:
        """Mix the frames around a cut of the old film: the first half of `count` stands before it, the rest after it.

        Args:
            count: Number of frames.
            tail: What the shot before the cut shows over all of them.
            head: What the shot after the cut shows over all of them.
        """
        a = self._take(count)
        b = self._add(_mixed(tail, head), range(a.first, a.end))
        self._changed(a, b, ChangeKind.DISSOLVE, side=ChangeSide.B)

    def dissolve_over_gap(self, half: int, gap: int) -> None:
        """Leave frames out, and dissolve over the jump: half of the dissolve stands on each side of it."""
        before = self._take(half)
        tail = [self.old[i] for i in range(before.first, before.first + 2 * half)]
        head_first = before.end + gap - half
        head = [self.old[i] for i in range(head_first, head_first + 2 * half)]
        mixed = _mixed(tail, head)
        b = self._add(mixed[:half], range(before.first, before.end))
        self._changed(before, b, ChangeKind.DISSOLVE, side=ChangeSide.B)
        self.delete(gap)
        after = self._take(half)
        b = self._add(mixed[half:], range(after.first, after.end))
        self._changed(after, b, ChangeKind.DISSOLVE, side=ChangeSide.B)

    def finish(self, *, sound: str | None = None) -> Edited:
        """Return both cuts. The old one must have been read to its end.

        Args:
            sound: Film whose sound the new cut has instead of that of the pictures.
        """
        if self.at != len(self.old):
            raise ValueError(f"the old cut was read to {self.at} of {len(self.old)}")
        old, new = Cut(tuple(self.old), tuple(self._old_looks)), Cut(tuple(self._new), tuple(self._new_looks), sound)
        return Edited(old, new, order(tuple(self._edits)), np.array(self._map))


def _mixed(tail: Sequence[Source], head: Sequence[Source]) -> list[Source]:
    """Return a dissolve from some frames to as many others; even its first and last frames are mixed."""
    shares = [(i + 1) / (len(tail) + 1) for i in range(len(tail))]
    return [replace(x, also=(y.film, y.frame, s)) for x, y, s in zip(tail, head, shares, strict=True)]


def frames_of(name: str, first: int = 0, end: int | None = None) -> list[Source]:
    """Return frames of a film."""
    return [Source(name, i) for i in range(first, len(film(name)) if end is None else end)]


def pictures(cut: Cut, shape: tuple[int, int]) -> Callable[[int], Picture]:
    """Return a function that makes the picture of a frame of a cut, with height and width as given."""
    looks: dict[int, list[Painted]] = {}
    for painted in cut.looks:
        for i in range(painted.frames.first, painted.frames.end):
            looks.setdefault(i, []).append(painted)

    def picture(number: int) -> Picture:
        source = cut.frames[number]
        found = _picture_of(source.film, source.frame, shape).copy()
        if source.style:
            found = restyled(found, source.style)
        if source.also:
            other, frame, share = source.also
            mixed = found + (_picture_of(other, frame, shape).astype(np.float32) - found) * share
            found = mixed.astype(np.uint8)
        for painted in looks.get(number, ()):
            painted.look.effect(found, number - painted.frames.first, len(painted.frames))
        return found

    return picture


def _picture_of(name: str, frame: int, shape: tuple[int, int]) -> Picture:
    if not name:
        black = np.full((shape[0] * 3 // 2, shape[1]), 16, np.uint8)
        dim(black, 0)
        return black
    return _fitted(film(name), frame, shape)


def _fitted(of: Film, frame: int, shape: tuple[int, int]) -> Picture:
    """Return a picture cut or enlarged to a shape of the same width."""
    picture: Picture = of.pictures[frame]
    height = len(picture) * 2 // 3
    if height == shape[0]:
        return picture
    rows = np.arange(shape[0])
    if height > shape[0]:
        rows += (height - shape[0]) // 4 * 2
        columns = np.arange(shape[1])
    else:
        rows = rows * height // shape[0]
        columns = shape[1] // 2 + ((np.arange(shape[1]) - shape[1] // 2) * height // shape[0])
    width = picture.shape[1]
    luma = picture[:height][rows][:, columns]
    chroma = [
        plane.reshape(height // 2, width // 2)[rows[::2] // 2][:, columns[::2] // 2].reshape(-1, shape[1])
        for plane in (picture[height : height * 5 // 4], picture[height * 5 // 4 :])
    ]
    return np.concatenate([luma, *chroma])
