"""The blocks of fingerprints in S3, or in any S3-compatible store."""

from collections.abc import Sequence
from typing import Self

from botocore.exceptions import ClientError
from sage_runtime.s3 import S3Bucket, open_check_client, open_client, open_session
from sage_runtime.s3_errors import Room, code_of

from sage_embed.config import EmbedSettings
from sage_embed.fingerprints.ports import FingerprintObjects

_STORE = "fingerprint store"


class S3FingerprintObjects(S3Bucket, FingerprintObjects):
    """Fingerprints in one bucket, under `OBJECT_KEY_PREFIX`."""

    @classmethod
    def open(cls, settings: EmbedSettings) -> Self:
        """Return the store of the settings. It need not be reachable yet."""
        session = open_session(region=settings.s3_region, profile=settings.s3_profile)
        url = settings.s3_endpoint_url
        return cls(
            open_client(session, endpoint_url=url, connections=cls.connections()),
            check_client=open_check_client(session, endpoint_url=url, timeout_s=settings.health_timeout_s),
            bucket=settings.s3_bucket,
            room=Room(settings.store_folder, settings.store_min_free_bytes, store=_STORE),
        )

    async def put(self, key: str, data: bytes) -> None:
        def put() -> None:
            self._room.check(len(data))
            self._client.put_object(Bucket=self._bucket, Key=key, Body=data)

        self._check_present()
        await self._write(self._control, put, key=key)

    async def read(self, key: str, *, offset: int, length: int) -> bytes:
        def read() -> bytes | None:
            try:
                return self._read(key, offset=offset, length=length)
            except ClientError as error:
                if code_of(error) not in {"404", "NoSuchKey"}:
                    raise
                return None

        self._check_present()
        data = await self._run(self._control, read, key=key)
        if data is None:
            raise KeyError(key)
        return data

    async def remove(self, keys: Sequence[str]) -> None:
        def remove() -> None:
            # One by one: not every S3-compatible store supports requests for many.
            for key in keys:
                self._client.delete_object(Bucket=self._bucket, Key=key)

        self._check_present()
        await self._run(self._control, remove, key=f"{len(keys)} fingerprint objects")
