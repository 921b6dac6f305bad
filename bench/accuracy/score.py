"""Scores a predictor on a folder of pairs, without the stack.

    PYTHONPATH=bench python -m accuracy.score PAIRS --predict MODULE:FUNCTION [--only CLASS ...] [--pairs] [--show]

The predictor gets the paths of the two films and returns an `EditScript`, or its edits.
"""

import argparse
import importlib
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console
from sage_compare.aligned.script import Edit, EditKind, EditScript

from accuracy.metric import score
from accuracy.pool import Pooled, Scored, groups, pool, table
from accuracy.truth import Truth, edits_to_json, read

Predictor = Callable[[Path, Path], EditScript | Sequence[Edit]]
console = Console(width=140)


def pairs_in(folder: Path, only: Sequence[str] = ()) -> list[Truth]:
    """Return the pairs of a folder, those of some classes, groups or names if any are given."""
    found = [read(path.parent) for path in sorted(folder.glob("*/truth.json"))]
    return [t for t in found if not only or {t.klass, t.group, t.name} & set(only)]


def run(truths: Sequence[Truth], predict: Predictor, *, show: bool = False) -> list[Scored]:
    """Return the score of a predictor on each pair."""
    found = []
    for truth in truths:
        started = time.perf_counter()
        script = predict(truth.old.path, truth.new.path)
        took = time.perf_counter() - started
        edits = script.edits if isinstance(script, EditScript) else tuple(script)
        result = scored(truth, edits, took)
        found.append(result)
        if show:
            _show(truth, edits, result)
    return found


def scored(truth: Truth, edits: Sequence[Edit], seconds: float) -> Scored:
    """Return the score of one prediction."""
    edited = any(edit.kind is not EditKind.MATCHED for edit in truth.edits)
    return Scored(truth.name, truth.klass, truth.group, edited, score(truth, edits), seconds)


def _show(truth: Truth, edits: Sequence[Edit], result: Scored) -> None:
    s = result.score
    console.print(f"[bold]{truth.name}[/bold] diff {s.diff_f1:.3f} typed {s.typed_f1:.3f} events {s.event_f1}")
    for name, script in (("truth", truth.edits), ("found", edits)):
        for edit in edits_to_json(script):
            changes = ", ".join(f"{c['kind']} {c['a']} {c['b']} {c['region'] or ''}" for c in edit["changes"])
            print(f"  {name} {edit['kind']:9} a {edit['a']} b {edit['b']} rate {edit['rate']} {changes}")


def print_tables(found: Sequence[Scored], *, each: bool = False) -> Pooled:
    """Print the figures of each pair if asked for, of each class, and of each group. Returns those of everything."""
    everything = pool(found)
    if each:
        console.print(table("pairs", {s.name: pool([s]) for s in found}))
    console.print(table("classes", {name: pool(pairs) for name, pairs in groups(found, by="klass").items()}))
    rows = {name: pool(pairs) for name, pairs in groups(found).items()}
    console.print(table("groups", {**rows, "everything": everything}))
    return everything


def main() -> None:
    """Score what the command line names."""
    parser = argparse.ArgumentParser(description="Scores a predictor on pairs of films with known edits.")
    parser.add_argument("pairs", type=Path)
    parser.add_argument("--predict", default="accuracy.predict:aligned", help="MODULE:FUNCTION")
    parser.add_argument("--only", nargs="*", default=[], help="classes, groups or names of pairs")
    parser.add_argument("--pairs", dest="each", action="store_true", help="print each pair")
    parser.add_argument("--show", action="store_true", help="print both scripts of each pair")
    options = parser.parse_args()
    module, _, function = options.predict.partition(":")
    predict: Predictor = getattr(importlib.import_module(module), function)
    found = run(pairs_in(options.pairs, options.only), predict, show=options.show)
    everything = print_tables(found, each=options.each)
    print(json.dumps({name: None if value != value else value for name, value in vars(everything).items()}))


if __name__ == "__main__":
    main()
