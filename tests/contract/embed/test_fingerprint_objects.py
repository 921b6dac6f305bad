"""The contract of the store of fingerprints, over the fake and S3."""

import contextlib
from collections.abc import Iterator

import pytest
from fakes.fingerprints import InMemoryFingerprintObjects
from sage_embed.config import EmbedSettings
from sage_embed.fingerprints.ports import FingerprintObjects
from sage_embed.fingerprints.storage import S3FingerprintObjects
from sage_runtime.errors import SageError

KEY = "fingerprints/video_1/1/00000-7"
DATA = bytes(range(256)) * 10


@pytest.fixture
def s3_store(s3_server, make_bucket, monkeypatch) -> Iterator[S3FingerprintObjects]:
    bucket = make_bucket()
    for name, value in s3_server.environment(bucket).items():
        if value:
            monkeypatch.setenv(name, value)
    with contextlib.closing(S3FingerprintObjects.open(EmbedSettings(database_url="postgresql://"))) as store:
        yield store


@pytest.fixture(params=["fake", "s3"])
def store(request) -> FingerprintObjects:
    """Return the fake store, then S3."""
    return InMemoryFingerprintObjects() if request.param == "fake" else request.getfixturevalue("s3_store")


async def test_objects_are_read_in_parts(store):
    await store.put(KEY, DATA)
    assert await store.read(KEY, offset=0, length=100) == DATA[:100]
    assert await store.read(KEY, offset=2500, length=60) == DATA[2500:]


async def test_what_is_missing_is_told_from_a_store_that_fails(store):
    with pytest.raises(KeyError):
        await store.read(KEY, offset=0, length=1)


async def test_objects_are_removed_if_they_exist(store):
    await store.put(KEY, DATA)
    await store.remove([KEY, f"{KEY}-missing"])
    with pytest.raises(KeyError):
        await store.read(KEY, offset=0, length=1)
    await store.check()


async def test_a_missing_bucket_is_named_and_fails_further_calls_at_once(s3_server, monkeypatch):
    for name, value in s3_server.environment("none-such").items():
        if value:
            monkeypatch.setenv(name, value)
    with contextlib.closing(S3FingerprintObjects.open(EmbedSettings(database_url="postgresql://"))) as store:
        with pytest.raises(SageError, match="STORE_MISCONFIGURED") as refused:
            await store.put(KEY, DATA)
        assert refused.value.facts == {"store": "fingerprint store", "why": "there is no bucket none-such"}
        with pytest.raises(SageError):
            await store.check()
        with pytest.raises(SageError, match="earlier"):
            await store.read(KEY, offset=0, length=1)
