"""Resumable uploads in PostgreSQL."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import psycopg
from psycopg.types.json import Jsonb
from sage_runtime.errors import FieldViolation, Reason, SageError
from sage_runtime.postgres import Pool, store_errors

from sage_ingest.uploads.model import OpenUpload, Part, Upload, UploadState
from sage_ingest.uploads.ports import TooManyOpenError, UploadRepository
from sage_ingest.videos.model import Video, VideoSpec
from sage_ingest.videos.ports import LeaseLostError, RequestIdTakenError
from sage_ingest.videos.postgres import insert_video

_COMPLETING = "(completing_until IS NOT NULL AND completing_until > now())"
# An upload holds its pending object while it is open.
_HAS = "key = object_key AND holder = uploads.id"
_COLUMNS = f"uploads.*, {_COMPLETING} AS completing, lease_until AS expire_time"
_FROM = f"FROM uploads LEFT JOIN pending_objects ON {_HAS}"

_LIST_OPEN = f"""
    SELECT {_COLUMNS}, received_bytes {_FROM}
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(upload_parts.size_bytes), 0)::bigint AS received_bytes
        FROM upload_parts WHERE upload_id = uploads.id
    ) AS received
    WHERE state = 'OPEN' AND (%(before_id)s::text IS NULL OR uploads.id < %(before_id)s)
    ORDER BY uploads.id DESC LIMIT %(limit)s
"""  # noqa: S608 - a constant

_HOLD_OPEN = f"""
    UPDATE pending_objects SET lease_until = greatest(lease_until, now() + make_interval(secs => %s))
    FROM uploads WHERE id = %s AND {_HAS} AND NOT {_COMPLETING} RETURNING key
"""  # noqa: S608 - a constant
_ADD_PART = f"""
    WITH kept AS (
        UPDATE pending_objects SET lease_until = now() + make_interval(secs => %s)
        FROM uploads WHERE id = %s AND {_HAS} RETURNING id
    )
    INSERT INTO upload_parts (upload_id, part_number, size_bytes, sha256, tag)
    SELECT id, %s, %s, %s, %s FROM kept
    ON CONFLICT (upload_id, part_number)
    DO UPDATE SET size_bytes = excluded.size_bytes, sha256 = excluded.sha256, tag = excluded.tag
    RETURNING upload_id
"""  # noqa: S608 - a constant
# One statement for claiming a completion and for renewing the claim: the upload does not expire before the completer's
# lease does. The conditions on the upload are in the UPDATE of its row: of two claims at once, the second waits there
# for the first and sees what it changed.
_HOLD = f"""
    WITH kept AS (
        UPDATE pending_objects
        SET lease_until = greatest(lease_until, now() + make_interval(secs => %(lease_s)s))
        FROM uploads WHERE id = %(upload_id)s AND {_HAS} RETURNING id
    )
    UPDATE uploads SET completer = %(completer)s, completing_until = now() + make_interval(secs => %(lease_s)s)
    FROM kept WHERE uploads.id = kept.id AND state = 'OPEN'
"""  # noqa: S608 - a constant
_CLAIM = f"{_HOLD} AND NOT {_COMPLETING} RETURNING uploads.id"
_RENEW = f"{_HOLD} AND completer = %(completer)s RETURNING uploads.id"


class PostgresUploadRepository(UploadRepository):
    """Two tables, beside those of `PostgresVideoRepository`. Times are the database's.

    Every transition locks the pending object's row before the upload's, as the sweep does, so there are no deadlocks.

    Args:
        pool: Connections whose search path is the service's schema.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def add_upload(self, upload: Upload, *, key: str, holder: str, expire_s: float, max_open: int) -> None:
        spec = upload.spec
        with store_errors():
            try:
                async with self._pool.connection() as connection:
                    # One at a time, so that the limit is not exceeded.
                    await connection.execute("SELECT pg_advisory_xact_lock(hashtext('ingest.uploads'))")
                    cursor = await connection.execute("SELECT count(*) AS open FROM uploads WHERE state = 'OPEN'")
                    row = await cursor.fetchone()
                    if row is not None and row["open"] >= max_open:
                        raise TooManyOpenError
                    await connection.execute(
                        "INSERT INTO uploads (id, video_id, object_key, multipart_id, filename, content_type, "
                        "size_bytes, sha256, video_track, part_bytes, request_id, state, create_time) "
                        "VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, 'OPEN', %s)",
                        (
                            upload.id,
                            upload.video_id,
                            key,
                            upload.multipart_id,
                            spec.filename,
                            spec.content_type,
                            spec.size_bytes,
                            spec.sha256,
                            spec.video_track,
                            upload.part_bytes,
                            upload.request_id,
                            upload.create_time,
                        ),
                    )
                    cursor = await connection.execute(
                        "UPDATE pending_objects SET holder = %s, lease_until = now() + make_interval(secs => %s) "
                        "WHERE key = %s AND holder = %s",
                        (upload.id, expire_s, key, holder),
                    )
                    if cursor.rowcount == 0:
                        raise LeaseLostError(key)
            except psycopg.errors.UniqueViolation as error:
                raise RequestIdTakenError(upload.request_id) from error

    async def get_upload(self, upload_id: str) -> Upload | None:
        return await self._find_one("WHERE uploads.id = %s", upload_id)

    async def find_upload(self, request_id: str) -> Upload | None:
        return await self._find_one("WHERE request_id <> '' AND state <> 'ABORTED' AND request_id = %s", request_id)

    async def list_open(self, *, before_id: str | None, limit: int) -> list[OpenUpload]:
        rows = await self._execute(_LIST_OPEN, {"before_id": before_id, "limit": limit})
        return [OpenUpload(_to_upload(row), row["received_bytes"]) for row in rows]

    async def list_parts(self, upload_id: str) -> list[Part]:
        rows = await self._execute(
            "SELECT part_number, upload_parts.size_bytes, upload_parts.sha256, tag FROM upload_parts "
            "JOIN uploads ON id = upload_id WHERE upload_id = %s AND state <> 'ABORTED' ORDER BY part_number",
            (upload_id,),
        )
        return [Part(row["part_number"], row["size_bytes"], row["sha256"], row["tag"]) for row in rows]

    async def hold_open(self, upload_id: str, *, expire_s: float) -> None:
        await self._change(_HOLD_OPEN, (expire_s, upload_id))

    async def add_part(self, upload_id: str, part: Part, *, expire_s: float) -> None:
        await self._change(_ADD_PART, (expire_s, upload_id, part.number, part.size_bytes, part.sha256, part.tag))

    async def remove_parts(self, upload_id: str, parts: Collection[Part]) -> None:
        await self._execute(
            "DELETE FROM upload_parts USING unnest(%s::integer[], %s::text[]) AS dropped (number, tag) "
            "WHERE upload_id = %s AND part_number = dropped.number AND upload_parts.tag = dropped.tag "
            "RETURNING part_number",
            ([part.number for part in parts], [part.tag for part in parts], upload_id),
        )

    async def claim_completion(self, upload_id: str, *, completer: str, lease_s: float) -> bool:
        return bool(await self._execute(_CLAIM, _hold(upload_id, completer=completer, lease_s=lease_s)))

    async def renew_completion(self, upload_id: str, *, completer: str, lease_s: float) -> None:
        await self._change(_RENEW, _hold(upload_id, completer=completer, lease_s=lease_s))

    async def release_completion(self, upload_id: str, *, completer: str) -> None:
        await self._execute(
            "UPDATE uploads SET completer = '', completing_until = NULL "
            "WHERE id = %s AND completer = %s AND state = 'OPEN' RETURNING id",
            (upload_id, completer),
        )

    async def complete_upload(self, upload_id: str, video: Video, *, key: str, completer: str) -> None:
        with store_errors():
            async with self._pool.connection() as connection:
                await insert_video(connection, video, key=key, holder=upload_id)
                cursor = await connection.execute(
                    "UPDATE uploads SET state = 'COMPLETED', close_time = now(), completing_until = NULL "
                    "WHERE id = %s AND completer = %s AND state = 'OPEN'",
                    (upload_id, completer),
                )
                if cursor.rowcount == 0:
                    raise LeaseLostError(upload_id)

    async def abort_upload(
        self, upload_id: str, *, key: str, holder: str, lease_s: float, failure: SageError | None = None
    ) -> bool:
        with store_errors():
            async with self._pool.connection() as connection:
                cursor = await connection.execute(
                    "UPDATE pending_objects SET holder = %s, lease_until = now() + make_interval(secs => %s) "
                    "WHERE key = %s AND holder = %s",
                    (holder, lease_s, key, upload_id),
                )
                if cursor.rowcount == 0:
                    return False
                await connection.execute(
                    "UPDATE uploads SET state = 'ABORTED', close_time = now(), completing_until = NULL, failure = %s "
                    "WHERE id = %s",
                    (None if failure is None else Jsonb(_failure_to_json(failure)), upload_id),
                )
                return True

    async def remove_closed(self, *, older_than_s: float) -> None:
        await self._execute(
            "DELETE FROM uploads WHERE state <> 'OPEN' AND close_time < now() - make_interval(secs => %s) RETURNING id",
            (older_than_s,),
        )

    async def _find_one(self, condition: str, value: str) -> Upload | None:
        rows = await self._execute(f"SELECT {_COLUMNS} {_FROM} {condition}", (value,))
        return _to_upload(rows[0]) if rows else None

    async def _change(self, statement: str, values: Sequence[Any] | Mapping[str, Any]) -> None:
        """Run a statement that returns a row for what it changed, and raise `LeaseLostError` if it changed nothing."""
        if not await self._execute(statement, values):
            raise LeaseLostError

    async def _execute(self, statement: str, values: Sequence[Any] | Mapping[str, Any]) -> list[dict[str, Any]]:
        with store_errors():
            async with self._pool.connection() as connection:
                cursor = await connection.execute(statement.encode(), values)
                return await cursor.fetchall()


def _hold(upload_id: str, *, completer: str, lease_s: float) -> dict[str, Any]:
    return {"upload_id": upload_id, "completer": completer, "lease_s": lease_s}


def _to_upload(row: Mapping[str, Any]) -> Upload:
    return Upload(
        id=row["id"],
        video_id=row["video_id"],
        spec=VideoSpec(row["filename"], row["content_type"], row["size_bytes"], row["sha256"], row["video_track"]),
        part_bytes=row["part_bytes"],
        multipart_id=row["multipart_id"],
        request_id=row["request_id"],
        create_time=row["create_time"],
        state=UploadState(row["state"]),
        completing=row["completing"],
        expire_time=row["expire_time"],
        failure=None if row["failure"] is None else _failure_from_json(row["failure"]),
    )


def _failure_to_json(error: SageError) -> dict[str, Any]:
    return {
        "reason": str(error.reason),
        "violations": [[violation.field, violation.rule] for violation in error.violations],
        "facts": error.facts,
    }


def _failure_from_json(fields: dict[str, Any]) -> SageError:
    return SageError(
        Reason(fields["reason"]),
        violations=tuple(FieldViolation(field, rule) for field, rule in fields["violations"]),
        **fields["facts"],
    )
