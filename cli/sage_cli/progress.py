"""Progress on the terminal: one line for each film, from its first byte to its last clip."""

from dataclasses import dataclass
from types import TracebackType
from typing import Self

from rich.cells import cell_len, set_cell_size
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
from rich.table import Column
from rich.text import Text

from sage_cli.terminal import Terminal, printable

# Columns from which there is room for all that is known, and for longer names.
ROOMY = 76
WIDE = 100

_UNITS = ("B", "kB", "MB", "GB")


class _DetailColumn(ProgressColumn):
    """What a line says after its bar: bytes, rate and time left, or the sentence of an embedding."""

    def __init__(self, *, roomy: bool) -> None:
        # A width of its own, so that the bar beside it holds still while figures grow.
        super().__init__(Column(no_wrap=True, overflow="ellipsis", width=38 if roomy else 22))
        self._roomy = roomy

    def render(self, task: Task) -> Text:
        if not task.fields["counts_bytes"]:
            return Text(task.fields["sentence"], style="dim")
        parts = []
        if self._roomy:
            parts.append(size_of(task.completed, task.total or 0))
        if task.speed:
            parts.append(f"{size(task.speed)}/s")
        if task.time_remaining is not None:
            minutes, seconds = divmod(int(task.time_remaining), 60)
            parts.append(f"{minutes}:{seconds:02} left" if self._roomy else f"{minutes}:{seconds:02}")
        return Text(" · ".join(parts), style="dim")


class _PercentColumn(ProgressColumn):
    """How far a line is, where anybody knows."""

    def render(self, task: Task) -> Text:
        return Text("    " if task.total is None else f"{task.percentage:>3.0f}%")


@dataclass(frozen=True)
class Line:
    """The progress of one film.

    Attributes:
        label: What the film is called.
        short_label: The same for a narrow line.
    """

    label: str
    short_label: str
    _terminal: Terminal
    _progress: Progress
    _task: TaskID

    def begin_bytes(self, phase: str, total: int, *, done: int = 0) -> None:
        """Begin a phase that counts bytes, `done` of which were there before."""
        self._begin(phase, total, counts_bytes=True, done=done)

    def advance(self, count: int) -> None:
        """Add bytes to the phase."""
        self._progress.advance(self._task, count)

    def begin_work(self, phase: str) -> None:
        """Begin a phase that the server reports on."""
        self._begin(phase, 1.0, counts_bytes=False)

    def begin_wait(self, phase: str) -> None:
        """Begin a phase of which nobody knows how far it is."""
        self._begin(phase, None, counts_bytes=False)

    def _begin(self, phase: str, total: float | None, *, counts_bytes: bool, done: int = 0) -> None:
        # A reset forgets the fields of a task, so each of them is given again.
        self._progress.reset(
            self._task,
            total=total,
            completed=done,
            description=phase,
            label=self.short_label,
            counts_bytes=counts_bytes,
            sentence="",
        )

    def report(self, fraction: float, sentence: str) -> None:
        """Set how far the work is, 0 to 1, and say so in a sentence."""
        self._progress.update(self._task, completed=fraction, sentence=printable(sentence))

    def note(self, text: str) -> None:
        """Tell something of the film that stays on the terminal when its line has gone."""
        if not self._terminal.quiet:
            self._terminal.note(f"{printable(self.label)}: {text}")

    def finish(self, phase: str) -> None:
        """Fill the bar and say what has come of it."""
        self._progress.update(self._task, total=1.0, completed=1.0, description=phase, counts_bytes=False, sentence="")


class ProgressBoard:
    """The lines of all films, to be used as a context manager. It leaves nothing behind on the terminal."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._label_width = 24 if terminal.err.width >= WIDE else 12
        self._progress = Progress(
            TextColumn(
                "{task.fields[label]}",
                markup=False,
                table_column=Column(no_wrap=True),
            ),
            TextColumn("{task.description}", markup=False, style="cyan", table_column=Column(min_width=9)),
            BarColumn(bar_width=None, table_column=Column(ratio=1)),
            _PercentColumn(),
            _DetailColumn(roomy=terminal.err.width >= ROOMY),
            console=terminal.err,
            expand=True,
            transient=True,
            disable=not terminal.show_progress,
        )

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._progress.stop()

    def line(self, label: str) -> Line:
        """Return a new line."""
        short = shorten(printable(label), self._label_width)
        task = self._progress.add_task("waiting", total=None, label=short, counts_bytes=False, sentence="")
        return Line(label, short, self._terminal, self._progress, task)


def shorten(text: str, width: int) -> str:
    """Return a text in at most `width` columns, shortened in the middle: names of cuts differ at their ends."""
    if cell_len(text) <= width:
        return text
    head = (width - 1) // 2
    tail = list(text)
    while cell_len("".join(tail)) > width - 1 - head:
        tail.pop(0)
    return f"{set_cell_size(text, head)}…{''.join(tail)}"


def size(count: float) -> str:
    """Return a number of bytes for people, in powers of a thousand as disks and networks count."""
    power = _power(count)
    return f"{_digits(count, power)} {_UNITS[power]}"


def size_of(count: float, total: float) -> str:
    """Return a number of bytes out of a total, in the unit of the total: `41.9/60.0 MB`."""
    power = _power(total)
    return f"{_digits(count, power)}/{_digits(total, power)} {_UNITS[power]}"


def _power(count: float) -> int:
    """Return the unit in which a number of bytes has at most three digits before the point."""
    power = 0
    while power < len(_UNITS) - 1 and count >= 999.5 * 1000**power:
        power += 1
    return power


def _digits(count: float, power: int) -> str:
    value = count / 1000**power
    return f"{value:.0f}" if power == 0 or value >= 99.95 else f"{value:.1f}"
