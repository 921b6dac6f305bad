"""Reading an object back for its checksum."""

import asyncio
import hashlib

import pytest
from fakes.ingest import InMemoryVideoObjects, unavailable
from sage_ingest.capacity import Capacity, UploadLimits
from sage_ingest.readback import read_back_sha256
from sage_runtime.errors import SageError

MIB = 1024 * 1024
DATA = bytes(range(256)) * (23 * MIB // 256) + b"the rest"
SHA256 = hashlib.sha256(DATA).hexdigest()


def _capacity(slots: int) -> Capacity:
    return Capacity(
        UploadLimits(
            part_bytes=5 * MIB, parts_in_flight=4, total_parts_in_flight=slots, max_uploads=1, idle_s=1, lease_s=1
        )
    )


@pytest.fixture
def objects() -> InMemoryVideoObjects:
    """A store with one object of five ranges."""
    objects = InMemoryVideoObjects()
    objects.objects["k"] = DATA
    return objects


@pytest.mark.parametrize("slots", [1, 2, 4, 9])
async def test_any_number_of_slots_will_do(objects, slots: int) -> None:
    """Several objects at once are read in order, however few slots there are, and none is kept."""
    capacity = _capacity(slots)
    reading = (read_back_sha256(objects, "k", size_bytes=len(DATA), capacity=capacity) for _ in range(3))
    assert await asyncio.gather(*reading) == [SHA256] * 3
    assert await _free(capacity, slots)


async def test_reads_go_ahead_of_hashing(objects) -> None:
    """As many ranges are asked for at once as parts may be on their way."""
    gate = objects.failures.close("read_part")
    reading = asyncio.ensure_future(read_back_sha256(objects, "k", size_bytes=len(DATA), capacity=_capacity(9)))
    for _ in range(100):
        await asyncio.sleep(0)
    assert objects.failures.calls["read_part"] == 4
    gate.set()
    assert await reading == SHA256


async def test_a_read_that_fails_gives_back_its_slots(objects) -> None:
    """A store that fails is told, and the slots are free again."""
    objects.failures.errors["read_part"] = unavailable()
    capacity = _capacity(4)
    with pytest.raises(SageError, match="STORE_UNAVAILABLE"):
        await read_back_sha256(objects, "k", size_bytes=len(DATA), capacity=capacity)
    assert await _free(capacity, 4)


async def _free(capacity: Capacity, slots: int) -> bool:
    async with asyncio.timeout(5):
        for _ in range(slots):
            await capacity.part_slots.acquire()
    return capacity.part_slots.locked()
