"""The key in use."""

import asyncio

import pytest
from fakes.api_keys import WITNESS, FakeApiKeyRepository
from sage_embed.keys import api_keys
from sage_embed.keys.api_keys import CurrentKey
from sage_embed.keys.model import PROVIDER, KeyFacts, fingerprint
from sage_runtime.errors import SageError

FACTS = KeyFacts("LAST")


@pytest.fixture
def clock(monkeypatch) -> list[float]:
    """The clock of `CurrentKey`, to be changed in place."""
    now = [100.0]
    monkeypatch.setattr(api_keys.time, "monotonic", lambda: now[0])
    return now


async def test_the_repository_is_read_once_a_second(clock):
    repository = FakeApiKeyRepository()
    current = CurrentKey(repository, None)
    assert await current.current() is None
    await repository.put(PROVIDER, WITNESS, FACTS)
    clock[0] += 0.99
    assert await current.current() is None
    clock[0] += 0.02
    assert (await current.current()).secret == WITNESS
    assert repository.reads == 2


async def test_concurrent_calls_share_one_read():
    repository = FakeApiKeyRepository()
    current = CurrentKey(repository, WITNESS)
    keys = await asyncio.gather(*(current.current() for _ in range(1000)))
    assert {key.secret for key in keys} == {WITNESS}
    assert repository.reads == 1


async def test_forget_makes_the_next_call_read_again():
    repository = FakeApiKeyRepository()
    current = CurrentKey(repository, None)
    await current.current()
    await repository.put(PROVIDER, WITNESS, FACTS)
    current.forget()
    assert (await current.current()).secret == WITNESS


async def test_a_read_that_was_overtaken_by_a_change_is_not_kept():
    repository = FakeApiKeyRepository()
    current = CurrentKey(repository, None)
    original = repository.read

    async def slow_read(provider: str) -> str | None:
        found = await original(provider)
        if not repository.keys:
            await repository.put(PROVIDER, WITNESS, FACTS)
            current.forget()
        return found

    repository.read = slow_read
    assert await current.current() is None
    assert (await current.current()).secret == WITNESS


async def test_errors_are_not_cached():
    repository = FakeApiKeyRepository()
    current = CurrentKey(repository, WITNESS)
    repository.away = True
    with pytest.raises(SageError):
        await current.current()
    repository.away = False
    assert (await current.current()).secret == WITNESS


async def test_an_undecryptable_stored_key_is_not_replaced_by_the_environment_key():
    """Falling back would silently bill another account."""
    repository = FakeApiKeyRepository()
    await repository.put(PROVIDER, WITNESS, FACTS)
    repository.decrypts = False
    with pytest.raises(SageError, match="ENCRYPTION_KEY_MISSING"):
        await CurrentKey(repository, "tlk_environment_ENVI").current()


async def test_the_repr_of_a_key_shows_only_its_fingerprint():
    key = await CurrentKey(FakeApiKeyRepository(), WITNESS).current()
    assert WITNESS not in repr(key)
    assert key.fingerprint == fingerprint(WITNESS) == "8e4c5b4e165ff31c"
    assert fingerprint(WITNESS) != fingerprint(WITNESS + "x")
    assert not any(part in key.fingerprint for part in ("tlk", "WITNESS", "LAST"))
