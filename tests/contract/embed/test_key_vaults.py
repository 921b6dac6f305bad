"""What every vault for providers' keys does, and what PostgreSQL's keeps."""

import asyncio
import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
from fakes.api_keys import WITNESS, InMemoryKeyVault
from sage_embed.adapters.api_keys import PostgresKeyVault
from sage_embed.adapters.key_encryption import KeyRing
from sage_embed.config import SCHEMA
from sage_embed.key_model import KeyFacts, KeyStatus
from sage_embed.ports import KeyVault
from sage_runtime.errors import Reason, SageError
from sage_runtime.postgres import open_pool

OLD, NEW = os.urandom(32), os.urandom(32)
FACTS = KeyFacts("LAST", KeyStatus.VALID, datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC))


@pytest.fixture
async def key_pool(pool) -> AsyncIterator:
    """Connections to a database with no key in it."""
    async with pool.connection() as connection:
        await connection.execute("TRUNCATE api_keys")
    return pool


@pytest.fixture(params=["memory", "postgres"])
def vault(request) -> KeyVault:
    """Each vault in turn."""
    if request.param == "memory":
        return InMemoryKeyVault()
    return PostgresKeyVault(request.getfixturevalue("key_pool"), KeyRing({"new": NEW}))


@pytest.fixture(params=["memory", "postgres"])
def bare_vault(request) -> KeyVault:
    """Each vault in turn, with nothing to encrypt with."""
    if request.param == "memory":
        memory = InMemoryKeyVault()
        memory.encrypts = False
        return memory
    return PostgresKeyVault(request.getfixturevalue("key_pool"), KeyRing({}))


async def test_an_empty_vault_has_nothing(vault):
    """No key is None to read and to describe, and deleting it is fine."""
    assert await vault.read("twelvelabs") is None
    assert await vault.describe("twelvelabs") is None
    await vault.delete("twelvelabs")


async def test_a_stored_key_comes_back_with_what_is_known_of_it(vault):
    """The key is read, its facts are described, and only for its own provider."""
    await vault.put("twelvelabs", WITNESS, FACTS)
    assert await vault.read("twelvelabs") == WITNESS
    assert await vault.describe("twelvelabs") == FACTS
    assert await vault.read("another") is None


async def test_a_new_key_takes_the_place_of_the_old(vault):
    """Of the one before nothing is left, its facts included."""
    await vault.put("twelvelabs", "tlk_before_0001", KeyFacts("0001", KeyStatus.VALID, FACTS.check_time))
    later = KeyFacts("LAST", KeyStatus.UNKNOWN, datetime(2031, 1, 1, tzinfo=UTC))
    await vault.put("twelvelabs", WITNESS, later)
    assert (await vault.read("twelvelabs"), await vault.describe("twelvelabs")) == (WITNESS, later)


async def test_a_deleted_key_is_gone(vault):
    """Deleting again is fine."""
    await vault.put("twelvelabs", WITNESS, FACTS)
    for _ in range(2):
        await vault.delete("twelvelabs")
        assert await vault.read("twelvelabs") is None
        assert await vault.describe("twelvelabs") is None


async def test_without_encryption_nothing_is_stored(bare_vault):
    """Asking first and storing anyway come to the same."""
    with pytest.raises(SageError, match="ENCRYPTION_KEY_MISSING"):
        bare_vault.require_encryption()
    with pytest.raises(SageError, match="ENCRYPTION_KEY_MISSING"):
        await bare_vault.put("twelvelabs", WITNESS, FACTS)
    assert await bare_vault.describe("twelvelabs") is None


async def rows(pool) -> list[dict]:
    """Return what is in the table."""
    async with pool.connection() as connection:
        return await (await connection.execute("SELECT * FROM api_keys")).fetchall()


async def test_the_key_is_nowhere_in_the_table(key_pool):
    """Of the key itself only the last four characters are there in clear."""
    await PostgresKeyVault(key_pool, KeyRing({"new": NEW})).put("twelvelabs", WITNESS, FACTS)
    (row,) = await rows(key_pool)
    assert row["last_four"] == "LAST"
    assert row["encryption_key_id"] == "new"
    content = b"\0".join(value if isinstance(value, bytes) else str(value).encode() for value in row.values())
    assert WITNESS[:-4].encode() not in content
    assert b"WITNESS" not in content
    assert WITNESS.encode().hex().encode() not in content


async def test_a_key_of_another_ring_is_described_but_not_read(key_pool):
    """Whoever lost what it was encrypted with can still see and replace it."""
    await PostgresKeyVault(key_pool, KeyRing({"old": OLD})).put("twelvelabs", WITNESS, FACTS)
    vault = PostgresKeyVault(key_pool, KeyRing({"new": NEW}))
    assert await vault.describe("twelvelabs") == FACTS
    with pytest.raises(SageError) as caught:
        await vault.read("twelvelabs")
    assert caught.value.reason is Reason.ENCRYPTION_KEY_MISSING
    await vault.put("twelvelabs", WITNESS, FACTS)
    assert await vault.read("twelvelabs") == WITNESS


async def test_rotation_leaves_nothing_under_the_old_key(key_pool):
    """After it the new key alone reads all, the facts are as before, and a second run has nothing to do."""
    before = PostgresKeyVault(key_pool, KeyRing({"old": OLD}))
    await before.put("twelvelabs", WITNESS, FACTS)
    await before.put("another", "another-key-0002", FACTS)
    both = PostgresKeyVault(key_pool, KeyRing({"new": NEW, "old": OLD}))
    assert (await both.rotate(), await both.rotate()) == (2, 0)
    after = PostgresKeyVault(key_pool, KeyRing({"new": NEW}))
    assert (await after.read("twelvelabs"), await after.read("another")) == (WITNESS, "another-key-0002")
    assert await after.describe("twelvelabs") == FACTS


async def test_rotation_is_all_or_nothing(key_pool):
    """Where one key cannot be decrypted, none is changed."""
    await PostgresKeyVault(key_pool, KeyRing({"old": OLD})).put("another", "another-key-0002", FACTS)
    await PostgresKeyVault(key_pool, KeyRing({"lost": os.urandom(32)})).put("twelvelabs", WITNESS, FACTS)
    before = await rows(key_pool)
    with pytest.raises(SageError, match="ENCRYPTION_KEY_MISSING"):
        await PostgresKeyVault(key_pool, KeyRing({"new": NEW, "old": OLD})).rotate()
    assert await rows(key_pool) == before


async def test_a_key_that_is_set_during_rotation_is_not_lost(key_pool):
    """Whichever comes first, the new one is there at the end."""
    old = PostgresKeyVault(key_pool, KeyRing({"old": OLD}))
    both = PostgresKeyVault(key_pool, KeyRing({"new": NEW, "old": OLD}))
    for number in range(10):
        await old.put("twelvelabs", "tlk_before_0001", FACTS)
        latest = f"tlk_latest_{number:04}"
        await asyncio.gather(both.rotate(), both.put("twelvelabs", latest, FACTS))
        assert await both.read("twelvelabs") == latest


async def test_a_database_that_is_away_is_store_unavailable():
    """Every method says so, and none says the key."""
    async with await open_pool("postgresql://127.0.0.1:1/none", schema=SCHEMA) as pool:
        pool.timeout = 0.2
        vault = PostgresKeyVault(pool, KeyRing({"new": NEW}))
        calls = [
            vault.put("twelvelabs", WITNESS, FACTS),
            vault.read("twelvelabs"),
            vault.describe("twelvelabs"),
            vault.delete("twelvelabs"),
            vault.rotate(),
        ]
        for call in calls:
            with pytest.raises(SageError) as caught:
                await call
            assert caught.value.reason is Reason.STORE_UNAVAILABLE
            assert WITNESS not in f"{caught.value!r} {caught.value.__cause__!r}"
