"""Recipes: what people make of a film: trailers, recaps, editorial copies, and long films with many edits."""

from dataclasses import replace

import numpy as np
from sage_compare.aligned.script import Frames

from accuracy import looks
from accuracy.cutting import Cut, Cutting, Painted, Source
from accuracy.films import SETS, film
from accuracy.recipe import Bench, PairClass, Recipe

TITLES = ("THIS SUMMER", "FROM THE MAKERS", "A NEW HERO", "COMING SOON")


def _card(cutting: Cutting, frames: int, look: looks.Look) -> None:
    """Put a card in."""
    cutting.insert([Source()] * frames)
    cutting.paint_new(frames, look)


def trailer(bench: Bench) -> Recipe:
    """A trailer: short picks in the order of the film, with fades beside the jumps, cards, titles and other music."""
    cutting = bench.cutting(1_150)
    picks = 7
    slot = len(cutting.old) // picks
    for number in range(picks):
        start = bench.off_grid(number * slot + 8, number * slot + slot - 110)
        if start > cutting.at:
            cutting.delete(start - cutting.at)
        fading, dips = bench.count(6, 12), bench.random.random() < 0.6
        if dips:
            cutting.change(fading, new=[looks.fade(out=False)])
        cutting.keep(bench.count(10, 30))
        if bench.random.random() < 0.4:
            cutting.change(bench.count(20, 36), new=[looks.text(bench.shape, TITLES[number % 4], size=0.1, top=0.42)])
        cutting.keep(bench.count(8, 14))
        if dips:
            cutting.change(fading, new=[looks.fade(out=True)])
        if bench.random.random() < 0.3:
            _card(cutting, bench.count(24, 40), looks.card(TITLES[(number + 1) % 4]))
    if cutting.at < len(cutting.old):
        cutting.delete(len(cutting.old) - cutting.at)
    return bench.recipe(cutting.finish(sound=bench.drawn("twos")))


def recap(bench: Bench) -> Recipe:
    """A shorter cut: parts are left out, and each jump is a dissolve."""
    cutting = bench.cutting(1_100)
    for place in bench.places(cutting, 4, 150):
        half = bench.count(4, 10)
        cutting.keep_until(place)
        cutting.dissolve_over_gap(half, bench.count(50, 120))
    cutting.keep_rest()
    return bench.recipe(cutting.finish())


def dips(bench: Bench) -> Recipe:
    """A broadcast cut: parts are left out, with a fade to black before each jump and one from black after it."""
    cutting = bench.cutting(1_000)
    for place in bench.places(cutting, 3, 170):
        fading = bench.count(6, 14)
        cutting.keep_until(place)
        cutting.change(fading, new=[looks.fade(out=True)])
        cutting.delete(bench.count(40, 120))
        cutting.change(fading, new=[looks.fade(out=False)])
    cutting.keep_rest()
    return bench.recipe(cutting.finish())


def teaser(bench: Bench) -> Recipe:
    """Picks out of order, hard cuts, and other music."""
    cutting = bench.cutting(1_000)
    first, count = bench.off_grid(640, 720), bench.count(40, 90)
    cutting.move_here(first, count)
    cutting.delete(bench.count(60, 120))
    cutting.keep(bench.count(90, 160))
    cutting.delete(bench.count(40, 90))
    cutting.keep(bench.count(90, 160))
    cutting.delete(first - cutting.at)
    cutting.skip_moved(count)
    cutting.keep(bench.count(60, 90))
    cutting.delete(len(cutting.old) - cutting.at)
    return bench.recipe(cutting.finish(sound=bench.drawn("strobe")))


def _stamped(cut: Cut, bench: Bench, words: str, top: float, first: int) -> Cut:
    """Burn a timecode and a watermark into a whole cut."""
    whole = Frames(0, len(cut.frames))
    marks = [looks.clock(bench.shape, first, top=top), looks.text(bench.shape, words, size=0.05, top=0.5)]
    return replace(cut, looks=(*cut.looks, *(Painted(whole, mark) for mark in marks)))


def editorial(bench: Bench) -> Recipe:
    """An editor's copy: a slate and a countdown before it, and a timecode and a watermark that differ everywhere."""
    cutting = bench.cutting(840)
    _card(cutting, 48, looks.card("REEL 1 TAKE 3"))
    for digit in ("3", "2", "1"):
        _card(cutting, 24, looks.card(digit))
    for number, place in enumerate(bench.places(cutting, 3, 80)):
        cutting.keep_until(place)
        if (number + bench.number) % 3 == 0:
            cutting.delete(bench.count(20, 80))
        elif (number + bench.number) % 3 == 1:
            cutting.insert(bench.other(bench.count(20, 80)))
        else:
            count = bench.count(20, 80)
            cutting.replace(count, bench.other(count))
    cutting.keep_rest()
    edited = cutting.finish()
    edited = replace(
        edited,
        old=_stamped(edited.old, bench, "PROPERTY OF A", 0.03, 86_400),
        new=_stamped(edited.new, bench, "SCREENER 0042", 0.9, 172_800 + bench.count(1, 9_999)),
    )
    return bench.recipe(edited, scored="structural")


def _reel(bench: Bench, frames: int) -> list[Source]:
    """Return a long film: shots of all films of the part, in any order, each made a different one by its style."""
    names = [*SETS[bench.part], bench.drawn("takes"), bench.drawn("twos")]
    sources: list[Source] = []
    while len(sources) < frames:
        name = names[bench.count(0, len(names) - 1)]
        length = bench.count(40, 170)
        first = bench.count(0, len(film(name)) - length - 1)
        style = int(bench.random.integers(1, 2**31))
        shown = range(first, first + length)
        sources.extend(Source(name, i, style=style) for i in (reversed(shown) if style % 2 else shown))
    return sources[:frames]


def _combined(minutes: float, edits: int) -> PairClass:
    def make(bench: Bench) -> Recipe:
        """Many edits of every kind in a long film."""
        bench.programme(400)
        frames = round(minutes * 60 * 24)
        cutting = Cutting(_reel(bench, frames))
        kinds = np.resize(np.arange(11), edits)
        bench.random.shuffle(kinds)
        for kind, place in zip(kinds, bench.places(cutting, edits, 160), strict=True):
            cutting.keep_until(place)
            _edit(bench, cutting, int(kind))
        cutting.keep_rest()
        made = bench.recipe(cutting.finish())
        return replace(made, old=replace(made.old, width=320), new=replace(made.new, width=400))

    return PairClass(f"combined-{minutes:g}-min", "combined", make, 1, by_name=minutes > 20)


def _edit(bench: Bench, cutting: Cutting, kind: int) -> None:
    """Make one edit of one of eleven kinds."""
    count = bench.count(12, 150)
    match kind:
        case 0:
            cutting.insert(_reel(bench, count))
        case 1 | 2:
            cutting.delete(count)
        case 3:
            cutting.replace(count, _reel(bench, count))
        case 4:
            cutting.black(count)
        case 5:
            cutting.repeat(bench.count(0, max(0, cutting.at - 300)), count)
        case 6:
            cutting.retime(max(count, 60), (0.8, 1.25, 1.5)[bench.count(0, 2)])
        case 7:
            cutting.change(max(count, 36), new=[looks.logo(bench.shape, bench.count(0, 3))])
        case 8:
            cutting.change(max(count, 36), new=[looks.text(bench.shape, "WHERE HAVE YOU BEEN")])
        case 9:
            cutting.change(max(count, 36), new=[looks.grade(1.2, 4, -8, 8)])
        case _:
            cutting.change(max(count, 36), new=[looks.blur(bench.shape, bench.box(), radius=8)])


CLASSES = (
    PairClass("trailer", "human", trailer, 3, swap=False),
    PairClass("recap", "human", recap),
    PairClass("dips", "human", dips),
    PairClass("teaser", "human", teaser, swap=False),
    PairClass("editorial", "editorial", editorial, 3, swap=False),
    _combined(2, 6),
    _combined(4, 10),
    _combined(10, 24),
    _combined(20, 40),
    _combined(120, 40),
)
