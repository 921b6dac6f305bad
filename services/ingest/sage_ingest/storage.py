"""The bytes of videos in S3, or in any S3-compatible store, through boto3."""

import asyncio
import functools
import urllib.parse
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, cast

from botocore.exceptions import BotoCoreError, ClientError
from sage_runtime.s3 import S3Bucket
from sage_runtime.s3_errors import Room, code_of

from sage_ingest.videos.model import OBJECT_KEY_PREFIX, is_object_key
from sage_ingest.videos.ports import Multipart, VideoObjects

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


class S3VideoObjects(S3Bucket, VideoObjects):
    """Videos in one bucket.

    Parts have a separate pool of threads, so aborting, probing and health checks find a thread however slow parts are.

    Args:
        client: For everything except playback URLs and health checks.
        url_client: Signs playback URLs, for the address at which players reach the store.
        check_client: For health checks, with short timeouts.
        bucket: Name of the bucket.
        part_threads: Parts sent at once.
        room: The store's room, if it is known.
    """

    def __init__(
        self,
        client: "S3Client",
        *,
        url_client: "S3Client",
        check_client: "S3Client",
        bucket: str,
        part_threads: int,
        room: Room | None = None,
    ) -> None:
        super().__init__(client, check_client=check_client, bucket=bucket, room=room or Room())
        self._url_client = url_client
        self._parts = ThreadPoolExecutor(part_threads, thread_name_prefix="s3-parts")

    def close(self) -> None:
        self._parts.shutdown(wait=True)
        super().close()
        self._url_client.close()

    async def begin(self, key: str, *, content_type: str) -> str:
        def begin() -> str:
            response = self._client.create_multipart_upload(Bucket=self._bucket, Key=key, ContentType=content_type)
            return response["UploadId"]

        return await self._write(self._control, begin, key=key)

    async def put_part(self, key: str, *, multipart_id: str, part_number: int, data: bytearray) -> str:
        # botocore accepts a bytearray, although its type hints do not.
        blob = cast("bytes", data)

        def put() -> str:
            self._room.check(len(data))
            response = self._client.upload_part(
                Bucket=self._bucket, Key=key, UploadId=multipart_id, PartNumber=part_number, Body=blob
            )
            return response["ETag"]

        tag = await self._write(self._parts, put, key=key)
        self._full = None
        return tag

    async def part_tags(self, key: str, *, multipart_id: str) -> frozenset[tuple[int, str]] | None:
        def list_parts() -> frozenset[tuple[int, str]] | None:
            pages = self._client.get_paginator("list_parts").paginate(
                Bucket=self._bucket, Key=key, UploadId=multipart_id
            )
            try:
                return frozenset((part["PartNumber"], part["ETag"]) for page in pages for part in page.get("Parts", []))
            except ClientError as error:
                if code_of(error) != "NoSuchUpload":
                    raise
                return None

        return await self._run(self._control, list_parts, key=key)

    async def complete(self, key: str, *, multipart_id: str, tags: Sequence[str], size_bytes: int) -> None:
        def complete() -> None:
            try:
                self._client.complete_multipart_upload(
                    Bucket=self._bucket,
                    Key=key,
                    UploadId=multipart_id,
                    MultipartUpload={
                        "Parts": [{"PartNumber": number, "ETag": tag} for number, tag in enumerate(tags, start=1)]
                    },
                )
            except (BotoCoreError, ClientError):
                # If the response was lost, botocore's repeated request finds no upload: it has become the object. A key
                # is used once, so an object of this size under this key is that one.
                if self._size_of(key) != size_bytes:
                    raise

        await self._write(self._control, complete, key=key)

    async def discard(self, key: str) -> None:
        self._check_present()

        def discard() -> None:
            # Found by key: an upload's ID is unknown if the response that contained it was lost.
            for multipart_id in self._multipart_ids(key):
                self._abort(key, multipart_id)
            self._client.delete_object(Bucket=self._bucket, Key=key)

        await self._run(self._control, discard, key=key)

    async def list_multiparts(self, *, older_than_s: float) -> list[Multipart]:
        def find() -> list[Multipart]:
            before = datetime.now(UTC) - timedelta(seconds=older_than_s)
            pages = self._client.get_paginator("list_multipart_uploads").paginate(
                Bucket=self._bucket, Prefix=OBJECT_KEY_PREFIX
            )
            begun = [
                Multipart(upload["Key"], upload["UploadId"])
                for page in pages
                for upload in page.get("Uploads", [])
                if is_object_key(upload["Key"]) and upload["Initiated"] < before
            ]
            return [one for one in begun if self._last_part_time(one) < before]

        return await self._run(self._control, find)

    async def abort(self, multipart: Multipart) -> None:
        await self._run(self._control, lambda: self._abort(multipart.key, multipart.multipart_id), key=multipart.key)

    async def read_part(self, key: str, *, offset: int, length: int) -> bytes:
        return await self._run(self._parts, functools.partial(self._read, key, offset=offset, length=length), key=key)

    async def playback_url(self, key: str, *, filename: str, content_type: str, validity_s: int) -> str:
        def sign() -> str:
            return self._url_client.generate_presigned_url(
                "get_object",
                Params={
                    "Bucket": self._bucket,
                    "Key": key,
                    "ResponseContentType": content_type,
                    "ResponseContentDisposition": _inline(filename),
                },
                ExpiresIn=validity_s,
            )

        return await self._run(self._control, sign, key=key)

    async def check_accepts(self, size_bytes: int) -> None:
        self._check_present()
        await asyncio.to_thread(self._room.check, size_bytes)

    def _size_of(self, key: str) -> int | None:
        try:
            return self._client.head_object(Bucket=self._bucket, Key=key)["ContentLength"]
        except ClientError as error:
            if code_of(error) in {"404", "NoSuchKey"}:
                return None
            raise

    def _multipart_ids(self, key: str) -> list[str]:
        pages = self._client.get_paginator("list_multipart_uploads").paginate(Bucket=self._bucket, Prefix=key)
        return [upload["UploadId"] for page in pages for upload in page.get("Uploads", []) if upload["Key"] == key]

    def _last_part_time(self, multipart: Multipart) -> datetime:
        pages = self._client.get_paginator("list_parts").paginate(
            Bucket=self._bucket, Key=multipart.key, UploadId=multipart.multipart_id
        )
        try:
            times = [part["LastModified"] for page in pages for part in page.get("Parts", [])]
        except ClientError as error:
            if code_of(error) != "NoSuchUpload":
                raise
            # It has just ended.
            return datetime.now(UTC)
        return max(times, default=datetime.min.replace(tzinfo=UTC))

    def _abort(self, key: str, multipart_id: str) -> None:
        try:
            self._client.abort_multipart_upload(Bucket=self._bucket, Key=key, UploadId=multipart_id)
        except ClientError as error:
            if code_of(error) != "NoSuchUpload":
                raise


def _inline(filename: str) -> str:
    # RFC 6266: the name twice, plain for old clients and percent-encoded in UTF-8 (RFC 5987). Characters that a quoted
    # string may not contain become dashes, so that a label cannot inject anything into the header.
    plain = "".join(c if c.isascii() and c.isprintable() and c not in '"\\%' else "-" for c in filename)
    return f"inline; filename=\"{plain}\"; filename*=UTF-8''{urllib.parse.quote(filename, safe='')}"
