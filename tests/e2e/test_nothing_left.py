"""Bad input and interrupted calls through the full stack: a clear error, and nothing left behind."""

import asyncio
import contextlib
import hashlib
import os
import re
import signal
import urllib.request
from collections.abc import Callable
from pathlib import Path

import boto3
import psycopg
import pytest
from sage_local.stack import RunningStack
from support.films import SAMPLES, re_encode
from support.sage_command import Sage
from support.waiting import until


def stored(stack: RunningStack) -> tuple[set[str], set[str], set[str]]:
    """Return what is stored of videos: keys of objects, keys of multipart uploads, IDs."""
    s3 = boto3.client(
        "s3", endpoint_url=stack.s3.endpoint_url, region_name=stack.s3.region,
        aws_access_key_id=stack.s3.access_key, aws_secret_access_key=stack.s3.secret_key,
    )  # fmt: skip
    with contextlib.closing(s3):
        objects = s3.list_objects_v2(Bucket=stack.s3.bucket, Prefix="videos/").get("Contents", [])
        uploads = s3.list_multipart_uploads(Bucket=stack.s3.bucket).get("Uploads", [])
    with psycopg.connect(stack.database_urls["postgres"]) as connection:
        videos = connection.execute("SELECT id FROM ingest.videos").fetchall()
    return {one["Key"] for one in objects}, {one["Key"] for one in uploads}, {id_ for (id_,) in videos}


def _png(path: Path) -> Path:
    path.write_bytes(bytes.fromhex("89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de"))
    return path


def _text(path: Path) -> Path:
    path.write_text("Not a film at all.\n" * 100)
    return path


def _truncated(path: Path) -> Path:
    film = (SAMPLES / "old.mp4").read_bytes()
    path.write_bytes(film[: len(film) // 2])
    return path


@pytest.mark.parametrize("make", [_png, _text, _truncated])
async def test_a_file_that_is_not_a_video_is_refused_and_deleted(
    sage: Sage, stack: RunningStack, tmp_path: Path, make: Callable[[Path], Path]
) -> None:
    before = stored(stack)
    run = await sage("upload", str(make(tmp_path / "film.mp4")))
    assert run.code == 2
    assert "film.mp4" in run.err
    assert "Traceback" not in run.err
    assert stored(stack) == before


async def test_a_client_killed_during_a_streamed_upload_leaves_nothing(
    sage: Sage, stack: RunningStack, tmp_path: Path
) -> None:
    before = stored(stack)
    film = _large(tmp_path / "large.mp4", 400)
    process = await sage.begin("upload", "--parts-over", "1000", str(film))
    await until(lambda: bool(stored(stack)[1] - before[1]), timeout_s=60)
    process.send_signal(signal.SIGKILL)
    await process.communicate()
    await until(lambda: stored(stack) == before, timeout_s=30)


async def test_a_killed_resumable_upload_continues_where_it_stopped(
    sage: Sage, stack: RunningStack, tmp_path: Path
) -> None:
    before = stored(stack)
    film = _large(tmp_path / "parts.mp4", 200)
    process = await sage.begin("upload", str(film))
    await until(lambda: _part_count(stack, film.name) > 2, timeout_s=60)
    process.send_signal(signal.SIGKILL)
    await process.communicate()
    assert stored(stack)[2] == before[2]
    run = await sage("upload", str(film))
    video_id = run.word()
    there = re.search(r"resuming: (\d+) of 26 parts are stored", run.err)
    assert there
    assert int(there[1]) > 2
    url = (await sage("play", video_id)).word()
    assert await asyncio.to_thread(_sha256_of, url) == hashlib.sha256(film.read_bytes()).hexdigest()
    assert (await sage("delete", video_id)).code == 0
    await until(lambda: stored(stack) == before, timeout_s=30)


def _large(path: Path, mib: int) -> Path:
    """Create a film that ends with a large free-space box, so that its upload takes time."""
    tail = mib * 1024 * 1024
    path.write_bytes((SAMPLES / "old.mp4").read_bytes() + (tail + 8).to_bytes(4) + b"free")
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size + tail)
    return path


def _part_count(stack: RunningStack, filename: str) -> int:
    statement = "SELECT count(*) FROM ingest.upload_parts JOIN ingest.uploads ON id = upload_id WHERE filename = %s"
    return int(str(_query(stack, statement, filename)))


def _sha256_of(url: str) -> str:
    with urllib.request.urlopen(url, timeout=60) as answer:
        return hashlib.file_digest(answer, "sha256").hexdigest()


async def test_a_killed_worker_is_replaced_and_its_job_completes(
    sage: Sage, stack: RunningStack, tmp_path: Path
) -> None:
    film = re_encode(SAMPLES / "new.mp4", tmp_path / "long.mp4", crf=30, width=320, height=180, times=8)
    video_id = (await sage("upload", str(film))).word()
    workers = {name: pid for name, pid in stack.pids.items() if name.startswith("worker")}
    assert workers
    embedding = asyncio.create_task(sage("embed", video_id))
    await until(lambda: _segment_count(stack, video_id) > 0, timeout_s=60)
    for pid in workers.values():
        os.kill(pid, signal.SIGKILL)
    run = await embedding
    assert run.code == 0, run.err
    assert _segment_count(stack, video_id) == 96
    assert _state(stack, video_id) == "COMPLETED"


async def test_an_embedding_is_cancelled_when_the_command_returns(
    sage: Sage, stack: RunningStack, tmp_path: Path
) -> None:
    film = re_encode(SAMPLES / "new.mp4", tmp_path / "other.mp4", crf=31, width=320, height=180, times=8)
    video_id = (await sage("upload", str(film))).word()
    following = asyncio.create_task(sage("embed", video_id))
    await until(lambda: _segment_count(stack, video_id) > 0, timeout_s=60)
    embedding_id = _newest_embedding(stack, video_id)
    # The worker is suspended, or it may finish the film before the command makes its call.
    worker = stack.pids["worker-1"]
    os.kill(worker, signal.SIGSTOP)
    try:
        cancelled = await sage("cancel", embedding_id)
        assert _state(stack, video_id) == "CANCELLED"
    finally:
        os.kill(worker, signal.SIGCONT)
    assert cancelled.code == 0, cancelled.err
    run = await following
    assert run.code == 2
    assert "cancelled" in run.err
    assert _state(stack, video_id) == "CANCELLED"


def _query(stack: RunningStack, statement: str, video_id: str) -> object:
    with psycopg.connect(stack.database_urls["postgres"]) as connection:
        row = connection.execute(statement.encode(), (video_id,)).fetchone()
    return row[0] if row else None


def _segment_count(stack: RunningStack, video_id: str) -> int:
    statement = (
        "SELECT sum(segment_count) FROM embed.tracks AS t JOIN embed.embeddings AS e ON e.id = t.embedding_id "
        "WHERE e.video_id = %s"
    )
    return int(str(_query(stack, statement, video_id) or 0))


def _state(stack: RunningStack, video_id: str) -> object:
    return _query(stack, "SELECT state::text FROM embed.embeddings WHERE video_id = %s", video_id)


def _newest_embedding(stack: RunningStack, video_id: str) -> str:
    return str(_query(stack, "SELECT id FROM embed.embeddings WHERE video_id = %s ORDER BY id DESC", video_id))
