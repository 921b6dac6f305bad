"""Videos and pending objects in PostgreSQL."""

from collections.abc import Collection, Mapping
from typing import Any

import psycopg
from psycopg.types.json import Jsonb
from sage_runtime.postgres import Pool, ping, store_errors

from sage_ingest.videos.model import Video, media_from_json, media_to_json
from sage_ingest.videos.ports import LeaseLostError, RequestIdTakenError, VideoRepository

SCHEMA = "ingest"

Connection = psycopg.AsyncConnection[dict[str, Any]]

_COLUMNS = "id, filename, content_type, size_bytes, sha256, media, request_id, create_time"


class PostgresVideoRepository(VideoRepository):
    """Two tables (`migrations/`). Leases run on the database's clock.

    Args:
        pool: Connections whose search path is the service's schema.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def add_pending(self, key: str, *, holder: str, lease_s: float) -> None:
        with store_errors():
            async with self._pool.connection() as connection:
                await _insert_pending(connection, key, holder=holder, lease_s=lease_s)

    async def renew_pending(self, key: str, *, holder: str, lease_s: float) -> None:
        with store_errors():
            async with self._pool.connection() as connection:
                cursor = await connection.execute(
                    "UPDATE pending_objects SET lease_until = now() + make_interval(secs => %s) "
                    "WHERE key = %s AND holder = %s",
                    (lease_s, key, holder),
                )
        if cursor.rowcount == 0:
            raise LeaseLostError(key)

    async def remove_pending(self, key: str, *, holder: str) -> None:
        with store_errors():
            async with self._pool.connection() as connection:
                await connection.execute("DELETE FROM pending_objects WHERE key = %s AND holder = %s", (key, holder))

    async def claim_expired(self, *, holder: str, lease_s: float, limit: int) -> list[str]:
        with store_errors():
            async with self._pool.connection() as connection:
                # SKIP LOCKED: sweeps of several processes share the work instead of waiting for each other.
                # MATERIALIZED: selected once. As a condition the planner may run it once for each row of a small
                # table; it then skips the rows that the statement has already changed, and claims all of them.
                cursor = await connection.execute(
                    "WITH expired AS MATERIALIZED (SELECT key FROM pending_objects WHERE lease_until < now() "
                    "ORDER BY lease_until LIMIT %s FOR UPDATE SKIP LOCKED) "
                    "UPDATE pending_objects SET holder = %s, lease_until = now() + make_interval(secs => %s) "
                    "FROM expired WHERE pending_objects.key = expired.key RETURNING pending_objects.key",
                    (limit, holder, lease_s),
                )
                keys = [row["key"] for row in await cursor.fetchall()]
                await connection.execute(
                    "UPDATE uploads SET state = 'ABORTED', close_time = now() "
                    "WHERE state = 'OPEN' AND object_key = ANY(%s)",
                    (keys,),
                )
                return keys

    async def pending_keys(self, keys: Collection[str]) -> set[str]:
        with store_errors():
            async with self._pool.connection() as connection:
                cursor = await connection.execute("SELECT key FROM pending_objects WHERE key = ANY(%s)", (list(keys),))
                return {row["key"] for row in await cursor.fetchall()}

    async def add_video(self, video: Video, *, key: str, holder: str) -> None:
        with store_errors():
            try:
                async with self._pool.connection() as connection:
                    await insert_video(connection, video, key=key, holder=holder)
            except psycopg.errors.UniqueViolation as error:
                raise RequestIdTakenError(video.request_id) from error

    async def remove_video(self, video_id: str, *, key: str, holder: str, lease_s: float) -> bool:
        with store_errors():
            async with self._pool.connection() as connection:
                cursor = await connection.execute("DELETE FROM videos WHERE id = %s", (video_id,))
                if cursor.rowcount == 0:
                    return False
                await connection.execute("DELETE FROM uploads WHERE video_id = %s", (video_id,))
                await _insert_pending(connection, key, holder=holder, lease_s=lease_s)
                return True

    async def get_video(self, video_id: str) -> Video | None:
        return await self._find_one("id = %s", video_id)

    async def find_video(self, request_id: str) -> Video | None:
        return await self._find_one("request_id <> '' AND request_id = %s", request_id)

    async def list_videos(
        self, *, before_id: str | None, limit: int, filename_contains: str = "", sha256: str = ""
    ) -> list[Video]:
        # Only the conditions that are needed: a plan for all of them at once could not use an index.
        conditions = ["TRUE"]
        if before_id is not None:
            conditions.append("id < %(before_id)s")
        if filename_contains:
            conditions.append(r"filename_folded LIKE %(pattern)s ESCAPE '\'")
        if sha256:
            conditions.append("sha256 = %(sha256)s")
        with store_errors():
            async with self._pool.connection() as connection:
                cursor = await connection.execute(
                    f"SELECT {_COLUMNS} FROM videos "  # noqa: S608 - constants
                    f"WHERE {' AND '.join(conditions)} ORDER BY id DESC LIMIT %(limit)s",
                    {
                        "before_id": before_id,
                        "pattern": f"%{_escape_like(filename_contains.casefold())}%",
                        "sha256": sha256,
                        "limit": limit,
                    },
                )
                return [_to_video(row) for row in await cursor.fetchall()]

    async def check(self) -> None:
        await ping(self._pool)

    async def _find_one(self, condition: str, value: str) -> Video | None:
        with store_errors():
            async with self._pool.connection() as connection:
                cursor = await connection.execute(
                    f"SELECT {_COLUMNS} FROM videos WHERE {condition}",  # noqa: S608 - constants
                    (value,),
                )
                row = await cursor.fetchone()
        return None if row is None else _to_video(row)


async def insert_video(connection: Connection, video: Video, *, key: str, holder: str) -> None:
    """Turn a pending object into a stored video, in the caller's transaction.

    Raises:
        LeaseLostError: The holder no longer has the object.
        psycopg.errors.UniqueViolation: Another video has the request id.
    """
    cursor = await connection.execute("DELETE FROM pending_objects WHERE key = %s AND holder = %s", (key, holder))
    if cursor.rowcount == 0:
        raise LeaseLostError(key)
    await connection.execute(
        f"INSERT INTO videos ({_COLUMNS}, filename_folded) "  # noqa: S608 - a constant
        "VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)",
        (
            video.id,
            video.filename,
            video.content_type,
            video.size_bytes,
            video.sha256,
            Jsonb(media_to_json(video.media)),
            video.request_id,
            video.create_time,
            video.filename.casefold(),
        ),
    )


async def _insert_pending(connection: Connection, key: str, *, holder: str, lease_s: float) -> None:
    await connection.execute(
        "INSERT INTO pending_objects (key, holder, lease_until) VALUES (%s, %s, now() + make_interval(secs => %s))",
        (key, holder, lease_s),
    )


def _escape_like(text: str) -> str:
    return text.replace("\\", r"\\").replace("%", r"\%").replace("_", r"\_")


def _to_video(row: Mapping[str, Any]) -> Video:
    return Video(**{**row, "media": media_from_json(row["media"])})
