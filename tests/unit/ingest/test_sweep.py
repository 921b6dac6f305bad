"""The sweep over fakes."""

import asyncio

import pytest
from fakes.ingest import unavailable
from support.uploads_in_memory import Uploads
from support.waiting import until_turned


class Leftovers(Uploads):
    """Stores with a clock that tests move, and two sweepers as of two processes."""

    def __init__(self) -> None:
        super().__init__(upload_lease_s=10.0)
        self.other = self.process().sweeper

    async def leave(self, count: int) -> None:
        for number in range(count):
            await self.videos.add_pending(f"videos/{number}", holder="dead", lease_s=10.0)
            await self.objects.begin(f"videos/{number}", content_type="video/mp4")


@pytest.fixture
def left() -> Leftovers:
    """Empty stores."""
    return Leftovers()


async def test_only_objects_with_an_expired_lease_are_swept(left: Leftovers) -> None:
    await left.leave(1)
    assert await left.sweeper.sweep() == 0
    assert not left.objects.is_empty
    left.now = 11
    assert await left.sweeper.sweep() == 1
    assert left.objects.is_empty
    assert not left.videos.pending


async def test_a_sweep_processes_more_than_one_batch(left: Leftovers) -> None:
    await left.leave(45)
    left.now = 11
    assert await left.sweeper.sweep() == 45
    assert left.objects.is_empty


async def test_two_sweeps_share_the_work(left: Leftovers) -> None:
    await left.leave(45)
    left.now = 11
    swept = await asyncio.gather(left.sweeper.sweep(), left.other.sweep())
    assert sum(swept) == 45
    assert left.objects.failures.calls["discard"] == 45


async def test_an_object_that_cannot_be_discarded_is_swept_later(left: Leftovers) -> None:
    await left.leave(3)
    left.now = 11
    left.objects.failures.errors["discard"] = unavailable()
    assert await left.sweeper.sweep() == 0
    assert len(left.videos.pending) == 3
    left.objects.failures.errors.clear()
    assert await left.sweeper.sweep() == 0, "the failed sweep holds a lease"
    left.now = 22
    assert await left.other.sweep() == 3


async def test_sweeping_continues_after_an_error(left: Leftovers) -> None:
    left.videos.failures.errors["claim_expired"] = unavailable()
    running = asyncio.ensure_future(left.sweeper.run())
    await until_turned(lambda: left.videos.failures.calls["claim_expired"] >= 3)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_old_multipart_uploads_that_no_row_knows_are_aborted(left: Leftovers) -> None:
    """A store whose response was lost may begin one after its key was swept."""
    for name in ("stray", "pending", "recent"):
        await left.objects.begin(f"videos/{name}", content_type="video/mp4")
    await left.videos.add_pending("videos/pending", holder="me", lease_s=1000.0)
    week = left.settings.stray_upload_expire_s
    for upload in left.objects.multiparts.values():
        upload.age_s = week - 1 if upload.key == "videos/recent" else week + 1
    await left.sweeper.sweep()
    assert {upload.key for upload in left.objects.multiparts.values()} == {"videos/pending", "videos/recent"}
    await left.sweeper.sweep()
    assert left.objects.failures.calls["list_multiparts"] == 1, "they are looked for once an hour"


async def test_uploads_of_another_installation_are_not_strays_before_they_expire() -> None:
    uploads = Uploads(upload_expire_s=1000.0, stray_upload_expire_s=500.0)
    await uploads.objects.begin("videos/other", content_type="video/mp4")
    (other,) = uploads.objects.multiparts.values()
    other.age_s = 1999
    assert await uploads.sweeper.abort_strays() == 0
    other.age_s = 2001
    assert await uploads.sweeper.abort_strays() == 1
