"""Progress: a line per film that changes on a terminal; elsewhere, such as in a log, a new line now and then."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from rich.cells import cell_len, set_cell_size
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
from rich.table import Column
from rich.text import Text

from sage_cli.api.errors import in_commands
from sage_cli.show.terminal import Terminal, printable

# Terminal widths from which all details, and longer names, fit.
ROOMY = 76
WIDE = 100

_UNITS = ("B", "kB", "MB", "GB")


class _DetailColumn(ProgressColumn):
    """The text after the bar: bytes, rate and time left, or the message of an embedding."""

    def __init__(self, *, roomy: bool) -> None:
        # A fixed width, so that the bar next to it does not move as numbers grow.
        super().__init__(Column(no_wrap=True, overflow="ellipsis", width=38 if roomy else 22))
        self._roomy = roomy

    def render(self, task: Task) -> Text:
        if not task.fields["counts_bytes"]:
            return Text(task.fields["message"], style="dim")
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
    """Percentage; empty if the total is unknown."""

    def render(self, task: Task) -> Text:
        return Text("    " if task.total is None else f"{task.percentage:>3.0f}%")


@dataclass(frozen=True)
class Line:
    """The progress of one film.

    Attributes:
        label: Name of the film.
        short_label: The same, shortened for a narrow line.
    """

    label: str
    short_label: str
    _terminal: Terminal
    _progress: Progress
    _task: TaskID

    def begin_bytes(self, phase: str, total: int, *, done: int = 0) -> None:
        """Start a phase that counts bytes, `done` of which are complete."""
        self._begin(phase, total, counts_bytes=True, done=done)

    def advance(self, count: int) -> None:
        """Add bytes to the phase."""
        self._progress.advance(self._task, count)

    def begin_work(self, phase: str) -> None:
        """Start a phase whose progress the server reports."""
        self._begin(phase, 1.0, counts_bytes=False)

    def begin_wait(self, phase: str) -> None:
        """Start a phase of unknown length."""
        self._begin(phase, None, counts_bytes=False)

    def _begin(self, phase: str, total: float | None, *, counts_bytes: bool, done: int = 0) -> None:
        # A reset clears the fields of a task, so all of them are set again.
        self._progress.reset(
            self._task,
            total=total,
            completed=done,
            description=phase,
            label=self.short_label,
            full_label=self.label,
            counts_bytes=counts_bytes,
            message="",
        )

    def report(self, fraction: float, message: str) -> None:
        """Set the progress of the work, 0 to 1, and the server's message."""
        self._progress.update(self._task, completed=fraction, message=printable(in_commands(message)))

    def note(self, text: str) -> None:
        """Print a remark about the film, which stays on the terminal."""
        if not self._terminal.quiet:
            self._terminal.note(f"{printable(self.label)}: {text}")

    def finish(self, phase: str) -> None:
        """Fill the bar and show the completed phase."""
        self._progress.update(self._task, total=1.0, completed=1.0, description=phase, counts_bytes=False, message="")


class LinePart:
    """The share that one piece of work has in the line of a film, if several pieces are done at the same time.

    Attributes:
        label: Name of the film.
    """

    def __init__(self, line: Line, works: list[tuple[float, str]], index: int) -> None:
        self.label = line.label
        self._line = line
        self._works = works
        self._index = index

    def begin_work(self, phase: str) -> None:
        """The work begins. The line has the phase of all of it."""

    def report(self, fraction: float, message: str) -> None:
        """Set the progress of the work. The line shows the mean, and the message of what is furthest behind."""
        self._works[self._index] = (fraction, message)
        behind = min(self._works, key=lambda work: work[0])
        self._line.report(sum(work[0] for work in self._works) / len(self._works), behind[1] or message)

    def finish(self, phase: str) -> None:
        """The work is done."""
        self.report(1.0, "")


AnyLine = Line | LinePart


def share_line(line: Line, phase: str, count: int) -> list[LinePart]:
    """Start a phase of a film in which `count` pieces of work are done at the same time, and return their parts."""
    line.begin_work(phase)
    works = [(0.0, "")] * count
    return [LinePart(line, works, index) for index in range(count)]


class ProgressBoard:
    """The lines of all films, to be used as a context manager. It removes them from the terminal at the end.

    Attributes:
        log: Prints lines now and then if stderr is no terminal.
    """

    def __init__(self, terminal: Terminal, *, shown: bool = True) -> None:
        self._terminal = terminal
        self.log: ProgressLog | None = None
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
            disable=not (shown and terminal.show_progress),
        )
        if shown and not terminal.show_progress and not terminal.quiet:
            self.log = ProgressLog(lambda: self._progress.tasks, terminal.note)

    def __enter__(self) -> Self:
        self._progress.start()
        if self.log:
            self.log.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.log:
            self.log.stop()
        self._progress.stop()

    def line(self, label: str) -> Line:
        """Add a line for a film."""
        short = shorten(printable(label), self._label_width)
        task = self._progress.add_task(
            "waiting", total=None, label=short, full_label=label, counts_bytes=False, message=""
        )
        return Line(label, short, self._terminal, self._progress, task)


class ProgressLog:
    """Prints a line per film every 30 s, and every 10% if the work is fast. The first 10 s are silent.

    The server may be silent for longer than that, so a thread looks at the films.

    Args:
        tasks: Returns the films' progress.
        write: Prints a line.
        clock: Seconds that pass.
    """

    EVERY_S = 30.0
    STEP_PERCENT = 10.0
    # Between two lines about a film, however fast it is.
    MIN_GAP_S = 10.0
    _LOOK_S = 1.0

    def __init__(
        self,
        tasks: Callable[[], Sequence[Task]],
        write: Callable[[str], None],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tasks = tasks
        self._write = write
        self._clock = clock
        self._begin_s = clock()
        # Per film: when a line was printed, its phase and its percentage.
        self._printed: dict[TaskID, tuple[float, str, float]] = {}
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Start to print."""
        self._thread.start()

    def stop(self) -> None:
        """Print nothing more."""
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(self._LOOK_S):
            self.look()

    def look(self) -> None:
        """Print the lines that are due."""
        now = self._clock()
        for task in self._tasks():
            if task.finished:
                continue
            at_s, phase, percent = self._printed.get(task.id, (self._begin_s, "", 0.0))
            moved = task.description != phase or task.percentage - percent >= self.STEP_PERCENT
            if now - at_s >= (self.MIN_GAP_S if moved else self.EVERY_S):
                self._printed[task.id] = (now, task.description, task.percentage)
                self._write(_log_line(task))


def _log_line(task: Task) -> str:
    line = f"{printable(task.fields['full_label'])}: {task.description}"
    if task.total is not None:
        line += f" {task.percentage:.0f}%"
    if task.fields["counts_bytes"]:
        return f"{line}, {size_of(task.completed, task.total or 0)}"
    # The server's sentence.
    return f"{line}. {message}" if (message := task.fields["message"]) else line


def shorten(text: str, width: int) -> str:
    """Return a text in at most `width` columns, shortened in the middle, because names of cuts differ at their ends."""
    if cell_len(text) <= width:
        return text
    head = (width - 1) // 2
    tail = list(text)
    while cell_len("".join(tail)) > width - 1 - head:
        tail.pop(0)
    return f"{set_cell_size(text, head)}…{''.join(tail)}"


def size(count: float) -> str:
    """Return a number of bytes for people, in powers of 1000, as for disks and networks."""
    power = _power(count)
    return f"{_digits(count, power)} {_UNITS[power]}"


def size_of(count: float, total: float) -> str:
    """Return a number of bytes out of a total, in the unit of the total: `41.9/60.0 MB`."""
    power = _power(total)
    return f"{_digits(count, power)}/{_digits(total, power)} {_UNITS[power]}"


def _power(count: float) -> int:
    """Return the power of 1000 at which a number has at most three digits before the point."""
    power = 0
    while power < len(_UNITS) - 1 and count >= 999.5 * 1000**power:
        power += 1
    return power


def _digits(count: float, power: int) -> str:
    value = count / 1000**power
    return f"{value:.0f}" if power == 0 or value >= 99.95 else f"{value:.1f}"
