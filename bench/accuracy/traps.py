"""Recipes: pictures that match where they should not, or hardly match where they should."""

from collections.abc import Callable
from dataclasses import replace

from sage_compare.aligned.script import Frames

from accuracy import looks
from accuracy.cutting import BLACK, Cutting, Painted, frames_of
from accuracy.recipe import Bench, PairClass, Recipe


def _edited(bench: Bench, cutting: Cutting, places: list[int]) -> Recipe:
    """Leave something out, put something in, and replace something."""
    cutting.keep_until(places[0])
    cutting.delete(bench.count(14, 60))
    cutting.keep_until(places[1])
    cutting.insert(bench.other(bench.count(14, 60)))
    if len(places) > 2:
        cutting.keep_until(places[2])
        count = bench.count(14, 60)
        cutting.replace(count, bench.other(count))
    cutting.keep_rest()
    return bench.recipe(cutting.finish())


def _of_drawn(kind: str, frames: int) -> Callable[[Bench], Recipe]:
    def recipe(bench: Bench) -> Recipe:
        cutting = bench.cutting(frames, of=bench.drawn(kind))
        return _edited(bench, cutting, bench.places(cutting, 3, 70))

    return recipe


def static_camera(bench: Bench) -> Recipe:
    """A camera that does not move. The edits lie where something passes."""
    name = bench.drawn("watch")
    bench.programme(100, of=name)
    cutting = Cutting(frames_of(name, 0, 470))
    # From frame 320 on the passer-by is out of the picture, and he was in it until 146.
    return _edited(bench, cutting, [bench.off_grid(20, 70), bench.off_grid(90, 130)])


def shown_thrice(bench: Bench) -> Recipe:
    """A shot that the film shows three times, as titles and cutaways do; a part around one of them is left out."""
    cutting = bench.cutting(720)
    shot = bench.other(60)
    old = cutting.old
    cutting.old = [*old[:200], *shot, *old[200:420], *shot, *old[420:600], *shot, *old[600:]]
    cutting.keep_until(bench.off_grid(440, 470))
    cutting.delete(bench.count(60, 110))
    cutting.keep_until(bench.off_grid(640, 670))
    cutting.insert(bench.other(bench.count(20, 60)))
    cutting.keep_rest()
    return bench.recipe(cutting.finish())


def long_black(bench: Bench) -> Recipe:
    """Ten seconds of black in both, between edits."""
    cutting = bench.cutting(600)
    middle = len(cutting.old) // 2
    cutting.old = [*cutting.old[:middle], *[BLACK] * 240, *cutting.old[middle:]]
    return _edited(bench, cutting, [bench.off_grid(60, 180), bench.off_grid(middle + 280, middle + 400)])


def dark(bench: Bench) -> Recipe:
    """A film at a fifth of its brightness."""
    cutting = bench.cutting(600)
    made = _edited(bench, cutting, bench.places(cutting, 3, 70))
    gloom = looks.grade(0.2, 0)

    def dimmed(frames: int) -> tuple[Painted, ...]:
        return (Painted(Frames(0, frames), replace(gloom, effect=lambda p, _n, _c: looks.dim(p, 0.2))),)

    old, new = made.edited.old, made.edited.new
    edited = replace(
        made.edited,
        old=replace(old, looks=dimmed(len(old.frames))),
        new=replace(new, looks=dimmed(len(new.frames))),
    )
    return replace(made, edited=edited)


def still(bench: Bench) -> Recipe:
    """A photograph, held for ten seconds in both, with edits in the film around it."""
    cutting = bench.cutting(600)
    middle = len(cutting.old) // 2
    cutting.old = [*cutting.old[:middle], *[cutting.old[middle]] * 240, *cutting.old[middle:]]
    return _edited(bench, cutting, [bench.off_grid(60, 180), bench.off_grid(middle + 280, middle + 400)])


def unedited(bench: Bench) -> Recipe:
    """Nothing is edited in a film of a kind that is hard to align."""
    kind = ("credits", "watch", "twos", "strobe")[bench.number % 4]
    cutting = bench.cutting(480, of=bench.drawn(kind))
    cutting.keep_rest()
    return bench.recipe(cutting.finish())


def cars(bench: Bench) -> Recipe:
    """A real camera that does not move, over a road; drawn for the films to tune on."""
    if bench.part == "tune":
        return static_camera(bench)
    cutting = bench.cutting(340, of="cars")
    cutting.keep_until(bench.off_grid(60, 100))
    cutting.delete(bench.count(14, 40))
    cutting.keep_until(bench.off_grid(180, 240))
    cutting.insert(bench.other(bench.count(14, 40)))
    cutting.keep_rest()
    return bench.recipe(cutting.finish())


CLASSES = (
    PairClass("credits", "traps", _of_drawn("credits", 600)),
    PairClass("twos", "traps", _of_drawn("twos", 420)),
    PairClass("strobe", "traps", _of_drawn("strobe", 420)),
    PairClass("static-camera", "traps", static_camera),
    PairClass("road", "traps", cars),
    PairClass("shown-thrice", "traps", shown_thrice),
    PairClass("long-black", "traps", long_black),
    PairClass("still", "traps", still),
    PairClass("dark", "traps", dark),
    PairClass("hard-unedited", "traps", unedited, 4, swap=False),
)
