"""Pairs of stills below the report of `sage diff`, in terminals that show pictures."""

import asyncio
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import click
from rich.text import Text
from sage.compare.v1 import compare_pb2

from sage_cli.api.errors import CommandError
from sage_cli.films.stills import read_stills
from sage_cli.films.targets import FileTarget, Target
from sage_cli.show.comparison import DEFAULT_TRACK, Comparison, Film, edits_in
from sage_cli.show.images import Picture, Protocol, encode, find_protocol, knows_sixel, side_by_side
from sage_cli.show.script.words import KINDS, read_changes
from sage_cli.show.terminal import Terminal

CHOICES = ("auto", "never", *(protocol.value for protocol in Protocol))
# More edits than this have no stills.
MOST_PAIRS = 12
_HEIGHT, _WIDEST = 108, 256
_GAP = 8
# Of a character, in the usual fonts.
_PIXELS_PER_COLUMN = 8
_GREY = b"\x30\x30\x30"

stills_option = click.option(
    "--stills",
    type=click.Choice(CHOICES),
    default="auto",
    show_default=True,
    help="Show a still of old and one of new for each edit, if both are files here, in a terminal that shows pictures; "
    "or name the protocol of the terminal. Never in pipes or with --json.",
)


@dataclass(frozen=True)
class _Pair:
    """Where the two stills of an edit are, in seconds; None if a film does not have it."""

    caption: Text
    old: float | None
    new: float | None


async def print_stills(
    terminal: Terminal, comparison: Comparison, targets: tuple[Target, Target], *, choice: str
) -> None:
    """Print a pair of stills for each edit of the picture, from the films that are local files.

    Raises:
        CommandError: A protocol was named, and PyAV is not installed.
    """
    paths = [target.path if isinstance(target, FileTarget) else None for target in targets]
    found = [pair for track in comparison.tracks if track.name == DEFAULT_TRACK for pair in _pairs(track, comparison)]
    pairs = found[:MOST_PAIRS]
    if choice == "never" or not terminal.out.is_terminal or not comparison.aligned or not pairs or not any(paths):
        return
    sizes = [_size(film) for film in comparison.films]
    stills: list[Mapping[float, Picture]] = []
    try:
        for path, film, size, times in zip(
            paths, comparison.films, sizes, ([pair.old for pair in pairs], [pair.new for pair in pairs]), strict=True
        ):
            wanted = [time for time in times if time is not None]
            stills.append(
                await asyncio.to_thread(read_stills, path, film.media, wanted, size=size) if path is not None else {}
            )
    except ImportError as error:
        if choice == "auto":
            return
        raise CommandError(
            "Stills need PyAV, which is not installed.", next_step="`pip install 'sage-diff[stills]'` installs it."
        ) from error
    if not any(stills):
        return
    protocol = find_protocol(terminal, os.environ, ask=knows_sixel) if choice == "auto" else Protocol(choice)
    if protocol is None:
        return
    for pair in pairs:
        shown = [
            (None if time is None else of_film.get(time)) or _blank(size)
            for time, of_film, size in zip((pair.old, pair.new), stills, sizes, strict=True)
        ]
        picture = side_by_side(*shown, gap=_GAP)
        columns = min(picture.width // _PIXELS_PER_COLUMN, terminal.out.width)
        terminal.print(pair.caption)
        terminal.out.file.write(encode(picture, protocol, columns=columns) + "\n")
        terminal.out.file.flush()
    if len(found) > len(pairs):
        terminal.print(Text(f"The other {len(found) - len(pairs)} have no stills here.", style="dim"))


def _pairs(track: compare_pb2.TrackComparison, comparison: Comparison) -> Iterator[_Pair]:
    """Yield where the stills of each edit are: in the middle of its strongest change. What only moved has none."""
    for number, edit in enumerate(edits_in(track), 1):
        changes = read_changes(edit)
        if edit.kind == compare_pb2.EDIT_KIND_MOVED and not changes:
            continue
        symbol, word, style = KINDS.get(edit.kind, KINDS[compare_pb2.EDIT_KIND_CHANGED])
        where: compare_pb2.Edit | compare_pb2.Change = edit
        if edit.kind not in {compare_pb2.EDIT_KIND_INSERTED, compare_pb2.EDIT_KIND_DELETED} and changes:
            word, where = changes[0].noun, changes[0].message
        old = _middle(where.a) if where.HasField("a") else None
        new = _middle(where.b) if where.HasField("b") else None
        caption = Text.assemble((f"\n{number}  ", "dim"), (f"{symbol} {word}", style))
        for name, time, film in (("old", old, comparison.old), ("new", new, comparison.new)):
            caption.append(f"  {name} {film.times.at(time)}" if time is not None else f"  not in {name}", style="dim")
        yield _Pair(caption, old, new)


def _middle(where: compare_pb2.FrameRange) -> float:
    return (where.start_seconds + where.end_seconds) / 2


def _size(film: Film) -> tuple[int, int]:
    shape = film.media.display_width / film.media.display_height if film.media.display_height else 16 / 9
    return max(1, min(_WIDEST, round(_HEIGHT * shape))), _HEIGHT


def _blank(size: tuple[int, int]) -> Picture:
    return Picture(*size, _GREY * (size[0] * size[1]))
