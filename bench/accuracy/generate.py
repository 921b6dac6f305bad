"""Makes the pairs: `python -m accuracy.generate FOLDER [--part tune] [--only CLASS ...]`.

Every pair depends on its class, its number and its part alone, so it is made once and kept. Raise the `generation` of a
class when its recipe changes.
"""

import argparse
import multiprocessing
import shutil
import time
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from accuracy import human, local, silent, structural, traps
from accuracy.encoding import encode
from accuracy.films import SETS
from accuracy.recipe import Bench, PairClass
from accuracy.truth import Timeline, Truth, truth_of, write

CLASSES: tuple[PairClass, ...] = (
    *structural.CLASSES, *local.CLASSES, *silent.CLASSES, *traps.CLASSES, *human.CLASSES,
)  # fmt: skip


def make(folder: Path, part: str, of: PairClass, number: int) -> Path:
    """Make a pair, or leave it as it is if it exists. Returns its folder."""
    name = f"{of.name}-{number + 1}"
    target = folder / name
    stamp = _stamp(target, of)
    if stamp.exists():
        return target
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    seed = zlib.crc32(f"{part}/{name}".encode())
    bench = Bench(np.random.default_rng(seed), part, number)
    recipe = of.make(bench)
    if of.swap and number % 2:
        recipe = recipe.swapped()
    old = encode(recipe.edited.old, recipe.shape, recipe.old, target / "old")
    new = encode(recipe.edited.new, recipe.shape, recipe.new, target / "new")
    edits, times = truth_of(name, recipe.edited, old, new)
    a, b = (Timeline(file.path, file.seconds, file.duration) for file in (old, new))
    truth = Truth(name, of.name, of.group, a, b, edits, times, recipe.scored, recipe.tolerated)
    rates = [encoding.file_rate or encoding.rate for encoding in (recipe.old, recipe.new)]
    even = [encoding.times is None for encoding in (recipe.old, recipe.new)]
    write(truth, (rates[0], rates[1]), (even[0], even[1]))
    stamp.touch()
    return target


def _stamp(target: Path, of: PairClass) -> Path:
    """Return the file that says that a pair is complete."""
    return target / f"generation-{of.generation}"


def _make(job: tuple[Path, str, str, int]) -> str:
    folder, part, name, number = job
    started = time.perf_counter()
    of = next(c for c in CLASSES if c.name == name)
    target = make(folder, part, of, number)
    return f"{part}/{target.name}: {time.perf_counter() - started:.1f} s"


def generate(folder: Path, part: str, *, only: Sequence[str] = (), processes: int = 2) -> list[Path]:
    """Make all pairs of a part that do not exist yet. Returns their folders."""
    chosen = [c for c in CLASSES if c.name in only or (not c.by_name and (not only or c.group in only))]
    jobs = [(folder, part, c.name, n) for n in range(max(c.count for c in chosen)) for c in chosen if n < c.count]
    generations = {c.name: c for c in chosen}
    missing = [j for j in jobs if not _stamp(folder / f"{j[2]}-{j[3] + 1}", generations[j[2]]).exists()]
    if missing:
        with multiprocessing.get_context("spawn").Pool(min(processes, len(missing))) as pool:
            for line in pool.imap_unordered(_make, missing):
                print(line, flush=True)
    return [folder / f"{name}-{number + 1}" for _, _, name, number in jobs]


def main() -> None:
    """Make the pairs that the command line asks for."""
    parser = argparse.ArgumentParser(description="Makes pairs of films with known edits.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--part", choices=sorted(SETS), default="tune")
    parser.add_argument("--only", nargs="*", default=[], help="classes or groups")
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    generate(options.folder, options.part, only=options.only, processes=options.processes)


if __name__ == "__main__":
    main()
