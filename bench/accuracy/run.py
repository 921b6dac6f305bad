"""`make bench-accuracy`: how well `sage diff` finds what was done to a film, compared with two peers.

Makes the pairs to report on if they do not exist yet, compares each through the whole stack with `sage diff --json`,
and scores the edit scripts. The peers run on the same pairs: comparison at equal times with the threshold that is best
for them in hindsight, and ffmpeg's `signature` filter. The films come from SAGE_FILMS, by default the folder
`../shared/videos` beside the project. With `--predict MODULE:FUNCTION`, that function compares, without the stack.

    python -m accuracy.run [--part tune] [--only CLASS ...] [--predict MODULE:FUNCTION] [--pairs FOLDER]
"""

import argparse
import importlib
import json
import math
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from harness import Result, report
from rich.console import Console
from sage_compare.aligned.script import Edit
from sage_local.stack import running_stack

from accuracy import peers
from accuracy.films import SETS
from accuracy.generate import generate
from accuracy.pool import Pooled, Scored, groups, pool, table
from accuracy.score import Predictor, print_tables, run
from accuracy.truth import Truth, edits_from_api, read

PAIRS = Path(__file__).parents[2] / ".bench" / "pairs"
console = Console(width=140)


def through_the_stack(truths: Sequence[Truth], address: str) -> list[Scored]:
    """Return the scores of `sage diff --json`."""
    by_path = {truth.old.path: truth for truth in truths}

    def predict(old: Path, new: Path) -> tuple[Edit, ...]:
        command = [sys.executable, "-m", "sage_cli", "diff", "--json", "--track", "visual", str(old), str(new)]
        environment = {**os.environ, "SAGE_ADDRESS": address}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        if done.returncode not in (0, 1):
            raise RuntimeError(f"sage diff failed on {old.parent.name}: {done.stderr}")
        (track,) = json.loads(done.stdout)["tracks"]
        truth = by_path[old]
        return edits_from_api(track["script"], truth.old, truth.new)

    return run(truths, predict)


def figures(ours: Sequence[Scored], at_equal_times: Pooled, by_signature: Pooled) -> list[Result]:
    """Return the figures with the bars that they have to reach."""
    everything = pool(ours)
    by_group = {name: pool(pairs) for name, pairs in groups(ours).items()}
    by_class = {name: pool(pairs) for name, pairs in groups(ours, by="klass").items()}
    found: list[Result] = []

    def add(name: str, value: float, unit: str, bar: float | None = None, *, lower: bool = False) -> None:
        if not math.isnan(value):
            found.append(Result(name, value, unit, bar, "lower" if lower else "higher"))

    add("diff_f1", everything.diff_f1, "F1")
    add("diff_f1_without_collar", everything.diff_f1_strict, "F1")
    bars = {"structural": 0.98, "freeze": 0.90, "short": 0.90, "local": 0.95, "combined": 0.95, "traps": 0.95}
    for name, bar in {**bars, "editorial": 0.95}.items():
        if name in by_group:
            add(f"diff_f1_{name}", by_group[name].diff_f1, "F1", bar)
    add("typed_f1", everything.typed_f1, "F1", 0.93)
    add("event_f1_iou_50", everything.event_f1_50, "F1")
    add("event_f1_iou_75", everything.event_f1_75, "F1", 0.92)
    add("boundary_median", everything.boundary_median, "frames", 0, lower=True)
    add("boundary_p95", everything.boundary_p95, "frames", 2, lower=True)
    if "structural" in by_group:
        add("boundary_p95_structural", by_group["structural"].boundary_p95, "frames", 1, lower=True)
    add("time_map", everything.map_share, "share", 0.995)
    if "human" in by_group:
        add("typed_f1_human", by_group["human"].typed_f1, "F1", 0.8)
        add("time_map_human", by_group["human"].map_share, "share", 0.98)
    add("region_iou", everything.region_iou, "IoU", 0.6)
    if "silent" in by_group:
        add("false_alarms_silent", by_group["silent"].false_alarm, "s/min", 0.1, lower=True)
    if "reencode" in by_class:
        add("false_alarms_reencode", by_class["reencode"].false_alarm, "s/min", 0, lower=True)
    add("equal_times_diff_f1", at_equal_times.diff_f1, "F1")
    add("signature_diff_f1", by_signature.diff_f1, "F1")
    best = max(at_equal_times.diff_f1, by_signature.diff_f1)
    add("above_both_peers", everything.diff_f1 - best, "F1", 0.4)
    add("real_time", 1 / everything.times_real_time, "s of film/s")
    return found


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description="Measures how well sage diff finds known edits.")
    parser.add_argument("--part", choices=sorted(SETS), default="report", help="which films")
    parser.add_argument("--only", nargs="*", default=[], help="classes or groups of pairs")
    parser.add_argument("--predict", help="MODULE:FUNCTION that compares, instead of the stack")
    parser.add_argument("--pairs", type=Path, default=PAIRS, help="where the pairs are kept")
    options = parser.parse_args()
    print("Making the pairs that do not exist yet ...", flush=True)
    folders = generate(options.pairs / options.part, options.part, only=options.only)
    truths = [read(folder) for folder in folders]
    if options.predict:
        module, _, function = options.predict.partition(":")
        predict: Predictor = getattr(importlib.import_module(module), function)
        ours = run(truths, predict)
    else:
        with running_stack() as stack:
            ours = through_the_stack(truths, stack.address)
    timed, threshold = peers.at_equal_times(truths)
    signed = peers.by_signature(truths)
    print_tables(ours)
    console.print(table("everything", {
        "SAGE": pool(ours),
        f"equal times, threshold {threshold:.3f}": pool(timed),
        "ffmpeg signature": pool(signed),
    }))  # fmt: skip
    report("accuracy", figures(ours, pool(timed), pool(signed)))


if __name__ == "__main__":
    main()
