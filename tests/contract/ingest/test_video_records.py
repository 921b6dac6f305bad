"""What holds for the records of videos, wherever they are."""

import asyncio
import dataclasses
from datetime import UTC, datetime

import pytest
from fakes.ingest import MEDIA
from sage_ingest.model import Video, object_key
from sage_ingest.ports import LeaseLostError, RequestIdTakenError
from sage_runtime.ids import new_id


def _video(filename: str = "a.mp4", **changes: object) -> Video:
    video = Video(
        id=new_id("video"),
        filename=filename,
        content_type="video/mp4",
        size_bytes=3 * 1024**3,
        sha256="ab" * 32,
        media=MEDIA,
        create_time=datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
    )
    return dataclasses.replace(video, **changes)


async def _add(records, video: Video) -> Video:
    key = object_key(video.id)
    await records.store.add_pending(key, holder="me", lease_s=60)
    await records.store.add_video(video, key=key, holder="me")
    return video


@pytest.mark.parametrize("media", [MEDIA, dataclasses.replace(MEDIA, audio=None, frame_count=None)])
async def test_a_video_comes_back_as_it_was(records, media) -> None:
    """Every field of a video is kept, whether or not optional ones are there."""
    video = await _add(records, _video("🎬 ../a\\b%_.mp4", media=media, request_id="r"))
    assert await records.store.get_video(video.id) == video
    assert await records.store.find_video("r") == video
    assert await records.store.list_videos(before_id=None, limit=5, filename_contains="") == [video]


async def test_an_unknown_video_is_none(records) -> None:
    """What was never added is not found."""
    assert await records.store.get_video(new_id("video")) is None
    assert await records.store.find_video("r") is None


async def test_lists_are_newest_first_and_paged(records) -> None:
    """A page ends at its limit, and the next begins after its last video."""
    videos = [await _add(records, _video(f"{number}.mp4")) for number in range(5)]
    newest_first = videos[::-1]
    assert await records.store.list_videos(before_id=None, limit=2, filename_contains="") == newest_first[:2]
    after = newest_first[1].id
    assert await records.store.list_videos(before_id=after, limit=9, filename_contains="") == newest_first[2:]
    assert await records.store.list_videos(before_id=videos[0].id, limit=9, filename_contains="") == []


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("100%", ["100%.mp4"]),
        ("0%.", ["100%.mp4"]),
        ("0%m", []),
        ("_", ["a_b.MP4"]),
        ("a_b", ["a_b.MP4"]),
        ("\\", ["c\\d.mp4"]),
        (".mp4", ["c\\d.mp4", "a_b.MP4", "axb.mp4", "100%.mp4"]),
        ("ÄRGER", ["Ärger"]),
        ("strasse", ["Straße"]),
        ("'; DROP TABLE videos; --", []),
    ],
)
async def test_filters_take_every_character_for_itself(records, wanted: str, found: list[str]) -> None:
    """Wildcards of SQL are plain characters, and case does not matter in any alphabet."""
    for filename in ("Straße", "Ärger", "100%.mp4", "axb.mp4", "a_b.MP4", "c\\d.mp4"):
        await _add(records, _video(filename))
    videos = await records.store.list_videos(before_id=None, limit=9, filename_contains=wanted)
    assert [video.filename for video in videos] == found


async def test_a_request_id_belongs_to_one_video(records) -> None:
    """A second video with the same request id is refused, and its object stays pending."""
    await _add(records, _video(request_id="r"))
    other = _video(request_id="r")
    with pytest.raises(RequestIdTakenError):
        await _add(records, other)
    assert await records.store.get_video(other.id) is None
    await records.expire()
    assert await _claim(records) == [object_key(other.id)]


async def test_an_empty_request_id_belongs_to_all(records) -> None:
    """Videos without a request id do not get into each other's way."""
    await _add(records, _video())
    await _add(records, _video())


async def test_a_stored_video_is_not_pending(records) -> None:
    """What became a video is not swept."""
    await _add(records, _video())
    await records.expire()
    assert await _claim(records) == []


async def test_a_removed_video_is_pending(records) -> None:
    """What is removed is gone from lookups at once and left to be deleted, also by a sweep."""
    video = await _add(records, _video(request_id="r"))
    key = object_key(video.id)
    assert await records.store.remove_video(video.id, key=key, holder="me", lease_s=60)
    assert await records.store.get_video(video.id) is None
    assert await records.store.find_video("r") is None
    assert not await records.store.remove_video(video.id, key=key, holder="me", lease_s=60)
    assert await _claim(records) == []
    await records.expire()
    assert await _claim(records) == [key]


async def test_leased_objects_are_not_claimed(records) -> None:
    """A lease keeps sweeps away until it runs out, and renewing it starts it anew."""
    await records.store.add_pending("k", holder="me", lease_s=60)
    assert await _claim(records) == []
    await records.expire()
    await records.store.renew("k", holder="me", lease_s=60)
    assert await _claim(records) == []
    await records.expire()
    assert await _claim(records) == ["k"]


async def test_a_claimed_object_is_its_holders_no_more(records) -> None:
    """Whoever lost the lease can neither renew it, nor commit, nor forget the object."""
    video = _video()
    key = object_key(video.id)
    await records.store.add_pending(key, holder="me", lease_s=60)
    await records.expire()
    assert await _claim(records, holder="sweep") == [key]
    with pytest.raises(LeaseLostError):
        await records.store.renew(key, holder="me", lease_s=60)
    with pytest.raises(LeaseLostError):
        await records.store.add_video(video, key=key, holder="me")
    await records.store.forget(key, holder="me")
    assert await records.store.get_video(video.id) is None
    await records.expire()
    assert await _claim(records) == [key]


async def test_a_forgotten_object_is_gone(records) -> None:
    """What was forgotten is not claimed, and forgetting it again does nothing."""
    await records.store.add_pending("k", holder="me", lease_s=60)
    await records.store.forget("k", holder="me")
    await records.store.forget("k", holder="me")
    await records.expire()
    assert await _claim(records) == []
    with pytest.raises(LeaseLostError):
        await records.store.renew("k", holder="me", lease_s=60)


async def test_no_object_is_claimed_twice(records) -> None:
    """Sweeps at the same time share what there is, each up to its limit."""
    for number in range(10):
        await records.store.add_pending(f"k{number}", holder="me", lease_s=60)
    await records.expire()
    claims = await asyncio.gather(*(_claim(records, holder=f"sweep-{number}", limit=3) for number in range(5)))
    assert sorted(key for claim in claims for key in claim) == [f"k{number}" for number in range(10)]
    assert max(map(len, claims)) == 3


async def test_limit_holds_whatever_the_planner_believes(postgres_records, pool) -> None:
    """A sweep claims no more than it may, also where the table was last analysed when there was one entry."""
    await postgres_records.store.add_pending("k0", holder="me", lease_s=60)
    async with pool.connection() as connection:
        await connection.execute("ANALYZE pending_objects")
    for number in range(1, 10):
        await postgres_records.store.add_pending(f"k{number}", holder="me", lease_s=60)
    await postgres_records.expire()
    assert [len(await _claim(postgres_records, limit=3)) for _ in range(5)] == [3, 3, 3, 1, 0]


async def test_records_that_answer_pass_the_check(records) -> None:
    """The health check passes where the records can be used."""
    await records.store.check()


async def _claim(records, *, holder: str = "sweep", limit: int = 100) -> list[str]:
    return await records.store.claim_expired(holder=holder, lease_s=60, limit=limit)
