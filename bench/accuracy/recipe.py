"""What the recipes of all groups share: a random source of programmes, foreign shots and encodings."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from fractions import Fraction

import numpy as np
from sage_compare.aligned.script import ChangeKind, Region

from accuracy.cutting import Cutting, Edited, Source, frames_of
from accuracy.encoding import Encoding, random_encoding
from accuracy.films import SEEDS, SETS, film


@dataclass(frozen=True)
class Recipe:
    """How a pair is made.

    Attributes:
        edited: Both cuts and what was done.
        shape: Height and width of the pictures.
        old: How the old cut is encoded.
        new: How the new cut is encoded.
        scored: `structural` if changes of the picture are not scored.
        tolerated: Kinds of changes that are scored neither way.
    """

    edited: Edited
    shape: tuple[int, int]
    old: Encoding
    new: Encoding
    scored: str = "all"
    tolerated: frozenset[ChangeKind] = frozenset()

    def swapped(self) -> "Recipe":
        """Return the same with the two sides in each other's place."""
        return replace(self, edited=self.edited.swapped(), old=self.new, new=self.old)


@dataclass
class Bench:
    """What a recipe is made from.

    Attributes:
        random: The only source of chance.
        part: `tune` or `report`.
        number: Number of the pair within its class.
    """

    random: np.random.Generator
    part: str
    number: int
    shape: tuple[int, int] = (0, 0)
    rate: Fraction = Fraction(24)
    base: str = ""
    _first: int = field(default=0)
    _length: int = field(default=0)

    def programme(self, frames: int = 840, *, of: str | None = None) -> list[Source]:
        """Return the old cut: frames of one film in their order, from a random place on."""
        self.base = of or SETS[self.part][0]
        found = film(self.base)
        self.shape = (found.pictures.shape[1] * 2 // 3, found.pictures.shape[2])
        self.rate = found.rate
        frames = min(frames, len(found) - 60)
        self._first = int(self.random.integers(10, len(found) - frames - 40))
        return frames_of(self.base, self._first, self._first + frames)

    def drawn(self, kind: str) -> str:
        """Return the name of the drawn film of a kind for this part."""
        return f"{kind}:{SEEDS[self.part]}"

    def count(self, low: int, high: int) -> int:
        """Return a random number from `low` to `high`."""
        return int(self.random.integers(low, high + 1))

    def same(self, frames: int) -> list[Source]:
        """Return frames of the programme's film that the programme does not have, as far as there are enough."""
        total = len(film(self.base))
        end = self._first + self._length
        free = [(0, self._first), (end, total)]
        fitting = [(low, high) for low, high in free if high - low >= frames]
        if not fitting:
            return self.other(frames)
        low, high = fitting[self.count(0, len(fitting) - 1)]
        first = self.count(low, high - frames)
        return frames_of(self.base, first, first + frames)

    def other(self, frames: int) -> list[Source]:
        """Return frames of another film."""
        name = [*(n for n in SETS[self.part] if n != self.base), self.drawn("takes"), self.drawn("watch")]
        found = name[self.count(0, len(name) - 1)]
        first = self.count(0, len(film(found)) - frames - 1)
        return frames_of(found, first, first + frames)

    def cutting(self, frames: int = 840, *, of: str | None = None) -> Cutting:
        """Return a new cutting of a programme."""
        programme = self.programme(frames, of=of)
        self._length = len(programme)
        return Cutting(programme)

    def after(self, source: Source, frames: int) -> list[Source]:
        """Return what the film shows after a frame."""
        return [Source(source.film, min(source.frame + 1 + i, len(film(source.film)) - 1)) for i in range(frames)]

    def before(self, source: Source, frames: int) -> list[Source]:
        """Return what the film shows before a frame."""
        return [Source(source.film, max(0, source.frame - frames + i)) for i in range(frames)]

    def joins(self, cutting: Cutting) -> list[int]:
        """Return where the shots of the old cut begin."""
        return [c - self._first for c in film(self.base).cuts() if 30 < c - self._first < len(cutting.old) - 30]

    def off_grid(self, low: int, high: int) -> int:
        """Return a random frame that is at least 5 frames from every multiple of two seconds."""
        two_seconds = round(2 * self.rate)
        near = range(5, two_seconds - 5)
        places = [i for i in range(low, high) if i % two_seconds in near] or list(range(low, high))
        return places[self.count(0, len(places) - 1)]

    def places(self, cutting: Cutting, number: int, length: int) -> list[int]:
        """Return where `number` edits of at most `length` frames begin, apart from each other, off the grid."""
        slot = (len(cutting.old) - 30) // number
        if slot < length + 16:
            raise ValueError(f"{number} edits of {length} frames do not fit into {len(cutting.old)} frames")
        return [self.off_grid(15 + i * slot, 15 + (i + 1) * slot - length - 12) for i in range(number)]

    def recipe(self, edited: Edited, **options: object) -> Recipe:
        """Return a recipe with random encodings."""
        encodings = {side: random_encoding(self.random, rate=self.rate) for side in ("old", "new")}
        return Recipe(edited, self.shape, **{**encodings, **options})  # type: ignore[arg-type] # as the caller states

    def box(self, *, width: tuple[float, float] = (0.12, 0.25), height: tuple[float, float] = (0.18, 0.35)) -> Region:
        """Return a random rectangle."""
        w, h = self.random.uniform(*width), self.random.uniform(*height)
        return Region(float(self.random.uniform(0.05, 0.95 - w)), float(self.random.uniform(0.05, 0.95 - h)), w, h)


Maker = Callable[[Bench], Recipe]


@dataclass(frozen=True)
class PairClass:
    """Pairs of one kind.

    Attributes:
        name: What it is called.
        group: Classes of a group share a bar.
        make: Makes one.
        count: How many there are in each part.
        swap: Whether half of them are turned around.
        by_name: Whether it is made only if it is asked for by name, because that takes half an hour.
        generation: Raised when the recipe changes, so that its pairs are made again.
    """

    name: str
    group: str
    make: Maker
    count: int = 2
    swap: bool = True
    by_name: bool = False
    generation: int = 1
