"""What the command line accepts and prints: files, IDs, addresses, media types, sizes, tables."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from sage_cli.api.client import Client
from sage_cli.api.errors import CommandError
from sage_cli.films.targets import (
    EmbeddingTarget,
    FileTarget,
    VideoTarget,
    guess_media_type,
    read_embedding_id,
    read_target,
    read_video_id,
)
from sage_cli.show.progress import shorten, size, size_of
from sage_cli.show.tables import Column, draw_table
from sage_cli.show.terminal import open_terminal

DIGITS = "0192f0c1d2e37a4b8c9d0e1f2a3b4c5d"


def test_ids_and_files_are_told_apart(tmp_path):
    """An ID is recognised by its form; anything else is a file."""
    film = tmp_path / "film.mp4"
    film.write_bytes(b"film")
    assert read_target(f"video_{DIGITS}") == VideoTarget(f"video_{DIGITS}")
    assert read_target(f"embed_{DIGITS}") == EmbeddingTarget(f"embed_{DIGITS}")
    assert read_target(str(film)) == FileTarget(film, 4)


@pytest.mark.parametrize("text", ["film.mp4", "/", f"video_{DIGITS}x", ""])
def test_commands_that_need_an_id_ask_for_an_id_not_for_a_file(text):
    for read, listed in ((read_video_id, "`sage videos`"), (read_embedding_id, "`sage embeddings`")):
        with pytest.raises(CommandError, match="is not the ID of") as caught:
            read(text)
        assert listed in caught.value.next_step


def test_ids_of_the_other_kind_are_refused():
    with pytest.raises(CommandError):
        read_video_id(f"embed_{DIGITS}")
    with pytest.raises(CommandError):
        read_embedding_id(f"video_{DIGITS}")
    assert read_video_id(f"video_{DIGITS}") == f"video_{DIGITS}"


def test_target_that_is_not_a_file_is_refused_with_the_reason(tmp_path):
    (tmp_path / "empty.mp4").touch()
    os.mkfifo(tmp_path / "pipe.mp4")
    expected = {
        "missing.mp4": "There is no file",
        "empty.mp4": "is empty",
        ".": "is a directory",
        "pipe.mp4": "is not a regular file",
    }
    for name, words in expected.items():
        with pytest.raises(CommandError, match=words) as caught:
            read_target(str(tmp_path / name))
        assert caught.value.next_step
    with pytest.raises(CommandError) as caught:
        read_target("video_123")
    assert "32 hexadecimal digits" in caught.value.next_step


def test_nul_in_a_path_is_refused():
    with pytest.raises(CommandError, match="is not a path"):
        read_target("a\0b")


@pytest.mark.skipif(os.geteuid() == 0, reason="root can read everything")
def test_unreadable_file_is_refused(tmp_path):
    film = tmp_path / "film.mp4"
    film.write_bytes(b"film")
    film.chmod(0)
    with pytest.raises(CommandError, match="permission denied"):
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
        ("film.txt", b"\0\0\0\x20ftypisom", "video/mp4"),
        ("a.nut", b"", "video/x-nut"),
        ("a.rm", b"", "video/vnd.rn-realvideo"),
        ("a.h264", b"", "video/h264"),
        ("film", b"nut/multimedia container\0", "video/x-nut"),
        ("film", b".RMF\0\0", "video/vnd.rn-realvideo"),
        ("film", b"YUV4MPEG2 W320 H180 F25:1\n", "video/x-yuv4mpeg"),
        ("film", b"\0\0\0\x01\x67", "application/octet-stream"),
        ("film.dat", b"\x80\x81", "application/octet-stream"),
    ],
)
def test_media_type_follows_from_the_name_or_the_first_bytes(tmp_path, name, content, media_type):
    (tmp_path / name).write_bytes(content)
    assert guess_media_type(tmp_path / name) == media_type


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\x89PNG\r\n\x1a\n", "is a PNG image, not a video"),
        (b"\xff\xd8\xff\xe0", "is a JPEG image"),
        (b"RIFF\0\0\0\0WEBP", "is a WebP image"),
        (b"RIFF\0\0\0\0WAVE", "is a WAV sound file"),
        (b"%PDF-1.7", "is a PDF document"),
        (b"PK\x03\x04", "is a ZIP archive"),
        (b"\0" * 257 + b"ustar", "is a tar archive"),
        (b"text\n", "is a text file"),
        (b"x" * 511 + "é".encode(), "is a text file"),
    ],
)
@pytest.mark.parametrize("name", ["film", "film.png"])
def test_file_that_is_plainly_something_else_needs_an_explicit_media_type(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CommandError, match=words) as caught:
        guess_media_type(tmp_path / name)
    assert "--content-type" in caught.value.next_step


@pytest.mark.parametrize("address", ["", "localhost", "host:port", "ftp://host:1", "host:1/path", ":8080"])
async def test_address_without_host_or_port_is_refused(address):
    with pytest.raises(CommandError, match="is not an address") as caught:
        Client(address)
    assert "localhost:8080" in caught.value.next_step


@pytest.mark.parametrize("address", ["localhost:1", "[::1]:1", "http://host", "https://host", "https://host:8443/"])
async def test_addresses_with_and_without_a_scheme_are_accepted(address):
    async with Client(address):
        pass


@pytest.mark.parametrize(
    ("count", "shown"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (999_960, "1.0 MB"), (123_456_789, "123 MB"), (5e13, "50000 GB")],
)
def test_sizes_have_two_or_three_digits(count, shown):
    assert size(count) == shown


def test_part_of_a_size_is_in_the_unit_of_the_total():
    assert [size_of(0, 60_000_000), size_of(41_900_000, 60_000_000)] == ["0.0/60.0 MB", "41.9/60.0 MB"]


COLUMNS = (Column("id"), Column("name", elastic=True), Column("size", right=True, keep=1), Column("when", keep=0))
ROWS = [("x" * 20, "a rather long name of a film", "1 MB", "2026-01-01"), ("y" * 20, "映画", "20 MB", "2026-01-02")]


def test_table_in_a_pipe_is_never_cut():
    """Columns line up even if characters are two columns wide."""
    header, first, second = (line.plain for line in draw_table(COLUMNS, ROWS, width=None))
    assert "a rather long name of a film" in first
    assert header.index("when") == first.index("2026")
    assert second.endswith("2026-01-02")


@pytest.mark.parametrize("width", [40, 50, 60, 80])
def test_table_fits_the_terminal(width):
    """The least important columns are dropped first, then names are shortened; IDs are never shortened."""
    lines = [line.plain for line in draw_table(COLUMNS, ROWS, width=width)]
    assert all(len(line) <= width for line in lines[:2])
    assert all(line.startswith(("id", "x" * 20, "y" * 20)) for line in lines)
    assert ("when" in lines[0]) == (width >= 60)


@given(st.text(), st.integers(3, 40))
def test_shortened_names_fit_and_keep_their_end(text, width):
    short = shorten(text, width)
    assert cell_len(short) <= width
    assert short == text or text.endswith(short.partition("…")[2])


@pytest.mark.parametrize(("columns", "width"), [("120", 120), ("", 80), ("0", 80), ("wide", 80), ("-5", 80)])
def test_the_width_of_a_pipe_is_columns_or_80(columns, width):
    """COLUMNS is used if it is a number, and ignored otherwise."""
    assert open_terminal(environ={"COLUMNS": columns}).out.width == width
