"""Pictures in terminals that can show them: Kitty's graphics protocol, iTerm2's inline images, and Sixel."""

import base64
import os
import re
import select
import struct
import sys
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from itertools import groupby

from sage_cli.show.terminal import Terminal

# Base64 characters in one command of Kitty's protocol.
_CHUNK = 4096
# Levels of each colour in Sixel, and the thresholds that dither between them.
_LEVELS = 6
_BAYER = ((0, 8, 2, 10), (12, 4, 14, 6), (3, 11, 1, 9), (15, 7, 13, 5))
_BAND_ROWS = 6
# Terminals answer at once; over a slow connection it takes a round trip.
_ANSWER_SECONDS = 0.3
_ATTRIBUTES = re.compile(rb"\x1b\[\?([\d;]*)c")
_SIXEL_ATTRIBUTE = b"4"


class Protocol(Enum):
    """How a terminal is sent pictures. The value is the name for people."""

    KITTY = "kitty"
    ITERM = "iterm"
    SIXEL = "sixel"


@dataclass(frozen=True)
class Picture:
    """A picture.

    Attributes:
        width: Width in pixels.
        height: Height in pixels.
        rgb: Three bytes for each pixel, row by row.
    """

    width: int
    height: int
    rgb: bytes

    def rows(self) -> list[bytes]:
        """Return the bytes of each row."""
        return [self.rgb[at : at + 3 * self.width] for at in range(0, len(self.rgb), 3 * self.width)]


def side_by_side(left: Picture, right: Picture, *, gap: int) -> Picture:
    """Return two pictures of one height in one, with black between them."""
    between = bytes(3 * gap)
    rows = [one + between + other for one, other in zip(left.rows(), right.rows(), strict=True)]
    return Picture(left.width + gap + right.width, left.height, b"".join(rows))


def find_protocol(terminal: Terminal, environ: Mapping[str, str], *, ask: Callable[[], bool]) -> Protocol | None:
    """Return how the terminal on stdout is sent pictures; None if it shows none, or stdout is a pipe.

    Args:
        terminal: The streams.
        environ: The environment, in which most terminals name themselves.
        ask: Returns whether the terminal says that it knows Sixel.
    """
    if not terminal.out.is_terminal or environ.get("TERM", "dumb") == "dumb":
        return None
    # A multiplexer passes on neither protocol. It says itself whether it knows Sixel.
    if not (environ.get("TMUX") or environ.get("STY")):
        program = environ.get("TERM_PROGRAM", "").lower()
        if (
            environ.get("KITTY_WINDOW_ID")
            or environ["TERM"] in {"xterm-kitty", "xterm-ghostty"}
            or program == "ghostty"
        ):
            return Protocol.KITTY
        if program in {"iterm.app", "wezterm", "mintty"} or environ.get("LC_TERMINAL") == "iTerm2":
            return Protocol.ITERM
    return Protocol.SIXEL if ask() else None


def knows_sixel() -> bool:
    """Ask the terminal for its attributes (DA1). Return whether Sixel is among them, False if it does not answer."""
    try:
        import termios
        import tty
    except ImportError:  # Windows.
        return False
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return False
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    answer = b""
    try:
        tty.setcbreak(descriptor, termios.TCSANOW)
        sys.stdout.write("\x1b[c")
        sys.stdout.flush()
        while select.select([descriptor], [], [], _ANSWER_SECONDS)[0]:
            answer += os.read(descriptor, 64)
            if found := _ATTRIBUTES.search(answer):
                return _SIXEL_ATTRIBUTE in found[1].split(b";")
    finally:
        termios.tcsetattr(descriptor, termios.TCSANOW, before)
    return False


def encode(picture: Picture, protocol: Protocol, *, columns: int) -> str:
    """Return what makes a terminal show a picture at the cursor.

    Args:
        picture: The picture.
        protocol: How the terminal is sent pictures.
        columns: Width in the terminal. Sixel is sent in pixels as it is.
    """
    if protocol is Protocol.KITTY:
        return _kitty(picture, columns)
    if protocol is Protocol.ITERM:
        return _iterm(picture, columns)
    return _sixel(picture)


def _kitty(picture: Picture, columns: int) -> str:
    """Source: https://sw.kovidgoyal.net/kitty/graphics-protocol/."""
    text = base64.b64encode(zlib.compress(picture.rgb)).decode()
    chunks = [text[at : at + _CHUNK] for at in range(0, len(text), _CHUNK)]
    # Shown at once (a=T), RGB (f=24), compressed (o=z), and without a response (q=2).
    keys = f"a=T,q=2,f=24,o=z,s={picture.width},v={picture.height},c={columns},"
    commands = []
    for number, chunk in enumerate(chunks):
        more = int(number + 1 < len(chunks))
        commands.append(f"\x1b_G{keys if number == 0 else ''}m={more};{chunk}\x1b\\")
    return "".join(commands)


def _iterm(picture: Picture, columns: int) -> str:
    """Source: https://iterm2.com/documentation-images.html."""
    file = _png(picture)
    arguments = f"inline=1;size={len(file)};width={columns};preserveAspectRatio=1"
    return f"\x1b]1337;File={arguments}:{base64.b64encode(file).decode()}\a"


def _png(picture: Picture) -> bytes:
    header = struct.pack(">IIBBBBB", picture.width, picture.height, 8, 2, 0, 0, 0)
    # Each row begins with its filter: none.
    rows = b"".join(b"\0" + row for row in picture.rows())
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        for name, content in chunks
    )


def _sixel(picture: Picture) -> str:
    """Return the picture in 216 colours, dithered. Source: DEC VT330/VT340 Programmer Reference Manual, chapter 14."""
    steps = [number * 100 // (_LEVELS - 1) for number in range(_LEVELS)]
    palette = [(red, green, blue) for red in steps for green in steps for blue in steps]
    parts = [f'\x1bP0;1q"1;1;{picture.width};{picture.height}']
    parts += [f"#{number};2;{red};{green};{blue}" for number, (red, green, blue) in enumerate(palette)]
    rows = [_dithered(row, y) for y, row in enumerate(picture.rows())]
    for top in range(0, len(rows), _BAND_ROWS):
        band = rows[top : top + _BAND_ROWS]
        for colour in sorted({number for row in band for number in row}):
            dots = [sum((row[x] == colour) << bit for bit, row in enumerate(band)) for x in range(picture.width)]
            runs = ((chr(63 + value), sum(1 for _ in run)) for value, run in groupby(dots))
            parts.append(f"#{colour}" + "".join(f"!{count}{dot}" if count > 3 else dot * count for dot, count in runs))
            parts.append("$")
        parts.append("-")
    return "".join(parts) + "\x1b\\"


def _dithered(row: bytes, y: int) -> list[int]:
    """Return the number of the colour of each pixel of a row."""
    numbers = []
    for x in range(len(row) // 3):
        threshold = (_BAYER[y % 4][x % 4] + 0.5) / 16
        number = 0
        for value in row[3 * x : 3 * x + 3]:
            number = number * _LEVELS + int(value * (_LEVELS - 1) / 255 + threshold)
        numbers.append(number)
    return numbers
