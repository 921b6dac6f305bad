"""`sage key`: how a key gets in, and that it comes out nowhere."""

import asyncio
import json
import os
import pty
import signal
import sys
from collections.abc import Awaitable, Callable

import psutil
import pytest
from sage.embed.v1 import api_key_pb2
from sage_runtime.errors import Reason, SageError
from support.sage_command import Run
from support.waiting import until

WITNESS = "tlk_WITNESS-0123456789abcdefghijk-LAST"


@pytest.fixture
def piped(environ, tmp_path) -> Callable[..., Awaitable[Run]]:
    """A call runs `sage key` with this on its standard input, and finds the key in nothing that it prints."""

    async def run(*arguments: str, stdin: bytes = b"") -> Run:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "sage_cli", "key", *arguments),
            cwd=tmp_path,
            env=environ,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate(stdin)
        assert b"WITNESS" not in out + err
        return Run(process.returncode or 0, out.decode(), err.decode())

    return run


@pytest.fixture
def at_a_terminal(environ, tmp_path) -> Callable[..., Awaitable[Run]]:
    """A call runs `sage key` in a terminal where this is typed at the prompt; all that appears there is in `out`."""

    async def run(*arguments: str, typed: bytes) -> Run:
        ours, theirs = pty.openpty()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "sage_cli", "key", *arguments),
            cwd=tmp_path,
            env=environ | {"TERM": "xterm-256color"},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        prompt = await asyncio.to_thread(_read_until, ours, b"API key")
        # The argument list of a process is seen by everybody.
        assert "WITNESS" not in " ".join(psutil.Process(process.pid).cmdline())
        if typed == b"\x03":
            # It is shown before it is waited at, and a signal in between would wait for what is typed.
            await until(lambda: psutil.Process(process.pid).status() == psutil.STATUS_SLEEPING, timeout_s=10)
            # The terminal is not this process's own, so Ctrl-C does not become a signal by itself.
            process.send_signal(signal.SIGINT)
        else:
            os.write(ours, typed)
        shown = prompt + await asyncio.to_thread(_read_until, ours, None)
        os.close(ours)
        assert b"WITNESS" not in shown
        return Run(await process.wait(), shown.decode(), "")

    return run


async def test_a_key_is_typed_at_a_prompt_that_does_not_show_it(at_a_terminal, fake):
    """What reaches the server is the key; what appears is its last four characters."""
    outcome = await at_a_terminal("set", typed=f"{WITNESS}\n".encode())
    assert outcome.code == 0, outcome.out
    assert fake.keys == [WITNESS]
    assert "The key …LAST is set." in outcome.out


async def test_ctrl_c_at_the_prompt_ends_the_command(at_a_terminal, fake):
    """It ends as an interrupted command does, and nothing is sent."""
    outcome = await at_a_terminal("set", typed=b"\x03")
    assert (outcome.code, fake.keys) == (130, [])
    assert "Traceback" not in outcome.out


@pytest.mark.parametrize("typed", [b"\n", b"\x04"])
async def test_nothing_typed_is_nothing_set(at_a_terminal, fake, typed):
    """An empty line or Ctrl-D ends with the way to do it."""
    outcome = await at_a_terminal("set", typed=typed)
    assert (outcome.code, fake.keys) == (2, [])
    assert "No key came." in outcome.out


async def test_a_key_is_read_from_standard_input(piped, fake):
    """A file or a pipe does where there is no terminal."""
    outcome = await piped("set", stdin=f"{WITNESS}\n".encode())
    assert (outcome.code, outcome.out, outcome.err) == (0, "The key …LAST is set.\n", "")
    assert fake.keys == [f"{WITNESS}\n"]


@pytest.mark.parametrize("arguments", [[WITNESS], ["--key", WITNESS], [f"--key={WITNESS}"], ["--", WITNESS]])
async def test_a_key_is_not_taken_as_an_argument(piped, fake, arguments):
    """However it is given, the error says why and what to do instead, and does not repeat it."""
    outcome = await piped("set", *arguments, stdin=b"tlk_other_0001")
    assert (outcome.code, outcome.out, fake.keys) == (2, "", [])
    assert "not taken as an argument: everybody on this machine sees" in outcome.err
    assert "sage key set < FILE" in outcome.err


@pytest.mark.parametrize(
    ("stdin", "problem"),
    [(b"", "No key came."), (b" \n", "No key came."), (b"\xff\xfe", "not text"), (b"x" * 5000, "more than 4096 bytes")],
)
async def test_what_is_no_key_is_not_sent(piped, fake, stdin, problem):
    """Standard input may be anything."""
    outcome = await piped("set", stdin=stdin)
    assert (outcome.code, fake.keys) == (2, [])
    assert problem in outcome.err


@pytest.mark.parametrize(
    ("error", "hint"),
    [
        (SageError(Reason.API_KEY_INVALID, provider="TwelveLabs"), "`sage key set` sets another."),
        (SageError(Reason.ENCRYPTION_KEY_MISSING, why="x", setting="SAGE_KEY_ENCRYPTION_KEYS"), "docs/settings.md"),
        (SageError(Reason.API_KEY_MISSING, provider="TwelveLabs"), "`sage key set` sets one."),
    ],
)
async def test_a_refusal_has_a_next_step(piped, fake, error, hint):
    """The server's sentence, then what to do with this command."""
    fake.key_refusal = error
    outcome = await piped("set", stdin=WITNESS.encode())
    assert (outcome.code, outcome.out) == (2, "")
    assert hint in outcome.err


async def test_a_key_of_which_nothing_could_be_told_is_set_with_a_word_about_it(piped, fake):
    """It is stored; that it was not checked is said beside the result."""
    fake.key_status = api_key_pb2.API_KEY_STATUS_UNKNOWN
    outcome = await piped("set", stdin=WITNESS.encode())
    assert (outcome.code, outcome.out) == (0, "The key …LAST is set.\n")
    assert "`sage key check` asks again" in outcome.err


async def test_a_key_can_be_checked_without_being_set(piped, fake):
    """Nothing is stored, and the exit code says whether it would do."""
    outcome = await piped("set", "--check", stdin=WITNESS.encode())
    assert (outcome.code, outcome.out) == (0, "TwelveLabs takes the key …LAST.\n")
    assert not fake.key.present
    fake.key_status = api_key_pb2.API_KEY_STATUS_INVALID
    outcome = await piped("set", "--check", stdin=WITNESS.encode())
    assert (outcome.code, outcome.out) == (2, "")
    assert "TwelveLabs refuses the key …LAST." in outcome.err


async def test_the_key_in_use_is_checked(piped, fake):
    """Valid, refused, not to be told, and none at all: each has its words, and only the first exits with 0."""
    assert "There is no key to check." in (await piped("check")).err
    await piped("set", stdin=WITNESS.encode())
    seen = []
    for status in (
        api_key_pb2.API_KEY_STATUS_VALID,
        api_key_pb2.API_KEY_STATUS_INVALID,
        api_key_pb2.API_KEY_STATUS_UNKNOWN,
    ):
        fake.key_status = status
        outcome = await piped("check")
        seen.append((outcome.code, (outcome.out + outcome.err).splitlines()[0].removeprefix("sage: ")))
    assert seen == [
        (0, "TwelveLabs takes the key …LAST."),
        (2, "TwelveLabs refuses the key …LAST."),
        (2, "TwelveLabs could not be asked about the key …LAST."),
    ]
    assert set(fake.keys) == {"", WITNESS}


async def test_what_is_known_of_the_key_is_shown(piped):
    """A line with its last four characters, what TwelveLabs said and when; without a key a word about that."""
    outcome = await piped("show")
    assert (outcome.code, outcome.out) == (0, "")
    assert "There is no key." in outcome.err
    await piped("set", stdin=WITNESS.encode())
    outcome = await piped("show")
    assert outcome.out.splitlines() == [
        "key    status  checked            set by        provider",
        "…LAST  valid   2027-01-15 08:00Z  sage key set  twelvelabs",
    ]


async def test_scripts_get_json(piped):
    """`set`, `check` and `show` answer the API's document."""
    assert json.loads((await piped("show", "--json")).out)["present"] is False
    document = json.loads((await piped("set", "--json", stdin=WITNESS.encode())).out)
    assert document == {
        "provider": "twelvelabs",
        "present": True,
        "lastFour": "LAST",
        "status": "API_KEY_STATUS_VALID",
        "checkTime": "2027-01-15T08:00:00Z",
        "source": "API_KEY_SOURCE_STORED",
    }
    assert json.loads((await piped("show", "--json")).out) == document
    assert json.loads((await piped("check", "--json")).out) == document


async def test_a_key_that_is_set_makes_marengo_the_model_of_choice(sage, piped, films, fake):
    """With the model left open a diff embeds with the local model before, with Marengo after, as soon as it is set."""
    await sage("diff", *films)
    await piped("set", stdin=WITNESS.encode())
    await sage("diff", *films)
    models = [embedding.model for embedding in fake.embeddings.values()]
    assert models == ["local", "local", "marengo3.0", "marengo3.0"]


async def test_a_model_that_wants_a_key_names_the_way_to_set_one(sage, films):
    """The error says why the model cannot be used, how to get there, and what can be used without."""
    outcome = await sage("diff", *films, "--model", "marengo3.0")
    assert "`sage key set` sets its key" in outcome.err
    assert "These can be used: local." in outcome.err


async def test_a_key_is_removed(piped, fake):
    """Removing again is fine; where the server has one of its own, that is said."""
    await piped("set", stdin=WITNESS.encode())
    for _ in range(2):
        outcome = await piped("remove")
        assert (outcome.code, outcome.out, outcome.err) == (0, "No key is stored.\n", "")
    assert not fake.key.present
    fake.environment_key = api_key_pb2.ApiKey(
        provider="twelvelabs", present=True, last_four="ENVI", source=api_key_pb2.API_KEY_SOURCE_ENVIRONMENT
    )
    outcome = await piped("remove")
    assert "goes on with …ENVI" in outcome.err
    assert "never" in (await piped("show")).out


def _read_until(terminal: int, wanted: bytes | None) -> bytes:
    """Return what appears until `wanted` does; None: until the end."""
    shown = b""
    while wanted is None or wanted not in shown:
        try:
            chunk = os.read(terminal, 65_536)
        except OSError:
            # Linux says EIO once the other end is closed.
            return shown
        if not chunk:
            return shown
        shown += chunk
    return shown
