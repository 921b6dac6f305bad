"""`make bench-align`: aligns two cuts of a film with their fingerprints in memory, from 10 minutes to 8 hours.

The films are shots of a real film, shuffled, mirrored and shifted so that no two are alike, with noise in the new cut
and one edit a minute: something inserted, deleted, replaced or moved. Times are the best of a few turns: other work on
the machine can only make a turn slower. Memory is what the process gains above the fingerprints, in a process for each
length.

    python bench/align.py [--longest-minutes MINUTES]
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
from harness import Result, report
from sage_compare.aligned.align import align
from sage_compare.aligned.inputs import Film, Options
from sage_compare.aligned.script import EditKind
from sage_compare.aligned.warm import warm_up
from sage_fingerprint.film import fingerprint_file
from sage_fingerprint.model import Fingerprint

RATE = 24
MINUTES = (10, 20, 30, 60, 120, 240, 480)
SAMPLE = Path(__file__).parents[1] / "samples" / "old.mp4"
TURNS = 3


def long_film(source: Fingerprint, frames: int) -> Fingerprint:
    """Return shots of a film, each altered, until there are enough frames."""
    random = np.random.default_rng(11)
    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    count = 0
    while count < frames:
        length = int(random.integers(36, 200))
        first = int(random.integers(0, len(source) - length))
        down, across = int(random.integers(0, 18)), int(random.integers(0, 32))
        shot = slice(first, first + length)
        luma = np.roll(source.luma[shot], (down, across), (1, 2))
        texture = np.roll(source.texture[shot], (down, across), (1, 2))
        parts.append((luma, texture, source.chroma[shot]))
        count += length
    luma, texture, chroma = (np.concatenate([part[k] for part in parts])[:frames] for k in range(3))
    return Fingerprint(luma, texture, chroma, np.arange(frames) / RATE, frames / RATE)


def new_cut(film: Fingerprint) -> tuple[Fingerprint, int]:
    """Return the film with one edit a minute, and the number of edits."""
    random = np.random.default_rng(12)
    numbers: list[np.ndarray] = []
    minute = RATE * 60
    for k, first in enumerate(range(0, len(film), minute)):
        block = np.arange(first, min(first + minute, len(film)))
        at = len(block) // 3
        kind = k % 4
        if kind == 0:
            block = np.concatenate([block[:at], block[at + 60 :]])
        elif kind == 1:
            block = np.concatenate([block[:at], (block[:80] + 7 * minute) % len(film), block[at:]])
        elif kind == 2:
            block = np.concatenate([block[:at], (block[:70] + 5 * minute) % len(film), block[at + 70 :]])
        else:
            block = np.concatenate([block[:100], block[200:500], block[100:200], block[500:]])
        numbers.append(block)
    order = np.concatenate(numbers)
    noise = random.integers(-1, 2, (512, 18, 32), np.int8)
    luma = film.luma[order]
    for first in range(0, len(luma), 512):
        block = luma[first : first + 512]
        luma[first : first + 512] = np.clip(block.astype(np.int16) + noise[: len(block)], 0, 255)
    seconds = np.arange(len(order)) / RATE
    cut = Fingerprint(luma, film.texture[order], film.chroma[order], seconds, len(order) / RATE)
    return cut, len(numbers)


def measure(minutes: int) -> dict[str, float]:
    """Return the seconds, the CPU seconds, the megabytes and the edits found for a film."""
    warm_up()
    film = long_film(fingerprint_file(SAMPLE), minutes * 60 * RATE)
    cut, edits = new_cut(film)
    old, new = Film(film, Fraction(RATE)), Film(cut, Fraction(RATE))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    best = best_cpu = float("inf")
    for _ in range(TURNS if minutes <= 120 else 1):
        start, start_cpu = time.perf_counter(), time.process_time()
        script = align(old, new, Options())
        best = min(best, time.perf_counter() - start)
        best_cpu = min(best_cpu, time.process_time() - start_cpu)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = sum(edit.kind is not EditKind.MATCHED for edit in script.edits)
    return {"s": best, "cpu_s": best_cpu, "mb": (after - before) / 1024, "found": found, "edits": edits}


def main() -> None:
    """Measure each length in a separate process and print the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--longest-minutes", type=int, default=MINUTES[-1])
    parser.add_argument("--measure", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments.measure)))
        return
    results: list[Result] = []
    seconds: dict[int, float] = {}
    for minutes in MINUTES:
        if minutes > arguments.longest_minutes:
            break
        command = [sys.executable, __file__, "--measure", str(minutes)]
        line = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1]
        found = json.loads(line)
        seconds[minutes] = found["cpu_s"]
        two_hours = minutes == 120
        results += [
            Result(f"align_{minutes}_min", found["s"], "s", bar=2.0 if two_hours else None, better="lower"),
            Result(f"align_{minutes}_min_cpu", found["cpu_s"], "s", bar=3.0 if two_hours else None, better="lower"),
            Result(f"align_{minutes}_min_memory", found["mb"], "MB", bar=250.0 if two_hours else None, better="lower"),
            Result(f"align_{minutes}_min_edits", found["found"] / found["edits"], "ratio"),
        ]
        if minutes // 2 in seconds:
            doubling = seconds[minutes] / seconds[minutes // 2]
            results.append(Result(f"doubling_to_{minutes}_min", doubling, "ratio", bar=2.3, better="lower"))
    report("align", results)


if __name__ == "__main__":
    main()
