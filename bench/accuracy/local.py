"""Recipes: a part of the picture is changed, or all of it, and the structure stays."""

from collections.abc import Callable, Sequence

from sage_compare.aligned.script import Region

from accuracy import looks
from accuracy.cutting import Source
from accuracy.looks import Look
from accuracy.recipe import Bench, PairClass, Recipe

LINES = {
    "english": ("I TOLD YOU NOT TO COME", "WHERE HAVE YOU BEEN", "THE DOOR WAS OPEN", "WE LEAVE AT DAWN"),
    "german": ("ICH SAGTE, DU SOLLST GEHEN", "WO WARST DU NUR", "DIE TUER STAND OFFEN", "BEI TAGESANBRUCH GEHT ES LOS"),
}


def _looks(
    make: Callable[[Bench], tuple[Sequence[Look], Sequence[Look]]], *, low: int = 36, high: int = 150, edits: int = 2
) -> Callable[[Bench], Recipe]:
    """Return a recipe that changes the picture of some stretches.

    Args:
        make: Returns what is done to the new cut and to the old one.
        low: Shortest stretch in frames.
        high: Longest stretch.
        edits: Number of stretches.
    """

    def recipe(bench: Bench) -> Recipe:
        cutting = bench.cutting(720)
        for place in bench.places(cutting, edits, high):
            cutting.keep_until(place)
            new, old = make(bench)
            cutting.change(bench.count(low, high), new=new, old=old)
        cutting.keep_rest()
        return bench.recipe(cutting.finish())

    return recipe


def _line(bench: Bench, language: str = "english") -> str:
    return LINES[language][bench.count(0, 3)]


def logo(bench: Bench) -> tuple[Sequence[Look], Sequence[Look]]:
    """A station's logo in a corner."""
    alpha = float(bench.random.uniform(0.6, 0.95))
    return [looks.logo(bench.shape, bench.count(0, 3), size=float(bench.random.uniform(0.1, 0.16)), alpha=alpha)], []


def subtitle(bench: Bench) -> tuple[Sequence[Look], Sequence[Look]]:
    """A subtitle that one side has."""
    return [looks.text(bench.shape, _line(bench))], []


def language(bench: Bench) -> tuple[Sequence[Look], Sequence[Look]]:
    """A subtitle in another language."""
    number = bench.count(0, 3)
    return [looks.text(bench.shape, LINES["german"][number])], [looks.text(bench.shape, LINES["english"][number])]


def title(bench: Bench) -> tuple[Sequence[Look], Sequence[Look]]:
    """A title over the picture."""
    return [
        looks.text(bench.shape, ("THE RABBIT", "PART TWO", "TEN YEARS LATER")[bench.count(0, 2)], size=0.1, top=0.42)
    ], []


def blur(bench: Bench) -> tuple[Sequence[Look], Sequence[Look]]:
    """A blurred rectangle."""
    return [looks.blur(bench.shape, bench.box(width=(0.18, 0.32), height=(0.25, 0.42)), radius=bench.count(6, 10))], []


def erase(bench: Bench) -> tuple[Sequence[Look], Sequence[Look]]:
    """An object that is painted out."""
    return [looks.erase(bench.shape, bench.box())], []


def crop(bench: Bench) -> tuple[Sequence[Look], Sequence[Look]]:
    """A part of the picture, enlarged."""
    size = float(bench.random.uniform(0.75, 0.92))
    x, y = (float(v) for v in bench.random.uniform(0, 1 - size, 2))
    return [looks.crop(Region(x, y, size, size))], []


def zoom(bench: Bench) -> tuple[Sequence[Look], Sequence[Look]]:
    """A slow zoom into the picture."""
    size = float(bench.random.uniform(0.7, 0.85))
    return [looks.crop(Region(0.02, 0.02, 0.96, 0.96), Region((1 - size) / 2, (1 - size) / 2, size, size))], []


def pan(bench: Bench) -> tuple[Sequence[Look], Sequence[Look]]:
    """Pan and scan: a window that moves over the picture."""
    size = 0.75
    return [looks.crop(Region(0, 0.1, size, size), Region(1 - size, 0.1, size, size))], []


def mirror(_bench: Bench) -> tuple[Sequence[Look], Sequence[Look]]:
    """Mirrored left to right."""
    return [looks.mirror()], []


def negative(_bench: Bench) -> tuple[Sequence[Look], Sequence[Look]]:
    """Bright and dark swapped."""
    return [looks.negative()], []


def grade(bench: Bench) -> tuple[Sequence[Look], Sequence[Look]]:
    """Another grade."""
    gain, offset, blue, red = [(0.75, 0, 8, -6), (1.2, 4, -8, 8), (0.9, -8, 12, -10), (1.0, 18, 0, 0)][
        bench.count(0, 3)
    ]
    return [looks.grade(gain, offset, blue, red)], []


def card_language(bench: Bench) -> Recipe:
    """A title card that both have, in another language."""
    cutting = bench.cutting(600)
    place, count = bench.off_grid(150, 400), bench.count(48, 90)
    cutting.old = [*cutting.old[:place], *[Source()] * count, *cutting.old[place:]]
    cutting.keep_until(place)
    pairs = [("MEANWHILE", "INZWISCHEN"), ("THE END OF SUMMER", "DAS ENDE DES SOMMERS"), ("LONDON", "NEW YORK")]
    english, german = pairs[bench.count(0, 2)]
    cutting.change(count, new=[looks.card(german)], old=[looks.card(english)])
    cutting.keep_rest()
    return bench.recipe(cutting.finish())


def card_over(bench: Bench) -> Recipe:
    """A title card takes the place of the picture."""
    cutting = bench.cutting(720)
    for place in bench.places(cutting, 2, 90):
        cutting.keep_until(place)
        count = bench.count(36, 90)
        first = cutting.at
        cutting.replace(count, [Source()] * count)
        cutting.paint_new(count, looks.card(("MEANWHILE", "LATER", "THE NEXT DAY")[first % 3]))
    cutting.keep_rest()
    return bench.recipe(cutting.finish())


def clock(bench: Bench) -> Recipe:
    """A timecode that is burnt in on one side, over all of the film."""
    cutting = bench.cutting(600)
    cutting.change(len(cutting.old), new=[looks.clock(bench.shape, 86_400 + bench.count(0, 9_999))])
    return bench.recipe(cutting.finish())


def two_at_once(bench: Bench) -> Recipe:
    """A logo over a long stretch, and a subtitle within it."""
    cutting = bench.cutting(720)
    mark = looks.logo(bench.shape, 1)
    cutting.keep_until(bench.off_grid(80, 160))
    cutting.change(bench.count(60, 100), new=[mark])
    cutting.change(bench.count(50, 90), new=[mark, looks.text(bench.shape, _line(bench))])
    cutting.change(bench.count(60, 120), new=[mark])
    cutting.keep_rest()
    return bench.recipe(cutting.finish())


CLASSES = (
    *(
        PairClass(make.__name__.replace("_", "-"), "local", _looks(make), 3)
        for make in (logo, subtitle, language, title, blur, erase, crop, zoom, pan, mirror, negative, grade)
    ),
    *(
        PairClass(recipe.__name__.replace("_", "-"), "local", recipe)
        for recipe in (card_language, card_over, clock, two_at_once)
    ),
)
