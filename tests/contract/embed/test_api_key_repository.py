"""The contract of `ApiKeyRepository`, and what PostgreSQL stores."""

import asyncio
import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
from fakes.api_keys import WITNESS, FakeApiKeyRepository
from sage_embed.config import SCHEMA
from sage_embed.keys.encryption import KeyRing
from sage_embed.keys.model import ApiKeyRepository, KeyFacts, KeyStatus
from sage_embed.keys.postgres import PostgresApiKeyRepository
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
def repository(request) -> ApiKeyRepository:
    """Each repository in turn."""
    if request.param == "memory":
        return FakeApiKeyRepository()
    return PostgresApiKeyRepository(request.getfixturevalue("key_pool"), KeyRing({"new": NEW}))


@pytest.fixture(params=["memory", "postgres"])
def bare_repository(request) -> ApiKeyRepository:
    """Each repository in turn, without a key-encryption key."""
    if request.param == "memory":
        memory = FakeApiKeyRepository()
        memory.encrypts = False
        return memory
    return PostgresApiKeyRepository(request.getfixturevalue("key_pool"), KeyRing({}))


async def test_an_empty_repository_has_no_key(repository):
    assert await repository.read("twelvelabs") is None
    assert await repository.describe("twelvelabs") is None
    await repository.delete("twelvelabs")


async def test_a_stored_key_is_returned_with_its_facts(repository):
    await repository.put("twelvelabs", WITNESS, FACTS)
    assert await repository.read("twelvelabs") == WITNESS
    assert await repository.describe("twelvelabs") == FACTS
    assert await repository.read("another") is None


async def test_a_new_key_replaces_the_previous_one(repository):
    await repository.put("twelvelabs", "tlk_before_0001", KeyFacts("0001", KeyStatus.VALID, FACTS.check_time))
    later = KeyFacts("LAST", KeyStatus.UNKNOWN, datetime(2031, 1, 1, tzinfo=UTC))
    await repository.put("twelvelabs", WITNESS, later)
    assert (await repository.read("twelvelabs"), await repository.describe("twelvelabs")) == (WITNESS, later)


async def test_deleting_is_idempotent(repository):
    await repository.put("twelvelabs", WITNESS, FACTS)
    for _ in range(2):
        await repository.delete("twelvelabs")
        assert await repository.read("twelvelabs") is None
        assert await repository.describe("twelvelabs") is None


async def test_without_encryption_nothing_is_stored(bare_repository):
    with pytest.raises(SageError, match="ENCRYPTION_KEY_MISSING"):
        bare_repository.require_encryption()
    with pytest.raises(SageError, match="ENCRYPTION_KEY_MISSING"):
        await bare_repository.put("twelvelabs", WITNESS, FACTS)
    assert await bare_repository.describe("twelvelabs") is None


async def rows(pool) -> list[dict]:
    """Return what is in the table."""
    async with pool.connection() as connection:
        return await (await connection.execute("SELECT * FROM api_keys")).fetchall()


async def test_the_table_contains_only_the_last_four_characters_in_clear(key_pool):
    await PostgresApiKeyRepository(key_pool, KeyRing({"new": NEW})).put("twelvelabs", WITNESS, FACTS)
    (row,) = await rows(key_pool)
    assert row["last_four"] == "LAST"
    assert row["encryption_key_id"] == "new"
    content = b"\0".join(value if isinstance(value, bytes) else str(value).encode() for value in row.values())
    assert WITNESS[:-4].encode() not in content
    assert b"WITNESS" not in content
    assert WITNESS.encode().hex().encode() not in content


async def test_a_key_of_another_ring_can_be_described_and_replaced_but_not_read(key_pool):
    await PostgresApiKeyRepository(key_pool, KeyRing({"old": OLD})).put("twelvelabs", WITNESS, FACTS)
    repository = PostgresApiKeyRepository(key_pool, KeyRing({"new": NEW}))
    assert await repository.describe("twelvelabs") == FACTS
    with pytest.raises(SageError) as caught:
        await repository.read("twelvelabs")
    assert caught.value.reason is Reason.ENCRYPTION_KEY_MISSING
    await repository.put("twelvelabs", WITNESS, FACTS)
    assert await repository.read("twelvelabs") == WITNESS


async def test_after_rotation_the_new_key_alone_decrypts_everything(key_pool):
    before = PostgresApiKeyRepository(key_pool, KeyRing({"old": OLD}))
    await before.put("twelvelabs", WITNESS, FACTS)
    await before.put("another", "another-key-0002", FACTS)
    both = PostgresApiKeyRepository(key_pool, KeyRing({"new": NEW, "old": OLD}))
    assert (await both.rotate(), await both.rotate()) == (2, 0)
    after = PostgresApiKeyRepository(key_pool, KeyRing({"new": NEW}))
    assert (await after.read("twelvelabs"), await after.read("another")) == (WITNESS, "another-key-0002")
    assert await after.describe("twelvelabs") == FACTS


async def test_rotation_is_all_or_nothing(key_pool):
    await PostgresApiKeyRepository(key_pool, KeyRing({"old": OLD})).put("another", "another-key-0002", FACTS)
    await PostgresApiKeyRepository(key_pool, KeyRing({"lost": os.urandom(32)})).put("twelvelabs", WITNESS, FACTS)
    before = await rows(key_pool)
    with pytest.raises(SageError, match="ENCRYPTION_KEY_MISSING"):
        await PostgresApiKeyRepository(key_pool, KeyRing({"new": NEW, "old": OLD})).rotate()
    assert await rows(key_pool) == before


async def test_a_key_that_is_set_during_rotation_is_not_lost(key_pool):
    old = PostgresApiKeyRepository(key_pool, KeyRing({"old": OLD}))
    both = PostgresApiKeyRepository(key_pool, KeyRing({"new": NEW, "old": OLD}))
    for number in range(10):
        await old.put("twelvelabs", "tlk_before_0001", FACTS)
        latest = f"tlk_latest_{number:04}"
        await asyncio.gather(both.rotate(), both.put("twelvelabs", latest, FACTS))
        assert await both.read("twelvelabs") == latest


async def test_an_unreachable_database_is_store_unavailable():
    async with await open_pool("postgresql://127.0.0.1:1/none", schema=SCHEMA) as pool:
        pool.timeout = 0.2
        repository = PostgresApiKeyRepository(pool, KeyRing({"new": NEW}))
        calls = [
            repository.put("twelvelabs", WITNESS, FACTS),
            repository.read("twelvelabs"),
            repository.describe("twelvelabs"),
            repository.delete("twelvelabs"),
            repository.rotate(),
        ]
        for call in calls:
            with pytest.raises(SageError) as caught:
                await call
            assert caught.value.reason is Reason.STORE_UNAVAILABLE
            assert WITNESS not in f"{caught.value!r} {caught.value.__cause__!r}"
