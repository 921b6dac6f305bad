"""`python -m sage_embed` and the keys in its settings."""

import asyncio
import base64
import os
import subprocess
import sys
from datetime import UTC, datetime

import psycopg
import pytest
from fakes.api_keys import WITNESS
from sage_embed.adapters.api_keys import PostgresKeyVault
from sage_embed.adapters.key_encryption import KeyRing
from sage_embed.config import SCHEMA
from sage_embed.key_model import KeyFacts, KeyStatus
from sage_runtime.postgres import open_pool

OLD, NEW = os.urandom(32), os.urandom(32)
_OURS = ("SAGE_", "TWELVELABS_")


async def run(command: str, **environment: str) -> tuple[int, str]:
    """Run a command to its end and return its exit code and what it wrote, which is no key."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "sage_embed", command),
        env={**inherited, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    output, _ = await asyncio.wait_for(process.communicate(), 60)
    text = output.decode()
    assert not any(part in text for part in (WITNESS, "WITNESS", encoded(OLD), encoded(NEW)))
    return process.returncode or 0, text


def encoded(key: bytes) -> str:
    """Return a key as the settings have it."""
    return base64.b64encode(key).decode()


@pytest.fixture
async def stored(database_url) -> str:
    """A database with a key that is encrypted under the old key-encryption key."""
    async with await open_pool(database_url, schema=SCHEMA) as pool:
        vault = PostgresKeyVault(pool, KeyRing({"old": OLD}))
        await vault.put("twelvelabs", WITNESS, KeyFacts("LAST", KeyStatus.VALID, datetime.now(UTC)))
    return database_url


async def test_stored_keys_are_encrypted_anew(stored):
    """After `rotate-keys` the old key-encryption key can be dropped; the count is in the log."""
    ring = f"new:{encoded(NEW)},old:{encoded(OLD)}"
    code, output = await run("rotate-keys", SAGE_DATABASE_URL=stored, SAGE_KEY_ENCRYPTION_KEYS=ring)
    assert code == 0, output
    assert '"event": "keys_rotated"' in output
    assert '"count": 1' in output
    async with await open_pool(stored, schema=SCHEMA) as pool:
        assert await PostgresKeyVault(pool, KeyRing({"new": NEW})).read("twelvelabs") == WITNESS


async def test_what_cannot_be_rotated_stays_as_it_is(stored):
    """The command ends with code 2 and a line that says which key-encryption key is missing."""
    ring = f"new:{encoded(NEW)}"
    code, output = await run("rotate-keys", SAGE_DATABASE_URL=stored, SAGE_KEY_ENCRYPTION_KEYS=ring)
    assert code == 2
    assert output.startswith("error: the keys were not rotated: ")
    assert "encrypted under the key-encryption key 'old', which it was not started with" in output
    with psycopg.connect(stored, options=f"-c search_path={SCHEMA}") as connection:
        assert connection.execute("SELECT encryption_key_id FROM api_keys").fetchall() == [("old",)]


@pytest.mark.parametrize("command", ["serve", "worker"])
async def test_key_encryption_keys_that_cannot_be_used_are_one_line(command):
    """Every process that needs them ends with code 2, the setting's name, and nothing of its value."""
    ring = f"old:{encoded(OLD)},{encoded(NEW)}"
    code, output = await run(command, SAGE_DATABASE_URL="postgresql://127.0.0.1:1/none", SAGE_KEY_ENCRYPTION_KEYS=ring)
    assert code == 2
    line = output.splitlines()[-1]
    assert line.startswith("error: SAGE_KEY_ENCRYPTION_KEYS: entry 2 is not ID:KEY")
    assert "Traceback" not in output


async def test_a_key_of_the_environment_that_is_none_is_one_line(database_url):
    """The line says what is wrong and nothing of the value."""
    code, output = await run("serve", SAGE_DATABASE_URL=database_url, TWELVELABS_API_KEY=f"{WITNESS} {WITNESS}")
    assert code == 2
    assert output == (
        "error: TWELVELABS_API_KEY: must be letters, digits and signs of ASCII, with no space or line break inside\n"
    )
