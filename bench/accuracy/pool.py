"""Pools the scores of pairs: pairs of a class first, then classes of a group, then all classes."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from rich.table import Table

from accuracy.metric import PairScore


@dataclass(frozen=True)
class Scored:
    """The score of one pair.

    Attributes:
        name: The pair.
        klass: Its class.
        group: Its group.
        edited: Whether there is anything to find.
        score: How close the prediction is.
        seconds: How long the prediction took.
    """

    name: str
    klass: str
    group: str
    edited: bool
    score: PairScore
    seconds: float


@dataclass(frozen=True)
class Pooled:
    """The figures of a class, a group, or everything. Not a number if there is nothing to measure."""

    diff_f1: float
    diff_f1_strict: float
    typed_f1: float
    event_f1_50: float
    event_f1_75: float
    boundary_median: float
    boundary_p95: float
    map_share: float
    region_iou: float
    false_alarm: float
    times_real_time: float


def pool(pairs: Sequence[Scored]) -> Pooled:
    """Return the figures of some pairs, with each class counting the same.

    Kinds and events are pooled over pairs with edits only, false alarms over pairs without.
    """
    edited = [p for p in pairs if p.edited]
    silent = [p for p in pairs if not p.edited]
    errors = [e for p in pairs for e in p.score.boundary_errors]
    regions = [r for p in pairs for r in p.score.regions]
    known, close = (sum(p.score.mapped[i] for p in pairs) for i in (0, 1))
    nan = float("nan")
    return Pooled(
        _by_class(pairs, lambda s: s.diff_f1),
        _by_class(pairs, lambda s: s.diff_f1_strict),
        _by_class(edited, lambda s: s.typed_f1),
        _by_class(edited, lambda s: s.event_f1[0]),
        _by_class(edited, lambda s: s.event_f1[1]),
        float(np.median(errors)) if errors else nan,
        float(np.percentile(errors, 95)) if errors else nan,
        close / known if known else nan,
        float(np.mean(regions)) if regions else nan,
        sum(p.score.extra_seconds for p in silent) / sum(p.score.minutes for p in silent) if silent else nan,
        sum(p.seconds for p in pairs) / (60 * sum(p.score.minutes for p in pairs)) if pairs else nan,
    )


def _by_class(pairs: Iterable[Scored], figure: Callable[[PairScore], float]) -> float:
    classes: dict[str, list[float]] = {}
    for pair in pairs:
        classes.setdefault(pair.klass, []).append(figure(pair.score))
    return float(np.mean([np.mean(values) for values in classes.values()])) if classes else float("nan")


def groups(pairs: Sequence[Scored], *, by: str = "group") -> dict[str, list[Scored]]:
    """Return the pairs of each group, or of each class."""
    found: dict[str, list[Scored]] = {}
    for pair in pairs:
        found.setdefault(getattr(pair, by), []).append(pair)
    return found


def table(title: str, rows: Mapping[str, Pooled]) -> Table:
    """Return a table of figures."""
    made = Table(title=title, title_justify="left")
    made.add_column("pairs")
    for column in (
        "Diff-F1",
        "strict",
        "typed",
        "event .5",
        "event .75",
        "ends",
        "p95",
        "map",
        "region",
        "false s/min",
    ):
        made.add_column(column, justify="right")
    for name, p in rows.items():
        made.add_row(
            name,
            *(_shown(v, 3) for v in (p.diff_f1, p.diff_f1_strict, p.typed_f1, p.event_f1_50, p.event_f1_75)),
            *(_shown(v, 1) for v in (p.boundary_median, p.boundary_p95)),
            _shown(p.map_share, 4), _shown(p.region_iou, 2), _shown(p.false_alarm, 2),
        )  # fmt: skip
    return made


def _shown(value: float, digits: int) -> str:
    return "" if np.isnan(value) else f"{value:.{digits}f}"
