"""Sweeping what processes that died have left."""

import asyncio

import pytest
from fakes.ingest import InMemoryUploadRecords, InMemoryVideoObjects, InMemoryVideoRecords, unavailable
from sage_ingest.sweep import Sweeper


class Leftovers:
    """Stores with a clock that tests move, and two sweepers as of two processes."""

    def __init__(self) -> None:
        self.now = 0.0
        self.records = InMemoryVideoRecords(lambda: self.now)
        self.objects = InMemoryVideoObjects()
        self.sweeper, self.other = (
            Sweeper(
                self.records,
                InMemoryUploadRecords(self.records),
                self.objects,
                lease_s=10.0,
                interval_s=0.01,
                forget_s=60.0,
            )
            for _ in range(2)
        )

    async def leave(self, count: int) -> None:
        for number in range(count):
            await self.records.add_pending(f"videos/{number}", holder="dead", lease_s=10.0)
            await self.objects.begin(f"videos/{number}", content_type="video/mp4")


@pytest.fixture
def left() -> Leftovers:
    """Stores with nothing in them."""
    return Leftovers()


async def test_only_what_is_abandoned_is_swept(left: Leftovers) -> None:
    """What is leased stays; once the lease ran out, upload and entry are gone."""
    await left.leave(1)
    assert await left.sweeper.sweep() == 0
    assert not left.objects.is_empty
    left.now = 11
    assert await left.sweeper.sweep() == 1
    assert left.objects.is_empty
    assert not left.records.pending


async def test_many_are_swept_at_once(left: Leftovers) -> None:
    """One sweep gets through more than one batch."""
    await left.leave(45)
    left.now = 11
    assert await left.sweeper.sweep() == 45
    assert left.objects.is_empty


async def test_two_sweeps_share_the_work(left: Leftovers) -> None:
    """No entry is swept twice."""
    await left.leave(45)
    left.now = 11
    swept = await asyncio.gather(left.sweeper.sweep(), left.other.sweep())
    assert sum(swept) == 45
    assert left.objects.failures.calls["discard"] == 45


async def test_what_cannot_be_swept_now_is_swept_later(left: Leftovers) -> None:
    """A store that is away keeps its entries, and the sweep after the lease gets them."""
    await left.leave(3)
    left.now = 11
    left.objects.failures.errors["discard"] = unavailable()
    assert await left.sweeper.sweep() == 0
    assert len(left.records.pending) == 3
    left.objects.failures.errors.clear()
    assert await left.sweeper.sweep() == 0, "the failed sweep holds a lease"
    left.now = 22
    assert await left.other.sweep() == 3


async def test_sweeping_goes_on_after_trouble(left: Leftovers) -> None:
    """A database that is away for one sweep does not end sweeping."""
    left.records.failures.errors["claim_expired"] = unavailable()
    running = asyncio.ensure_future(left.sweeper.run())
    async with asyncio.timeout(5):
        while left.records.failures.calls["claim_expired"] < 3:  # noqa: ASYNC110 - fakes have no events
            await asyncio.sleep(0.005)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
