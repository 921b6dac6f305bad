"""Shared by all benchmarks: methods run in turns, a peer in its own process, and the report."""

import contextlib
import json
import math
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, TypeVar

from rich.console import Console
from rich.table import Table
from rich.text import Text

_Turn = TypeVar("_Turn")


@dataclass(frozen=True)
class Result:
    """One figure of a benchmark.

    Attributes:
        name: What was measured, in snake case.
        value: The figure. Finite: a benchmark that could not measure fails instead.
        unit: Its unit, such as `ratio`, `MB` or `s`.
        bar: The value to reach. `None` if the figure is for information.
        better: Which direction is better.
    """

    name: str
    value: float
    unit: str
    bar: float | None = None
    better: Literal["higher", "lower"] = "higher"

    @property
    def meets_bar(self) -> bool | None:
        """Whether the bar is met, or `None` if there is no bar."""
        if self.bar is None:
            return None
        return self.value >= self.bar if self.better == "higher" else self.value <= self.bar


def report(bench: str, results: Sequence[Result]) -> None:
    """Print a table and, as the last line, one line of JSON. A missed bar is shown in both; the exit code is still 0.

    Args:
        bench: The benchmark's name, as in `make bench-<name>`.
        results: Its figures in the order to show.

    Raises:
        ValueError: A figure is not finite.
    """
    for result in results:
        if not math.isfinite(result.value):
            raise ValueError(f"{result.name} could not be measured: it is {result.value}.")
    table = Table(title=f"bench-{bench}", title_justify="left")
    table.add_column("figure")
    table.add_column("value", justify="right")
    table.add_column("bar", justify="right")
    table.add_column("met")
    for result in results:
        table.add_row(result.name, f"{result.value:,.3f} {result.unit}", _bar(result), _verdict(result))
    Console().print(table)
    line = {"bench": bench, "results": [asdict(result) for result in results]}
    print(json.dumps(line, allow_nan=False), flush=True)


def _bar(result: Result) -> str:
    if result.bar is None:
        return ""
    return f"{'≥' if result.better == 'higher' else '≤'} {result.bar:,g} {result.unit}"


def _verdict(result: Result) -> Text:
    match result.meets_bar:
        case None:
            return Text("")
        case True:
            return Text("yes", style="green")
        case False:
            return Text("no", style="bold red")


def in_turns(methods: Mapping[str, Callable[[int], _Turn]], *, rounds: int) -> dict[str, list[_Turn]]:
    """Run every method once per round and return what each returned, one entry per round.

    The speed of a machine drifts by tens of percent within minutes, so figures are only comparable within a round. Each
    round begins with another method.

    Args:
        methods: By name. Each is called with the number of the round, from 0.
        rounds: Number of rounds.
    """
    names = list(methods)
    found: dict[str, list[_Turn]] = {name: [] for name in names}
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            found[name].append(methods[name](number))
    return found


def median_ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Return the median of the ratios of each round."""
    return statistics.median(mine / other for mine, other in zip(ours, theirs, strict=True))


@contextlib.contextmanager
def running_peer(script: str, environment: Mapping[str, str]) -> Iterator[str]:
    """Run a script of this folder as a server for the length of the block and yield its address.

    Args:
        script: Its file name. It prints its port once it serves, and exits when its standard input ends.
        environment: Variables to add to those of this process.
    """
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name(script))],
        env={**os.environ, **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("the server has no pipes")
        yield f"127.0.0.1:{int(process.stdout.readline())}"
        process.stdin.close()
