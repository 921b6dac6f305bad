"""Pictures in terminals: what is sent decodes to the picture, and only terminals that show it are sent any."""

import base64
import io
import os
import pty
import re
import subprocess
import sys
import threading
import zlib

import av
import pytest
from rich.console import Console
from sage_cli.show.images import Picture, Protocol, encode, find_protocol, side_by_side
from sage_cli.show.terminal import Terminal

WIDTH, HEIGHT = 90, 40
# No two rows or columns are alike, and no colour repeats, so that compression cannot make it short.
PICTURE = Picture(
    WIDTH,
    HEIGHT,
    bytes((x * 7 + y * 13 + c * 50 + x * y) % 256 for y in range(HEIGHT) for x in range(WIDTH) for c in range(3)),
)


def test_kitty_decodes_to_the_picture():
    sent = encode(PICTURE, Protocol.KITTY, columns=12)
    commands = re.findall(r"\x1b_G([^;]*);([^\x1b]*)\x1b\\", sent)
    assert "".join(f"\x1b_G{keys};{text}\x1b\\" for keys, text in commands) == sent
    assert len(commands) > 1
    assert max(len(text) for _, text in commands) <= 4096
    first = dict(key.split("=") for key in commands[0][0].split(","))
    assert first == {"a": "T", "q": "2", "f": "24", "o": "z", "s": "90", "v": "40", "c": "12", "m": "1"}
    assert [keys for keys, _ in commands[1:]] == ["m=1"] * (len(commands) - 2) + ["m=0"]
    assert zlib.decompress(base64.b64decode("".join(text for _, text in commands))) == PICTURE.rgb


def test_iterm_decodes_to_the_picture():
    match = re.fullmatch(
        r"\x1b\]1337;File=inline=1;size=(\d+);width=12;preserveAspectRatio=1:([^\a]*)\a",
        encode(PICTURE, Protocol.ITERM, columns=12),
    )
    assert match
    file = base64.b64decode(match[2])
    assert len(file) == int(match[1])
    with av.open(io.BytesIO(file)) as png:
        frame = next(png.decode(video=0))
    assert frame.to_ndarray(format="rgb24").tobytes() == PICTURE.rgb


def test_sixel_decodes_to_the_picture():
    """To a sixth of the range of each colour, and on average to much less: it is dithered."""
    match = re.fullmatch(r'\x1bP0;1q"1;1;90;40(.*)\x1b\\', encode(PICTURE, Protocol.SIXEL, columns=12))
    assert match
    palette, shown = {}, {}
    colour = x = y = 0
    for number, components, count, dot, control in re.findall(
        r"#(\d+)((?:;\d+){4})?|(?:!(\d+))?([?-~])|([$-])", match[1]
    ):
        if components:
            palette[number] = [int(value) * 255 / 100 for value in components.split(";")[2:]]
        elif number:
            colour = number
        elif control:
            x, y = 0, y + 6 * (control == "-")
        else:
            for at in range(x, x + int(count or 1)):
                shown |= {(at, y + bit): palette[colour] for bit in range(6) if ord(dot) - 63 >> bit & 1}
            x += int(count or 1)
    assert shown.keys() == {(x, y) for x in range(WIDTH) for y in range(HEIGHT)}
    pixels = [(x, y, c) for x in range(WIDTH) for y in range(HEIGHT) for c in range(3)]
    apart = [shown[x, y][c] - PICTURE.rgb[3 * (y * WIDTH + x) + c] for x, y, c in pixels]
    assert max(map(abs, apart)) <= 255 / 5 + 1
    assert abs(sum(apart) / len(apart)) < 2


def test_pictures_are_put_side_by_side():
    left, right = Picture(1, 2, b"abcdef"), Picture(2, 2, b"ABCDEFGHIJKL")
    assert side_by_side(left, right, gap=1) == Picture(4, 2, b"abc\0\0\0ABCDEFdef\0\0\0GHIJKL")


def terminal(*, piped: bool = False) -> Terminal:
    return Terminal(*(Console(file=io.StringIO(), force_terminal=not piped) for _ in range(2)), show_progress=False)


@pytest.mark.parametrize(
    ("environ", "protocol"),
    [
        ({"TERM": "xterm-kitty"}, Protocol.KITTY),
        ({"TERM": "xterm-256color", "KITTY_WINDOW_ID": "1"}, Protocol.KITTY),
        ({"TERM": "xterm-ghostty"}, Protocol.KITTY),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "ghostty"}, Protocol.KITTY),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "iTerm.app"}, Protocol.ITERM),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "WezTerm"}, Protocol.ITERM),
        ({"TERM": "xterm-256color", "LC_TERMINAL": "iTerm2"}, Protocol.ITERM),
        ({"TERM": "foot"}, None),
        ({"TERM": "tmux-256color", "TMUX": "/tmp/tmux", "KITTY_WINDOW_ID": "1"}, None),
    ],
)
def test_terminal_is_known_by_its_environment_or_is_asked(environ, protocol):
    assert find_protocol(terminal(), environ, ask=lambda: False) == protocol
    assert find_protocol(terminal(), environ, ask=lambda: True) == (protocol or Protocol.SIXEL)


def test_pipes_and_dumb_terminals_are_not_asked_and_sent_nothing():
    def ask() -> bool:
        raise AssertionError("it was asked")

    assert find_protocol(terminal(piped=True), {"TERM": "xterm-kitty"}, ask=ask) is None
    assert find_protocol(terminal(), {"TERM": "dumb"}, ask=ask) is None
    assert find_protocol(terminal(), {}, ask=ask) is None


@pytest.mark.parametrize(
    ("answer", "expected"),
    [(b"\x1b[?62;4;22c", "True"), (b"\x1b[?62;22c", "False"), (b"\x1b[?64;14c", "False"), (b"", "False")],
)
def test_terminal_says_whether_it_knows_sixel(answer, expected):
    ours, theirs = pty.openpty()
    command = (
        "from sage_cli.show.images import knows_sixel; import sys; found = knows_sixel(); print(found, file=sys.stderr)"
    )
    process = subprocess.Popen([sys.executable, "-c", command], stdin=theirs, stdout=theirs, stderr=subprocess.PIPE)
    os.close(theirs)

    def reply() -> None:
        asked = b""
        while not asked.endswith(b"\x1b[c"):
            asked += os.read(ours, 64)
        os.write(ours, answer)

    thread = threading.Thread(target=reply)
    thread.start()
    _, err = process.communicate()
    thread.join()
    os.close(ours)
    assert err.decode().strip() == expected


def test_commands_start_without_pyav():
    command = "import sage_cli.__main__, sys; print([name for name in ('av', 'numpy') if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
