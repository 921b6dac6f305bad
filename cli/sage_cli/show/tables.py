"""Lists as aligned columns: one line per row, fitted to the terminal, never truncated in a pipe."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from sage_cli.show.terminal import Terminal

GAP = "  "
SHORTEST_ELASTIC = 10


@dataclass(frozen=True)
class Column:
    """A column.

    Attributes:
        title: Its header.
        style: How its cells look.
        right: Whether its cells are aligned to the right, as numbers are.
        elastic: Whether its cells may be shortened.
        keep: Columns with a lower number are dropped first if the terminal is narrow.
    """

    title: str
    style: str = ""
    right: bool = False
    elastic: bool = False
    keep: int = 9


def print_table(terminal: Terminal, columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    """Print a table, truncated to the width of a terminal and complete in a pipe."""
    for line in draw_table(columns, rows, width=terminal.out.width if terminal.out.is_terminal else None):
        terminal.print(line)


def draw_table(columns: Sequence[Column], rows: Sequence[Sequence[str]], *, width: int | None) -> Iterator[Text]:
    """Yield a header and a line per row.

    Args:
        columns: The columns.
        rows: Per row a text per column.
        width: Columns of the terminal to fit into; None for no limit.
    """
    widths = [
        max(cell_len(column.title), *(cell_len(row[index]) for row in rows)) if rows else cell_len(column.title)
        for index, column in enumerate(columns)
    ]
    shown = list(range(len(columns)))
    if width is not None:
        shown = _fit(columns, widths, width)
    yield _line(columns, [column.title for column in columns], widths, shown, header=True)
    for row in rows:
        yield _line(columns, row, widths, shown)


def _fit(columns: Sequence[Column], widths: list[int], width: int) -> list[int]:
    """Return which columns to show, and shorten the elastic one in `widths`."""
    shown = list(range(len(columns)))

    def excess() -> int:
        return sum(widths[index] for index in shown) + len(GAP) * (len(shown) - 1) - width

    def slack() -> int:
        return sum(max(0, widths[index] - SHORTEST_ELASTIC) for index in shown if columns[index].elastic)

    while len(shown) > 1 and excess() > slack():
        droppable = min(shown, key=lambda index: (columns[index].keep, -index))
        if columns[droppable].keep >= Column.keep:
            break
        shown.remove(droppable)
    for index in shown:
        if columns[index].elastic and excess() > 0:
            widths[index] = max(SHORTEST_ELASTIC, widths[index] - excess())
    return shown


def _line(
    columns: Sequence[Column],
    cells: Sequence[str],
    widths: Sequence[int],
    shown: Sequence[int],
    *,
    header: bool = False,
) -> Text:
    line = Text()
    for index in shown:
        cell, room = cells[index], widths[index]
        if cell_len(cell) > room:
            cell = set_cell_size(cell, room - 1) + "…"
        padding = " " * (room - cell_len(cell))
        if index != shown[0]:
            line.append(GAP)
        line.append(f"{padding}{cell}" if columns[index].right else f"{cell}{padding}", columns[index].style)
    line.rstrip()
    if header:
        line.stylize("bold")
    return line
