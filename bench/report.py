"""What every benchmark ends with: a table for people and, as the last line, one line of JSON for scripts."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text


@dataclass(frozen=True)
class Result:
    """One figure of a benchmark.

    Attributes:
        name: What was measured, in snake case.
        value: The figure. Finite: a benchmark that could not measure fails instead.
        unit: Its unit, such as `ratio`, `MB` or `s`.
        bar: What it should reach; None where the figure is only shown.
        better: Which way is better.
    """

    name: str
    value: float
    unit: str
    bar: float | None = None
    better: Literal["higher", "lower"] = "higher"

    @property
    def meets_bar(self) -> bool | None:
        """Whether the bar is met; None where there is none."""
        if self.bar is None:
            return None
        return self.value >= self.bar if self.better == "higher" else self.value <= self.bar


def report(bench: str, results: Sequence[Result]) -> None:
    """Print the table and the line of JSON. Whether a bar is met changes what is printed, never the exit code.

    Args:
        bench: The benchmark's name, as in `make bench-<name>`.
        results: Its figures, in the order to show.

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
