"""The key to use now."""

import asyncio

import pytest
from fakes.api_keys import WITNESS, InMemoryKeyVault
from sage_embed import current_key
from sage_embed.current_key import CurrentKey, fingerprint
from sage_embed.key_model import PROVIDER, KeyFacts
from sage_runtime.errors import SageError

FACTS = KeyFacts("LAST")


@pytest.fixture
def clock(monkeypatch) -> list[float]:
    """The time that `CurrentKey` sees, to be changed in place."""
    now = [100.0]
    monkeypatch.setattr(current_key.time, "monotonic", lambda: now[0])
    return now


async def test_the_store_is_asked_once_a_second(clock):
    """Within a second a key that was changed elsewhere is not seen, after it is."""
    vault = InMemoryKeyVault()
    current = CurrentKey(vault, None)
    assert await current.current() is None
    await vault.put(PROVIDER, WITNESS, FACTS)
    clock[0] += 0.99
    assert await current.current() is None
    clock[0] += 0.02
    assert (await current.current()).secret == WITNESS
    assert vault.reads == 2


async def test_many_at_once_ask_the_store_once():
    """A thousand tasks that want the key at the same moment cost one read."""
    vault = InMemoryKeyVault()
    current = CurrentKey(vault, WITNESS)
    keys = await asyncio.gather(*(current.current() for _ in range(1000)))
    assert {key.secret for key in keys} == {WITNESS}
    assert vault.reads == 1


async def test_what_is_forgotten_is_read_again_at_once():
    """A key that this process sets is the one that it uses next."""
    vault = InMemoryKeyVault()
    current = CurrentKey(vault, None)
    await current.current()
    await vault.put(PROVIDER, WITNESS, FACTS)
    current.forget()
    assert (await current.current()).secret == WITNESS


async def test_a_read_that_was_overtaken_is_not_kept():
    """A key that is set while the old one is being read wins."""
    vault = InMemoryKeyVault()
    current = CurrentKey(vault, None)
    original = vault.read

    async def slow_read(provider: str) -> str | None:
        found = await original(provider)
        if not vault.keys:
            await vault.put(PROVIDER, WITNESS, FACTS)
            current.forget()
        return found

    vault.read = slow_read
    assert await current.current() is None
    assert (await current.current()).secret == WITNESS


async def test_trouble_is_not_kept():
    """An error is told to whoever asked, and the next one asks again."""
    vault = InMemoryKeyVault()
    current = CurrentKey(vault, WITNESS)
    vault.away = True
    with pytest.raises(SageError):
        await current.current()
    vault.away = False
    assert (await current.current()).secret == WITNESS


async def test_a_stored_key_that_cannot_be_decrypted_is_not_passed_over():
    """Falling back to another key would bill another account without a word."""
    vault = InMemoryKeyVault()
    await vault.put(PROVIDER, WITNESS, FACTS)
    vault.decrypts = False
    with pytest.raises(SageError, match="ENCRYPTION_KEY_MISSING"):
        await CurrentKey(vault, "tlk_environment_ENVI").current()


async def test_a_key_does_not_show_itself():
    """Its repr has the fingerprint alone, which is the same everywhere and nothing of the key."""
    key = await CurrentKey(InMemoryKeyVault(), WITNESS).current()
    assert WITNESS not in repr(key)
    assert key.fingerprint == fingerprint(WITNESS) == "8e4c5b4e165ff31c"
    assert fingerprint(WITNESS) != fingerprint(WITNESS + "x")
    assert not any(part in key.fingerprint for part in ("tlk", "WITNESS", "LAST"))
