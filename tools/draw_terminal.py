"""Draws the output of a command, including colours, as an SVG image of a terminal.

usage: FORCE_COLOR=1 COLUMNS=80 sage diff A B | python tools/draw_terminal.py "sage diff A B" PICTURE.svg
"""

import re
import sys
from io import StringIO
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

# Colours that are readable on a dark background and distinguishable for most colour-blind people.
THEME = TerminalTheme(
    background=(13, 17, 23),
    foreground=(201, 209, 217),
    normal=[
        (110, 118, 129), (255, 123, 114), (63, 185, 80), (227, 179, 65),
        (88, 166, 255), (188, 140, 255), (57, 197, 207), (201, 209, 217),
    ],
    bright=[
        (110, 118, 129), (255, 161, 152), (86, 211, 100), (242, 204, 96),
        (121, 192, 255), (210, 168, 255), (86, 212, 221), (240, 246, 252),
    ],
)  # fmt: skip
FONTS = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', 'Liberation Mono', monospace"
COLUMNS = 82


def draw(command: str, output: str) -> str:
    """Return the SVG of a command and its output, which may contain ANSI escape sequences."""
    console = Console(record=True, width=COLUMNS, file=StringIO(), force_terminal=True, highlight=False)
    console.print(Text.assemble(("$ ", "dim"), (command, "bold"), "\n"))
    console.print(Text.from_ansi(output.rstrip("\n")), soft_wrap=True)
    svg = console.export_svg(title="", theme=THEME, unique_id="terminal", font_aspect_ratio=0.61)
    # Rich loads its font from the network. Pages that embed the image forbid that, so name fonts that machines have.
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    return svg.replace("Fira Code, monospace", FONTS)


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(draw(sys.argv[1], sys.stdin.read()), encoding="utf-8")
