"""Recipes: the structure of the film is edited."""

from accuracy.cutting import BLACK, frames_of
from accuracy.films import film
from accuracy.looks import fade
from accuracy.recipe import Bench, PairClass, Recipe


def insert_same(bench: Bench) -> Recipe:
    """A part of the same film that the old cut does not have is put in."""
    cutting = bench.cutting()
    for place in bench.places(cutting, 2, 20):
        cutting.keep_until(place)
        cutting.insert(bench.same(bench.count(20, 110)))
    cutting.keep_rest()
    return bench.recipe(cutting.finish())


def insert_other(bench: Bench) -> Recipe:
    """A part of another film is put in."""
    cutting = bench.cutting()
    for place in bench.places(cutting, 2, 20):
        cutting.keep_until(place)
        cutting.insert(bench.other(bench.count(20, 150)))
    cutting.keep_rest()
    return bench.recipe(cutting.finish())


def delete(bench: Bench) -> Recipe:
    """Two parts are left out."""
    cutting = bench.cutting()
    for place in bench.places(cutting, 2, 120):
        cutting.keep_until(place)
        cutting.delete(bench.count(15, 120))
    cutting.keep_rest()
    return bench.recipe(cutting.finish())


def trims(bench: Bench) -> Recipe:
    """Nine short trims, of 4 to 18 frames."""
    cutting = bench.cutting()
    for place in bench.places(cutting, 9, 18):
        cutting.keep_until(place)
        cutting.delete(bench.count(4, 18))
    cutting.keep_rest()
    return bench.recipe(cutting.finish())


def replace_same(bench: Bench) -> Recipe:
    """Shots are replaced by others of the same film."""
    cutting = bench.cutting(720)
    for place in bench.places(cutting, 2, 100):
        cutting.keep_until(place)
        count = bench.count(25, 100)
        cutting.replace(count, bench.same(count))
    cutting.keep_rest()
    return bench.recipe(cutting.finish())


def replace_other(bench: Bench) -> Recipe:
    """Shots are replaced by parts of another film."""
    cutting = bench.cutting()
    for place in bench.places(cutting, 2, 100):
        cutting.keep_until(place)
        count = bench.count(20, 100)
        cutting.replace(count, bench.other(count))
    cutting.keep_rest()
    return bench.recipe(cutting.finish())


def replace_take(bench: Bench) -> Recipe:
    """A shot is replaced by another take: the same set and camera, other movements."""
    takes = bench.drawn("takes")
    cutting = bench.cutting(500)
    half = len(film(takes)) // 2
    cutting.old = [*cutting.old[:250], *frames_of(takes, 0, half), *cutting.old[250:]]
    first = bench.off_grid(265, 300)
    cutting.keep_until(first)
    count = bench.count(60, 150)
    cutting.replace(count, frames_of(takes, half + first - 250, half + first - 250 + count))
    cutting.keep_rest()
    return bench.recipe(cutting.finish())


def move(bench: Bench) -> Recipe:
    """A part is shown elsewhere: later, or earlier."""
    cutting = bench.cutting()
    count = bench.count(36, 110)
    early = bench.off_grid(60, 240)
    late = bench.off_grid(early + count + 150, len(cutting.old) - count - 40)
    first, target = (early, late) if bench.count(0, 1) else (late, early)
    if first < target:
        cutting.keep_until(first)
        cutting.skip_moved(count)
        cutting.keep_until(target)
        cutting.move_here(first, count)
    else:
        cutting.keep_until(target)
        cutting.move_here(first, count)
        cutting.keep_until(first)
        cutting.skip_moved(count)
    cutting.keep_rest()
    return bench.recipe(cutting.finish())


def repeat(bench: Bench) -> Recipe:
    """A part is shown once more, some seconds later."""
    cutting = bench.cutting()
    first, count = bench.off_grid(60, 300), bench.count(30, 100)
    cutting.keep_until(first + count + bench.count(60, 200))
    cutting.repeat(first, count)
    cutting.keep_rest()
    return bench.recipe(cutting.finish())


def black(bench: Bench) -> Recipe:
    """A part is black, and black is put in."""
    cutting = bench.cutting()
    first, second = bench.places(cutting, 2, 60)
    cutting.keep_until(first)
    cutting.black(bench.count(10, 60))
    cutting.keep_until(second)
    cutting.insert([BLACK] * bench.count(10, 60))
    cutting.keep_rest()
    return bench.recipe(cutting.finish())


def freeze(bench: Bench) -> Recipe:
    """A picture is held while the old cut moves."""
    cutting = bench.cutting()
    for place in bench.places(cutting, 2, 60):
        cutting.keep_until(place)
        cutting.freeze(bench.count(16, 60))
    cutting.keep_rest()
    return bench.recipe(cutting.finish())


def hold(bench: Bench) -> Recipe:
    """The film stands still and then continues where it was."""
    cutting = bench.cutting()
    for place in bench.places(cutting, 2, 20):
        cutting.keep_until(place)
        cutting.insert([cutting.old[place - 1]] * bench.count(16, 60))
    cutting.keep_rest()
    return bench.recipe(cutting.finish())


def _retime(bench: Bench, rates: list[float], low: int, high: int) -> Recipe:
    cutting = bench.cutting()
    for place in bench.places(cutting, 2, high):
        cutting.keep_until(place)
        cutting.retime(bench.count(low, high), rates[bench.count(0, len(rates) - 1)])
    cutting.keep_rest()
    return bench.recipe(cutting.finish())


def retime(bench: Bench) -> Recipe:
    """A part runs at half to double speed."""
    return _retime(bench, [0.5, 0.667, 0.8, 1.25, 1.5, 2.0], 48, 160)


def retime_slightly(bench: Bench) -> Recipe:
    """A part runs 4% faster or slower."""
    return _retime(bench, [0.96, 1.0417], 150, 260)


def ramp(bench: Bench) -> Recipe:
    """A part changes its speed evenly."""
    cutting = bench.cutting()
    cutting.keep_until(bench.off_grid(100, 300))
    first, last = [(1.0, 2.0), (2.0, 1.0), (1.0, 0.5), (0.5, 1.5)][bench.count(0, 3)]
    cutting.retime(bench.count(90, 200), first, last)
    cutting.keep_rest()
    return bench.recipe(cutting.finish())


def fades(bench: Bench) -> Recipe:
    """Shots fade out and in where the old cut has a plain cut."""
    cutting = bench.cutting()
    for join in bench.joins(cutting)[::2][:3] or [200, 400]:
        if join - 20 <= cutting.at:
            continue
        length = bench.count(8, 20)
        cutting.keep_until(join - length)
        cutting.change(length, new=[fade(out=True)])
        cutting.change(length, new=[fade(out=False)])
    cutting.keep_rest()
    return bench.recipe(cutting.finish())


def dissolves(bench: Bench) -> Recipe:
    """Shots dissolve where the old cut has a plain cut."""
    cutting = bench.cutting(600)
    middle = len(cutting.old) // 2
    foreign = bench.other(300)
    cutting.old = [*cutting.old[:middle], *foreign[40:240], *cutting.old[middle + 60 :]]
    for join, tail, head in (
        (
            middle,
            [*cutting.old[middle - 40 : middle], *bench.after(cutting.old[middle - 1], 40)],
            foreign[:80],
        ),
        (
            middle + 200,
            foreign[200:280],
            [*bench.before(cutting.old[middle + 200], 40), *cutting.old[middle + 200 : middle + 240]],
        ),
    ):
        half = bench.count(5, 16)
        cutting.keep_until(join - half)
        cutting.dissolve(2 * half, tail[40 - half : 40 + half], head[40 - half : 40 + half])
    cutting.keep_rest()
    return bench.recipe(cutting.finish())


def _short(frames: int) -> PairClass:
    def make(bench: Bench) -> Recipe:
        """Cut out, put in, replace, and black out a few frames."""
        cutting = bench.cutting()
        first, second, third, fourth = bench.places(cutting, 4, frames)
        cutting.keep_until(first)
        cutting.delete(frames)
        cutting.keep_until(second)
        cutting.insert(bench.other(frames))
        cutting.keep_until(third)
        cutting.replace(frames, bench.other(frames))
        cutting.keep_until(fourth)
        cutting.black(frames)
        cutting.keep_rest()
        return bench.recipe(cutting.finish())

    return PairClass(f"short-{frames}", "structural" if frames > 5 else "short", make)


def flash(bench: Bench) -> Recipe:
    """Single frames of another film flash up in place of frames, or between them."""
    cutting = bench.cutting()
    for number, place in enumerate(bench.places(cutting, 5, 2)):
        cutting.keep_until(place)
        if number % 2:
            cutting.insert(bench.other(bench.count(1, 2)))
        else:
            count = bench.count(1, 2)
            cutting.replace(count, bench.other(count))
    cutting.keep_rest()
    return bench.recipe(cutting.finish())


CLASSES = (
    *(
        PairClass(name, "structural", make, 3)
        for name, make in (
            ("insert-same", insert_same),
            ("insert-other", insert_other),
            ("delete", delete),
            ("trims", trims),
            ("replace-same", replace_same),
            ("replace-other", replace_other),
            ("replace-take", replace_take),
            ("move", move),
            ("black", black),
            ("retime", retime),
            ("retime-slightly", retime_slightly),
            ("fades", fades),
            ("dissolves", dissolves),
        )
    ),
    PairClass("repeat", "structural", repeat, 3, generation=2),
    PairClass("ramp", "structural", ramp, 3, generation=2),
    PairClass("freeze", "freeze", freeze, 3, generation=2),
    PairClass("hold", "freeze", hold),
    _short(1),
    _short(2),
    _short(3),
    _short(5),
    _short(12),
    PairClass("flash", "short", flash),
)
