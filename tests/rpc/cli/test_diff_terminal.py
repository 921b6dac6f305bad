"""`sage diff` and `sage watch` in terminals and pipes, and when they are interrupted."""

import asyncio
import json
import os
import re
import shutil
import signal
import sys
from pathlib import Path

import pytest
from sage.embed.v1 import embed_pb2
from support.waiting import until_turned

SAMPLES = Path(__file__).parents[3] / "samples"


async def test_quiet_prints_nothing(sage, films):
    """The exit code remains, as with `cmp -s`."""
    outcome = await sage("diff", "--quiet", *films)
    assert (outcome.code, outcome.out, outcome.err) == (1, "", "")


@pytest.mark.parametrize(("sent", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
async def test_interrupt_cancels_what_was_started(environ, fake, films, tmp_path, sent, exit_code):
    """Embeddings of other clients continue."""
    fake.hang_embeddings = fake.hang_fingerprints = True
    other = fake.add_embedding(fake.add_video().id, state=embed_pb2.EMBEDDING_STATE_PROCESSING)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "sage_cli", "diff", *films),
        cwd=tmp_path,
        env=environ,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    await fake.working.wait()
    process.send_signal(sent)
    out, err = await process.communicate()
    assert process.returncode == exit_code
    assert out == b""
    assert err.startswith(b"Interrupted.")
    assert b"cancelled" in err
    assert b"Traceback" not in err
    assert other.state == embed_pb2.EMBEDDING_STATE_PROCESSING
    ours = [one for one in fake.embeddings.values() if one.id != other.id]
    assert {one.state for one in (*ours, *fake.fingerprints.values())} == {embed_pb2.EMBEDDING_STATE_CANCELLED}


async def test_interrupt_cancels_a_fingerprint_that_is_all_that_is_missing(environ, fake, tmp_path):
    fake.hang_fingerprints = True
    embedding = fake.add_embedding(fake.add_video().id)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "sage_cli", "compare", embedding.id, embedding.id),
        cwd=tmp_path,
        env=environ,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    await fake.working.wait()
    process.send_signal(signal.SIGINT)
    _, err = await process.communicate()
    assert (process.returncode, err) == (130, b"Interrupted. One fingerprint was cancelled.\n")
    assert fake.fingerprints[embedding.video_id].state == embed_pb2.EMBEDDING_STATE_CANCELLED


async def test_interrupt_leaves_what_another_command_waits_for(environ, fake, films, tmp_path):
    """Two commands for the same films: the first one that is interrupted cancels nothing, and the last one does."""
    fake.hang_embeddings = fake.hang_fingerprints = True

    async def start() -> asyncio.subprocess.Process:
        fake.working.clear()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "sage_cli", "diff", *films),
            cwd=tmp_path,
            env=environ,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        await fake.working.wait()
        return process

    async def interrupt(process: asyncio.subprocess.Process) -> str:
        process.send_signal(signal.SIGINT)
        _, err = await process.communicate()
        assert process.returncode == 130
        return err.decode().strip()

    first = await start()
    await until_turned(lambda: len(fake.embeddings) == 2, timeout_s=60)
    second = await start()
    await until_turned(
        lambda: len(fake.received) == 4 and {len(ids) for ids in fake.received.values()} == {2}, timeout_s=60
    )
    assert await interrupt(first) == (
        "Interrupted. 2 embeddings and 2 fingerprints continue, because someone else waits for them too."
    )
    assert {one.state for one in fake.embeddings.values()} == {embed_pb2.EMBEDDING_STATE_PROCESSING}
    assert await interrupt(second) == "Interrupted. 2 embeddings and 2 fingerprints were cancelled."
    assert {one.state for one in fake.embeddings.values()} == {embed_pb2.EMBEDDING_STATE_CANCELLED}


async def test_interrupt_leaves_what_another_command_watches(environ, fake, films, tmp_path):
    """The watch that the interrupted command has itself does not count."""
    fake.hang_embeddings = fake.hang_fingerprints = True

    async def start(*arguments: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "sage_cli", *arguments),
            cwd=tmp_path,
            env=environ,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    first = await start("diff", "--time", *films)
    await until_turned(lambda: fake.watches == 2, timeout_s=60)
    watched, other = fake.embeddings.values()
    watching = await start("watch", watched.id)
    await until_turned(lambda: fake.watched[watched.id] == 1, timeout_s=60)
    first.send_signal(signal.SIGINT)
    _, err = await first.communicate()
    assert err.decode().strip() == (
        "Interrupted. One embedding was cancelled. One embedding continues, because someone else waits for it too."
    )
    states = [watched.state, other.state]
    assert states == [embed_pb2.EMBEDDING_STATE_PROCESSING, embed_pb2.EMBEDDING_STATE_CANCELLED]
    watching.send_signal(signal.SIGINT)
    _, err = await watching.communicate()
    assert b"The work continues." in err


async def test_characters_that_the_encoding_lacks_are_escaped(sage, films, tmp_path):
    (tmp_path / "映画.mp4").write_bytes(b"film")
    await sage("upload", "映画.mp4")
    outcome = await sage("videos", PYTHONUTF8="0", PYTHONIOENCODING="ascii")
    assert outcome.code == 0, outcome.err
    assert "\\u6620\\u753b.mp4" in outcome.out
    outcome = await sage("diff", *films, PYTHONUTF8="0", PYTHONIOENCODING="ascii")
    assert "~~~~" in outcome.out
    assert "====" in outcome.out
    assert outcome.out.isascii()


async def test_pipe_has_no_escapes_and_no_progress(sage, films):
    outcome = await sage("diff", *films, TERM="xterm-256color")
    assert "\x1b" not in outcome.out + outcome.err
    assert "%" not in outcome.err


@pytest.mark.parametrize("columns", [60, 80, 132])
async def test_terminal_has_colour_and_progress(sage_in_terminal, films, columns):
    outcome = await sage_in_terminal("diff", *films, columns=columns)
    assert outcome.code == 1, outcome.out
    assert "\x1b[1;33m" in outcome.out
    assert "━" in outcome.out
    report = outcome.out[outcome.out.index("2 edits") :]
    assert "old.mp4" in report


async def test_no_color_is_honoured_in_a_terminal(sage_in_terminal, films):
    """The glyphs alone distinguish the kinds."""
    outcome = await sage_in_terminal("diff", *films, "--quiet", NO_COLOR="1")
    assert outcome.out == ""
    outcome = await sage_in_terminal("diff", *films, NO_COLOR="1")
    report = outcome.out[outcome.out.index("2 edits") :]
    assert "\x1b[" not in report
    assert "█" in report
    assert "~ replaced" in report
    assert "++++" in report


async def test_empty_no_color_is_ignored(sage_in_terminal, films):
    assert "\x1b[1;33m" in (await sage_in_terminal("diff", *films, NO_COLOR="")).out


@pytest.mark.parametrize("options", [(), ("--json",)])
async def test_closed_pipe_ends_the_command_quietly(environ, films, tmp_path, options):
    """`sage diff | head -1` does not exit with the code of a result."""
    ours, theirs = os.pipe()
    os.close(ours)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "sage_cli", "diff", *films, *options),
        cwd=tmp_path,
        env=environ,
        stdout=theirs,
        stderr=asyncio.subprocess.PIPE,
    )
    os.close(theirs)
    _, err = await process.communicate()
    assert process.returncode == 141
    assert err == b""


async def test_watch_prints_json_in_a_terminal_without_a_bar(sage_in_terminal, fake):
    embedding = fake.add_embedding(fake.add_video().id, state=embed_pb2.EMBEDDING_STATE_PENDING)
    outcome = await sage_in_terminal("watch", embedding.id, "--json", NO_COLOR="1")
    assert outcome.code == 0, outcome.out
    assert [json.loads(line)["progress"]["fraction"] for line in outcome.out.splitlines()] == [0.5, 1.0]


@pytest.fixture
def samples(tmp_path):
    """The two samples, named relative to the folder of the command."""
    for name in ("old.mp4", "new.mp4"):
        shutil.copy(SAMPLES / name, tmp_path / name)
    return "old.mp4", "new.mp4"


async def test_terminal_that_shows_pictures_has_a_pair_of_stills_per_edit(sage_in_terminal, samples):
    """A replaced shot has both, an inserted one only the new still."""
    outcome = await sage_in_terminal("diff", *samples, TERM="xterm-kitty")
    assert outcome.code == 1, outcome.out
    pictures = outcome.out[outcome.out.index("same  ") :]
    assert pictures.count("\x1b_Ga=T,") == 2
    text = re.sub(r"\x1b_G[^\x1b]*\x1b.|\x1b\[[0-9;]*m", "", pictures)
    assert "1  ~ replaced  old 00:00:06:00  new 00:00:06:00" in text
    assert "2  + inserted  not in old  new 00:00:21:06" in text
    outcome = await sage_in_terminal("diff", *samples, "--stills", "iterm")
    assert outcome.out.count("\x1b]1337;File=inline=1;") == 2
    outcome = await sage_in_terminal("diff", *samples, "--stills", "sixel")
    assert outcome.out.count("\x1bP0;1q") == 2


async def test_no_stills_in_pipes_or_json_or_of_stored_films(sage, sage_in_terminal, fake, samples):
    kitty = {"TERM": "xterm-kitty", "KITTY_WINDOW_ID": "1"}
    await sage("diff", *samples)
    ids = list(fake.videos)
    for outcome in (
        await sage("diff", *samples, **kitty),
        await sage("diff", *samples, "--stills", "kitty", **kitty),
        await sage_in_terminal("diff", *samples, "--json", **kitty),
        await sage_in_terminal("diff", *samples, "--quiet", **kitty),
        await sage_in_terminal("diff", *samples, "--stills", "never", **kitty),
        await sage_in_terminal("diff", *ids, **kitty),
    ):
        assert outcome.code == 1, outcome
        assert "\x1b_G" not in outcome.out
