"""`sage key`: how a key is entered, and that it is never printed."""

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
    """A call runs `sage key` with this standard input, and checks that the key is not printed."""

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
    """A call runs `sage key` in a terminal and types this at the prompt; `out` has everything that appears."""

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
        # Every user can see the arguments of a process.
        assert "WITNESS" not in " ".join(psutil.Process(process.pid).cmdline())
        if typed == b"\x03":
            # The prompt appears before it waits for input, and a signal in between would not end it.
            await until(lambda: psutil.Process(process.pid).status() == psutil.STATUS_SLEEPING, timeout_s=10)
            # This is not the controlling terminal of the process, so Ctrl-C does not become a signal by itself.
            process.send_signal(signal.SIGINT)
        else:
            os.write(ours, typed)
        shown = prompt + await asyncio.to_thread(_read_until, ours, None)
        os.close(ours)
        assert b"WITNESS" not in shown
        return Run(await process.wait(), shown.decode(), "")

    return run


async def test_key_typed_at_the_prompt_is_not_shown(at_a_terminal, fake):
    outcome = await at_a_terminal("set", typed=f"{WITNESS}\n".encode())
    assert outcome.code == 0, outcome.out
    assert fake.keys == [WITNESS]
    assert "The key …LAST is set." in outcome.out


async def test_ctrl_c_at_the_prompt_ends_the_command(at_a_terminal, fake):
    outcome = await at_a_terminal("set", typed=b"\x03")
    assert (outcome.code, fake.keys) == (130, [])
    assert "Traceback" not in outcome.out


@pytest.mark.parametrize("typed", [b"\n", b"\x04"])
async def test_empty_input_sets_nothing(at_a_terminal, fake, typed):
    """Neither an empty line nor Ctrl-D is a key."""
    outcome = await at_a_terminal("set", typed=typed)
    assert (outcome.code, fake.keys) == (2, [])
    assert "No key was entered." in outcome.out


async def test_key_is_read_from_standard_input(piped, fake):
    outcome = await piped("set", stdin=f"{WITNESS}\n".encode())
    assert (outcome.code, outcome.out, outcome.err) == (0, "The key …LAST is set.\n", "")
    assert fake.keys == [f"{WITNESS}\n"]


@pytest.mark.parametrize("arguments", [[WITNESS], ["--key", WITNESS], [f"--key={WITNESS}"], ["--", WITNESS]])
async def test_key_is_refused_as_an_argument(piped, fake, arguments):
    """The error explains why and what to do instead, and does not print the key."""
    outcome = await piped("set", *arguments, stdin=b"tlk_other_0001")
    assert (outcome.code, outcome.out, fake.keys) == (2, "", [])
    assert "not accepted as an argument: everyone on this machine can see" in outcome.err
    assert "sage key set < FILE" in outcome.err


@pytest.mark.parametrize(
    ("stdin", "problem"),
    [
        (b"", "No key was entered."),
        (b" \n", "No key was entered."),
        (b"\xff\xfe", "not text"),
        (b"x" * 5000, "longer than 4096 bytes"),
    ],
)
async def test_input_that_is_not_a_key_is_not_sent(piped, fake, stdin, problem):
    outcome = await piped("set", stdin=stdin)
    assert (outcome.code, fake.keys) == (2, [])
    assert problem in outcome.err


@pytest.mark.parametrize(
    ("error", "hint"),
    [
        (SageError(Reason.API_KEY_INVALID, provider="TwelveLabs"), "`sage key set` replaces it."),
        (SageError(Reason.ENCRYPTION_KEY_MISSING, why="x", setting="SAGE_KEY_ENCRYPTION_KEYS"), "docs/settings.md"),
        (SageError(Reason.API_KEY_MISSING, provider="TwelveLabs"), "`sage key set` sets one."),
    ],
)
async def test_refusal_has_a_next_step(piped, fake, error, hint):
    fake.key_refusal = error
    outcome = await piped("set", stdin=WITNESS.encode())
    assert (outcome.code, outcome.out) == (2, "")
    assert hint in outcome.err


async def test_key_that_could_not_be_checked_is_set_with_a_note(piped, fake):
    fake.key_status = api_key_pb2.API_KEY_STATUS_UNKNOWN
    outcome = await piped("set", stdin=WITNESS.encode())
    assert (outcome.code, outcome.out) == (0, "The key …LAST is set.\n")
    assert "`sage key check` tries again" in outcome.err


async def test_key_can_be_checked_without_being_set(piped, fake):
    outcome = await piped("set", "--check", stdin=WITNESS.encode())
    assert (outcome.code, outcome.out) == (0, "The key …LAST is valid.\n")
    assert not fake.key.present
    fake.key_status = api_key_pb2.API_KEY_STATUS_INVALID
    outcome = await piped("set", "--check", stdin=WITNESS.encode())
    assert (outcome.code, outcome.out) == (2, "")
    assert "TwelveLabs rejected the key …LAST." in outcome.err


async def test_the_key_in_use_is_checked(piped, fake):
    """Only a valid key exits with 0."""
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
        (0, "The key …LAST is valid."),
        (2, "TwelveLabs rejected the key …LAST."),
        (2, "The key …LAST could not be checked with TwelveLabs."),
    ]
    assert set(fake.keys) == {"", WITNESS}


async def test_description_of_the_key_is_shown(piped):
    outcome = await piped("show")
    assert (outcome.code, outcome.out) == (0, "")
    assert "There is no key." in outcome.err
    await piped("set", stdin=WITNESS.encode())
    outcome = await piped("show")
    assert outcome.out.splitlines() == [
        "key    status  checked            source        provider",
        "…LAST  valid   2027-01-15 08:00Z  sage key set  twelvelabs",
    ]


async def test_json_is_the_document_of_the_api(piped):
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


async def test_marengo_is_the_default_model_once_a_key_is_set(sage, piped, films, fake):
    await sage("diff", *films)
    await piped("set", stdin=WITNESS.encode())
    await sage("diff", *films)
    models = [embedding.model for embedding in fake.embeddings.values()]
    assert models == ["local", "local", "marengo3.0", "marengo3.0"]


async def test_model_without_its_key_names_the_command_that_sets_one(sage, films):
    outcome = await sage("diff", *films, "--model", "marengo3.0")
    assert "`sage key set` sets its key" in outcome.err
    assert "Usable models: local." in outcome.err


async def test_key_is_removed(piped, fake):
    """Removing it again succeeds. A key from the server's environment remains and is mentioned."""
    await piped("set", stdin=WITNESS.encode())
    for _ in range(2):
        outcome = await piped("remove")
        assert (outcome.code, outcome.out, outcome.err) == (0, "No key is stored.\n", "")
    assert not fake.key.present
    fake.environment_key = api_key_pb2.ApiKey(
        provider="twelvelabs", present=True, last_four="ENVI", source=api_key_pb2.API_KEY_SOURCE_ENVIRONMENT
    )
    outcome = await piped("remove")
    assert "now uses …ENVI" in outcome.err
    assert "never" in (await piped("show")).out


def _read_until(terminal: int, wanted: bytes | None) -> bytes:
    """Return what appears until `wanted` does; None for everything."""
    shown = b""
    while wanted is None or wanted not in shown:
        try:
            chunk = os.read(terminal, 65_536)
        except OSError:
            # Linux raises EIO once the other end is closed.
            return shown
        if not chunk:
            return shown
        shown += chunk
    return shown
