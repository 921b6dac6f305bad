"""What the command line takes: files, ids, numbers, addresses, kinds of video."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from sage_cli.client import Client
from sage_cli.errors import Trouble
from sage_cli.media_type import guess_media_type
from sage_cli.progress import shorten, size, size_of
from sage_cli.tables import Column, draw_table
from sage_cli.targets import EmbeddingTarget, FileTarget, VideoTarget, read_target
from sage_cli.terminal import open_terminal

DIGITS = "0192f0c1d2e37a4b8c9d0e1f2a3b4c5d"


def test_ids_and_files_are_told_apart(tmp_path):
    """An id is an id by its form; all else is a file."""
    film = tmp_path / "film.mp4"
    film.write_bytes(b"film")
    assert read_target(f"video_{DIGITS}") == VideoTarget(f"video_{DIGITS}")
    assert read_target(f"embed_{DIGITS}") == EmbeddingTarget(f"embed_{DIGITS}")
    assert read_target(str(film)) == FileTarget(film, 4)


def test_what_is_no_file_is_refused_in_words(tmp_path):
    """Missing, empty, a folder, a pipe, a slip in an id: each has its own sentence and a next step."""
    (tmp_path / "empty.mp4").touch()
    os.mkfifo(tmp_path / "pipe.mp4")
    expected = {
        "missing.mp4": "There is no file",
        "empty.mp4": "is empty",
        ".": "is a directory",
        "pipe.mp4": "is not a regular file",
    }
    for name, words in expected.items():
        with pytest.raises(Trouble, match=words) as caught:
            read_target(str(tmp_path / name))
        assert caught.value.next_step
    with pytest.raises(Trouble) as caught:
        read_target("video_123")
    assert "32 hexadecimal digits" in caught.value.next_step


def test_nul_in_a_path_is_no_traceback():
    """A path that no system takes is trouble like any other."""
    with pytest.raises(Trouble, match="is not a path"):
        read_target("a\0b")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_file_is_refused(tmp_path):
    """A file without permission to read is refused before anything is sent."""
    film = tmp_path / "film.mp4"
    film.write_bytes(b"film")
    film.chmod(0)
    with pytest.raises(Trouble, match="permission denied"):
        read_target(str(film))


@pytest.mark.parametrize(
    ("name", "content", "media_type"),
    [
        ("a.mp4", b"", "video/mp4"),
        ("a.MOV", b"", "video/quicktime"),
        ("a.mkv", b"", "video/x-matroska"),
        ("a.ts", b"", "video/mp2t"),
        ("film", b"\0\0\0\x20ftypisom", "video/mp4"),
        ("film.final", b"\x1a\x45\xdf\xa3", "video/x-matroska"),
        ("film.bin", b"RIFF\0\0\0\0AVI LIST", "video/x-msvideo"),
    ],
)
def test_kind_of_video_is_guessed(tmp_path, name, content, media_type):
    """The name says it, and where it does not, the first bytes do."""
    (tmp_path / name).write_bytes(content)
    assert guess_media_type(tmp_path / name) == media_type


@pytest.mark.parametrize(("name", "content"), [("a.png", b"\x89PNG"), ("a.txt", b"text"), ("a", b"?")])
def test_what_is_no_video_is_asked_about(tmp_path, name, content):
    """A file that looks like something else is not sent unless the user insists, and learns how."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(Trouble) as caught:
        guess_media_type(tmp_path / name)
    assert "--content-type" in caught.value.next_step


@pytest.mark.parametrize("address", ["", "localhost", "host:port", "ftp://host:1", "host:1/path", ":8080"])
async def test_address_without_host_or_port_is_refused(address):
    """An address that cannot be one is refused with an example."""
    with pytest.raises(Trouble, match="is not an address") as caught:
        Client(address)
    assert "localhost:8080" in caught.value.next_step


@pytest.mark.parametrize("address", ["localhost:1", "[::1]:1", "http://host", "https://host", "https://host:8443/"])
async def test_addresses_with_and_without_a_scheme_are_taken(address):
    """A host and a port, or a URL, which has a port of its own."""
    async with Client(address):
        pass


@pytest.mark.parametrize(
    ("count", "shown"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (999_960, "1.0 MB"), (123_456_789, "123 MB"), (5e13, "50000 GB")],
)
def test_sizes_are_short(count, shown):
    """Sizes have two or three digits and the unit that fits."""
    assert size(count) == shown


def test_part_of_a_size_is_in_the_unit_of_the_whole():
    """How much of a file is done is read against its size, so both are in one unit."""
    assert [size_of(0, 60_000_000), size_of(41_900_000, 60_000_000)] == ["0.0/60.0 MB", "41.9/60.0 MB"]


COLUMNS = (Column("id"), Column("name", elastic=True), Column("size", right=True, keep=1), Column("when", keep=0))
ROWS = [("x" * 20, "a rather long name of a film", "1 MB", "2026-01-01"), ("y" * 20, "映画", "20 MB", "2026-01-02")]


def test_table_in_a_pipe_is_never_cut():
    """Without a width everything is shown, and columns line up though letters are wide."""
    header, first, second = (line.plain for line in draw_table(COLUMNS, ROWS, width=None))
    assert "a rather long name of a film" in first
    assert header.index("when") == first.index("2026")
    assert second.endswith("2026-01-02")


@pytest.mark.parametrize("width", [40, 50, 60, 80])
def test_table_fits_the_terminal(width):
    """What matters least goes first, then names are shortened; ids stay whole."""
    lines = [line.plain for line in draw_table(COLUMNS, ROWS, width=width)]
    assert all(len(line) <= width for line in lines[:2])
    assert all(line.startswith(("id", "x" * 20, "y" * 20)) for line in lines)
    assert ("when" in lines[0]) == (width >= 60)


@given(st.text(), st.integers(3, 40))
def test_shortened_names_fit_and_keep_their_end(text, width):
    """A shortened name fits, and ends as the name does."""
    short = shorten(text, width)
    assert cell_len(short) <= width
    assert short == text or text.endswith(short.partition("…")[2])


@pytest.mark.parametrize(("columns", "width"), [("120", 120), ("", 80), ("0", 80), ("wide", 80), ("-5", 80)])
def test_the_width_of_a_pipe_is_a_number(columns, width):
    """In a pipe COLUMNS counts where it is a number; anything else is as if it were not set."""
    assert open_terminal(environ={"COLUMNS": columns}).out.width == width
