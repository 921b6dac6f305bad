"""Reading an object back for its checksum."""

import asyncio
import hashlib
from collections.abc import Coroutine

import pytest
from fakes.ingest import FakeVideoObjects, unavailable
from sage_ingest.uploads.completion import read_sha256
from sage_ingest.uploads.parts import Capacity
from sage_runtime.errors import SageError
from support.uploads_in_memory import settings

MIB = 1024 * 1024
DATA = bytes(range(256)) * (23 * MIB // 256) + b"the rest"
SHA256 = hashlib.sha256(DATA).hexdigest()


def _capacity(slots: int) -> Capacity:
    return Capacity(settings(part_bytes=5 * MIB, total_parts_in_flight=slots))


def _read(objects: FakeVideoObjects, capacity: Capacity) -> Coroutine[None, None, str]:
    return read_sha256(objects, "k", size_bytes=len(DATA), capacity=capacity, read_ahead=4)


@pytest.fixture
def objects() -> FakeVideoObjects:
    """A store with one object of five ranges."""
    objects = FakeVideoObjects()
    objects.objects["k"] = DATA
    return objects


@pytest.mark.parametrize("slots", [1, 2, 4, 9])
async def test_concurrent_reads_work_with_any_number_of_slots_and_release_them(objects, slots: int) -> None:
    capacity = _capacity(slots)
    reading = (_read(objects, capacity) for _ in range(3))
    assert await asyncio.gather(*reading) == [SHA256] * 3
    assert await _free(capacity, slots)


async def test_ranges_are_read_ahead(objects) -> None:
    gate = objects.failures.close("read_part")
    reading = asyncio.ensure_future(_read(objects, _capacity(9)))
    for _ in range(100):
        await asyncio.sleep(0)
    assert objects.failures.calls["read_part"] == 4
    gate.set()
    assert await reading == SHA256


async def test_a_failed_read_releases_its_slots(objects) -> None:
    objects.failures.errors["read_part"] = unavailable()
    capacity = _capacity(4)
    with pytest.raises(SageError, match="STORE_UNAVAILABLE"):
        await _read(objects, capacity)
    assert await _free(capacity, 4)


async def _free(capacity: Capacity, slots: int) -> bool:
    async with asyncio.timeout(5):
        for _ in range(slots):
            await capacity.part_slots.acquire()
    return capacity.part_slots.locked()
