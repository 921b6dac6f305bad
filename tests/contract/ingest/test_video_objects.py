"""Contract of `VideoObjects`."""

import asyncio
import functools

import pytest
from sage_runtime.errors import Reason, SageError

MIB = 1024 * 1024
KEY = "videos/video_01"
FIRST, LAST = bytes(range(256)) * (5 * MIB // 256), b"the rest"


async def _store(objects, key: str = KEY) -> None:
    multipart_id = await objects.store.begin(key, content_type="video/mp4")
    tags = await asyncio.gather(
        *(
            objects.store.put_part(key, multipart_id=multipart_id, part_number=number, data=bytearray(data))
            for number, data in enumerate((FIRST, LAST), start=1)
        )
    )
    await objects.store.complete(key, multipart_id=multipart_id, tags=tags, size_bytes=len(FIRST) + len(LAST))


async def test_parts_become_one_object(objects) -> None:
    await _store(objects)
    assert objects.left(KEY) == (True, 0)
    assert await objects.store.read(KEY, offset=0, length=len(FIRST)) == FIRST
    assert await objects.store.read(KEY, offset=len(FIRST) - 2, length=6) == FIRST[-2:] + b"the "
    assert await objects.store.read(KEY, offset=len(FIRST), length=1000) == LAST


async def test_completing_again_succeeds(objects) -> None:
    multipart_id = await objects.store.begin(KEY, content_type="video/mp4")
    tag = await objects.store.put_part(KEY, multipart_id=multipart_id, part_number=1, data=bytearray(LAST))
    for _ in range(2):
        await objects.store.complete(KEY, multipart_id=multipart_id, tags=[tag], size_bytes=len(LAST))


async def test_a_part_that_is_stored_again_replaces_the_previous_one(objects) -> None:
    multipart_id = await objects.store.begin(KEY, content_type="video/mp4")
    assert await objects.store.part_tags(KEY, multipart_id=multipart_id) == frozenset()
    put = functools.partial(objects.store.put_part, KEY, multipart_id=multipart_id)
    old = await put(part_number=1, data=bytearray(LAST * 700_000))
    last = await put(part_number=2, data=bytearray(LAST))
    new = await put(part_number=1, data=bytearray(FIRST))
    assert old != new
    assert await objects.store.part_tags(KEY, multipart_id=multipart_id) >= {(1, new), (2, last)}
    await objects.store.complete(KEY, multipart_id=multipart_id, tags=[new, last], size_bytes=len(FIRST) + len(LAST))
    assert await objects.store.read_part(KEY, offset=0, length=len(FIRST)) == FIRST
    assert await objects.store.part_tags(KEY, multipart_id=multipart_id) is None


async def test_a_discarded_upload_no_longer_exists(objects) -> None:
    multipart_id = await objects.store.begin(KEY, content_type="video/mp4")
    await objects.store.put_part(KEY, multipart_id=multipart_id, part_number=1, data=bytearray(LAST))
    await objects.store.discard(KEY)
    assert await objects.store.part_tags(KEY, multipart_id=multipart_id) is None


async def test_discarding_removes_the_object_and_every_multipart_upload_of_its_key_alone(objects) -> None:
    await _store(objects)
    await _store(objects, KEY + "0")
    await objects.store.begin(KEY + "0", content_type="video/mp4")
    for _ in range(2):
        multipart_id = await objects.store.begin(KEY, content_type="video/mp4")
        await objects.store.put_part(KEY, multipart_id=multipart_id, part_number=1, data=bytearray(FIRST))
    assert objects.left(KEY) == (True, 2)
    await objects.store.discard(KEY)
    assert objects.left(KEY) == (False, 0)
    assert objects.left(KEY + "0") == (True, 1)


async def test_discarding_an_unknown_key_succeeds(objects) -> None:
    await objects.store.discard(KEY)
    assert objects.left(KEY) == (False, 0)


async def test_a_part_of_a_discarded_upload_is_refused(objects) -> None:
    multipart_id = await objects.store.begin(KEY, content_type="video/mp4")
    await objects.store.discard(KEY)
    with pytest.raises(SageError) as raised:
        await objects.store.put_part(KEY, multipart_id=multipart_id, part_number=1, data=bytearray(LAST))
    assert raised.value.reason is Reason.STORE_UNAVAILABLE


async def test_a_discarded_upload_cannot_be_completed(objects) -> None:
    multipart_id = await objects.store.begin(KEY, content_type="video/mp4")
    tag = await objects.store.put_part(KEY, multipart_id=multipart_id, part_number=1, data=bytearray(LAST))
    await objects.store.discard(KEY)
    with pytest.raises(SageError):
        await objects.store.complete(KEY, multipart_id=multipart_id, tags=[tag], size_bytes=len(LAST))
    assert objects.left(KEY) == (False, 0)


async def test_a_missing_object_cannot_be_read(objects) -> None:
    with pytest.raises(SageError):
        await objects.store.read(KEY, offset=0, length=1)


async def test_the_check_passes(objects) -> None:
    await objects.store.check()


async def test_only_multipart_uploads_of_videos_are_listed(objects) -> None:
    """Other programs may use the bucket."""
    key = f"videos/video_{'0' * 32}"
    began = [await objects.store.begin(one, content_type="video/mp4") for one in (key, "backup/film", "film")]
    for number in range(1, 3):
        await objects.store.put_part(key, multipart_id=began[0], part_number=number, data=bytearray(FIRST))
    assert await objects.store.list_multiparts(older_than_s=60) == []
    (found,) = await objects.store.list_multiparts(older_than_s=-60)
    assert (found.key, found.multipart_id) == (key, began[0])
    for _ in range(2):
        await objects.store.abort(found)
    assert objects.left(key) == (False, 0)
    assert objects.left("film") == (False, 1)
