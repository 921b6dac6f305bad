"""Contract of `VideoRepository`."""

import asyncio
import dataclasses
import functools
from datetime import UTC, datetime
from fractions import Fraction

import pytest
from fakes.ingest import MEDIA
from psycopg.types.json import Jsonb
from sage_ingest.videos.model import AudioTrack, Media, Video, object_key
from sage_ingest.videos.ports import LeaseLostError, RequestIdTakenError
from sage_runtime.api import new_id


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


async def _add(repositories, video: Video) -> Video:
    key = object_key(video.id)
    await repositories.videos.add_pending(key, holder="me", lease_s=60)
    await repositories.videos.add_video(video, key=key, holder="me")
    return video


SPARSE = Media(
    duration_seconds=1.5,
    start_offset_seconds=0.25,
    container="avi",
    video_codec="mpeg4",
    width=64,
    height=48,
    rotation_degrees=90,
    frame_rate=Fraction(24),
    frame_count=None,
)


@pytest.mark.parametrize("media", [MEDIA, SPARSE])
async def test_every_field_of_a_video_is_stored(repositories, media) -> None:
    video = await _add(repositories, _video("🎬 ../a\\b%_.mp4", media=media, request_id="r"))
    assert await repositories.videos.get_video(video.id) == video
    assert await repositories.videos.find_video("r") == video
    assert await repositories.videos.list_videos(before_id=None, limit=5, filename_contains="") == [video]


async def test_an_unknown_video_is_none(repositories) -> None:
    assert await repositories.videos.get_video(new_id("video")) is None
    assert await repositories.videos.find_video("r") is None


async def test_lists_are_newest_first_and_paged(repositories) -> None:
    videos = [await _add(repositories, _video(f"{number}.mp4")) for number in range(5)]
    newest_first = videos[::-1]
    assert await repositories.videos.list_videos(before_id=None, limit=2, filename_contains="") == newest_first[:2]
    after = newest_first[1].id
    assert await repositories.videos.list_videos(before_id=after, limit=9, filename_contains="") == newest_first[2:]
    assert await repositories.videos.list_videos(before_id=videos[0].id, limit=9, filename_contains="") == []


@pytest.mark.parametrize(
    ("text", "found"),
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
async def test_no_character_of_a_filter_is_a_wildcard_and_case_is_ignored(
    repositories, text: str, found: list[str]
) -> None:
    for filename in ("Straße", "Ärger", "100%.mp4", "axb.mp4", "a_b.MP4", "c\\d.mp4"):
        await _add(repositories, _video(filename))
    videos = await repositories.videos.list_videos(before_id=None, limit=9, filename_contains=text)
    assert [video.filename for video in videos] == found


async def test_rows_of_earlier_releases_are_read_with_defaults(postgres_repositories, pool) -> None:
    video = await _add(postgres_repositories, _video())
    stored = {
        "duration_seconds": 1.5,
        "start_offset_seconds": 0.25,
        "container": "avi",
        "video_codec": "mpeg4",
        "width": 64,
        "height": 48,
        "rotation_degrees": 90,
        "frame_rate": "24",
        "frame_count": None,
        "audio": {"codec": "mp3", "channels": 2, "sample_rate": 44100},
    }
    async with pool.connection() as connection:
        await connection.execute("UPDATE videos SET media = %s", (Jsonb(stored),))
    with_sound = dataclasses.replace(SPARSE, audio_tracks=(AudioTrack("mp3", 2, 44100),))
    assert (await postgres_repositories.videos.get_video(video.id)).media == with_sound
    async with pool.connection() as connection:
        await connection.execute("UPDATE videos SET media = %s", (Jsonb({**stored, "audio": None}),))
    assert (await postgres_repositories.videos.get_video(video.id)).media == SPARSE


async def test_videos_are_found_by_their_checksum(repositories) -> None:
    sha256, other = "ab" * 32, "cd" * 32
    videos = [await _add(repositories, _video(sha256=one)) for one in (sha256, other, sha256)]
    find = functools.partial(repositories.videos.list_videos, limit=9, sha256=sha256)
    assert await find(before_id=None) == [videos[2], videos[0]]
    assert await find(before_id=videos[2].id) == [videos[0]]
    assert await find(before_id=None, filename_contains="b.mp4") == []
    assert await repositories.videos.list_videos(before_id=None, limit=9, sha256="0" * 64) == []


async def test_a_request_id_belongs_to_one_video(repositories) -> None:
    await _add(repositories, _video(request_id="r"))
    other = _video(request_id="r")
    with pytest.raises(RequestIdTakenError):
        await _add(repositories, other)
    assert await repositories.videos.get_video(other.id) is None
    await repositories.expire()
    assert await _claim(repositories) == [object_key(other.id)]


async def test_videos_without_a_request_id_do_not_conflict(repositories) -> None:
    await _add(repositories, _video())
    await _add(repositories, _video())


async def test_a_stored_video_is_not_pending(repositories) -> None:
    await _add(repositories, _video())
    await repositories.expire()
    assert await _claim(repositories) == []


async def test_a_removed_video_is_pending(repositories) -> None:
    video = await _add(repositories, _video(request_id="r"))
    key = object_key(video.id)
    assert await repositories.videos.remove_video(video.id, key=key, holder="me", lease_s=60)
    assert await repositories.videos.get_video(video.id) is None
    assert await repositories.videos.find_video("r") is None
    assert not await repositories.videos.remove_video(video.id, key=key, holder="me", lease_s=60)
    assert await _claim(repositories) == []
    await repositories.expire()
    assert await _claim(repositories) == [key]


async def test_leased_objects_are_not_claimed(repositories) -> None:
    await repositories.videos.add_pending("k", holder="me", lease_s=60)
    assert await _claim(repositories) == []
    await repositories.expire()
    await repositories.videos.renew_pending("k", holder="me", lease_s=60)
    assert await _claim(repositories) == []
    await repositories.expire()
    assert await _claim(repositories) == ["k"]


async def test_the_former_holder_of_a_claimed_object_cannot_use_it(repositories) -> None:
    video = _video()
    key = object_key(video.id)
    await repositories.videos.add_pending(key, holder="me", lease_s=60)
    await repositories.expire()
    assert await _claim(repositories, holder="sweep") == [key]
    with pytest.raises(LeaseLostError):
        await repositories.videos.renew_pending(key, holder="me", lease_s=60)
    with pytest.raises(LeaseLostError):
        await repositories.videos.add_video(video, key=key, holder="me")
    await repositories.videos.remove_pending(key, holder="me")
    assert await repositories.videos.get_video(video.id) is None
    await repositories.expire()
    assert await _claim(repositories) == [key]


async def test_a_removed_pending_object_is_not_claimed(repositories) -> None:
    await repositories.videos.add_pending("k", holder="me", lease_s=60)
    await repositories.videos.remove_pending("k", holder="me")
    await repositories.videos.remove_pending("k", holder="me")
    await repositories.expire()
    assert await _claim(repositories) == []
    with pytest.raises(LeaseLostError):
        await repositories.videos.renew_pending("k", holder="me", lease_s=60)


async def test_concurrent_sweeps_claim_each_object_once(repositories) -> None:
    for number in range(10):
        await repositories.videos.add_pending(f"k{number}", holder="me", lease_s=60)
    await repositories.expire()
    claims = await asyncio.gather(*(_claim(repositories, holder=f"sweep-{number}", limit=3) for number in range(5)))
    assert sorted(key for claim in claims for key in claim) == [f"k{number}" for number in range(10)]
    assert max(map(len, claims)) == 3


async def test_a_claim_keeps_its_limit_with_stale_statistics(postgres_repositories, pool) -> None:
    await postgres_repositories.videos.add_pending("k0", holder="me", lease_s=60)
    async with pool.connection() as connection:
        await connection.execute("ANALYZE pending_objects")
    for number in range(1, 10):
        await postgres_repositories.videos.add_pending(f"k{number}", holder="me", lease_s=60)
    await postgres_repositories.expire()
    assert [len(await _claim(postgres_repositories, limit=3)) for _ in range(5)] == [3, 3, 3, 1, 0]


async def test_the_check_passes(repositories) -> None:
    await repositories.videos.check()


async def _claim(repositories, *, holder: str = "sweep", limit: int = 100) -> list[str]:
    return await repositories.videos.claim_expired(holder=holder, lease_s=60, limit=limit)


async def test_pending_keys_are_found_among_others(repositories) -> None:
    await repositories.videos.add_pending("videos/1", holder="me", lease_s=60)
    assert await repositories.videos.pending_keys({"videos/1", "videos/2"}) == {"videos/1"}
    assert await repositories.videos.pending_keys(set()) == set()
