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
from sage_embed.config import SCHEMA
from sage_embed.keys.encryption import KeyRing
from sage_embed.keys.model import KeyFacts, KeyStatus
from sage_embed.keys.postgres import PostgresApiKeyRepository
from sage_runtime.postgres import open_pool

OLD, NEW = os.urandom(32), os.urandom(32)
_OURS = ("SAGE_", "TWELVELABS_")
# The service and its workers need a store; none of these runs gets as far as using it.
_STORE = {"S3_BUCKET_NAME": "none"}


async def run(command: str, **environment: str) -> tuple[int, str]:
    """Run a command and return its exit code and output, which must not contain a key."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "sage_embed", command),
        env={**inherited, **_STORE, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    output, _ = await asyncio.wait_for(process.communicate(), 60)
    text = output.decode()
    assert not any(part in text for part in (WITNESS, "WITNESS", encoded(OLD), encoded(NEW)))
    return process.returncode or 0, text


def encoded(key: bytes) -> str:
    """Return a key as it is written in the settings."""
    return base64.b64encode(key).decode()


@pytest.fixture
async def stored(database_url) -> str:
    """A database with a key that is encrypted with the old key-encryption key."""
    async with await open_pool(database_url, schema=SCHEMA) as pool:
        repository = PostgresApiKeyRepository(pool, KeyRing({"old": OLD}))
        await repository.put("twelvelabs", WITNESS, KeyFacts("LAST", KeyStatus.VALID, datetime.now(UTC)))
    return database_url


async def test_rotate_keys_reencrypts_stored_keys(stored):
    ring = f"new:{encoded(NEW)},old:{encoded(OLD)}"
    code, output = await run("rotate-keys", SAGE_DATABASE_URL=stored, SAGE_KEY_ENCRYPTION_KEYS=ring)
    assert code == 0, output
    assert '"event": "keys_rotated"' in output
    assert '"count": 1' in output
    async with await open_pool(stored, schema=SCHEMA) as pool:
        assert await PostgresApiKeyRepository(pool, KeyRing({"new": NEW})).read("twelvelabs") == WITNESS


async def test_keys_that_cannot_be_rotated_are_unchanged(stored):
    ring = f"new:{encoded(NEW)}"
    code, output = await run("rotate-keys", SAGE_DATABASE_URL=stored, SAGE_KEY_ENCRYPTION_KEYS=ring)
    assert code == 2
    assert output.startswith("error: the keys were not rotated: ")
    assert "encrypted with the key-encryption key 'old', which this process does not have" in output
    with psycopg.connect(stored, options=f"-c search_path={SCHEMA}") as connection:
        assert connection.execute("SELECT encryption_key_id FROM api_keys").fetchall() == [("old",)]


@pytest.mark.parametrize("command", ["serve", "worker"])
async def test_unusable_key_encryption_keys_are_reported_in_one_line(command):
    ring = f"old:{encoded(OLD)},{encoded(NEW)}"
    code, output = await run(command, SAGE_DATABASE_URL="postgresql://127.0.0.1:1/none", SAGE_KEY_ENCRYPTION_KEYS=ring)
    assert code == 2
    line = output.splitlines()[-1]
    assert line.startswith("error: SAGE_KEY_ENCRYPTION_KEYS: entry 2 is not ID:KEY")
    assert "Traceback" not in output


async def test_a_malformed_key_in_the_environment_is_reported_in_one_line(database_url):
    code, output = await run("serve", SAGE_DATABASE_URL=database_url, TWELVELABS_API_KEY=f"{WITNESS} {WITNESS}")
    assert code == 2
    assert output == "error: TWELVELABS_API_KEY: must be visible ASCII characters without spaces or line breaks\n"
