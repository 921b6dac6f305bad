"""Ingest as a process: `python -m sage_ingest serve` or `migrate`. The composition root: it alone knows everything."""

import asyncio
import contextlib
import importlib.resources
import sys
from collections.abc import AsyncIterator, Callable

import psycopg
from botocore.exceptions import BotoCoreError
from sage.ingest.v1 import ingest_pb2, ingest_pb2_grpc
from sage_runtime.postgres import MigrationError, migrate, open_pool
from sage_runtime.server import ServiceRegistration, serve
from sage_runtime.settings import fail, load

from sage_ingest.adapters import postgres, s3
from sage_ingest.adapters.postgres_uploads import PostgresUploadRecords
from sage_ingest.adapters.pyav import PyAVProber
from sage_ingest.capacity import Capacity
from sage_ingest.completion import Completion
from sage_ingest.config import DatabaseSettings, IngestSettings
from sage_ingest.open_uploads import OpenUploads
from sage_ingest.ports import Prober, VideoObjects, VideoRecords
from sage_ingest.servicer import IngestServicer
from sage_ingest.sweep import Sweeper
from sage_ingest.tasks import Unabandoned
from sage_ingest.upload import Uploads
from sage_ingest.upload_ports import UploadRecords
from sage_ingest.videos import Videos

_USAGE = "usage: python -m sage_ingest serve|migrate"


@contextlib.asynccontextmanager
async def service(
    settings: IngestSettings,
    *,
    records: VideoRecords,
    upload_records: UploadRecords,
    objects: VideoObjects,
    prober: Prober,
) -> AsyncIterator[ServiceRegistration]:
    """Run ingest, sweeping included, over its ports; on leaving, what is being cleaned up is waited for.

    Serve inside of the block, so that calls have ended when it is left.
    """
    unabandoned = Unabandoned()
    capacity = Capacity(settings.upload_limits)
    open_uploads = OpenUploads(
        upload_records,
        records,
        objects,
        capacity=capacity,
        expire_s=settings.upload_expire_s,
        max_open=settings.max_open_uploads,
        unabandoned=unabandoned,
    )
    sweeper = Sweeper(
        records,
        upload_records,
        objects,
        lease_s=settings.upload_lease_s,
        interval_s=settings.sweep_interval_s,
        forget_s=settings.upload_expire_s,
    )
    servicer = IngestServicer(
        uploads=Uploads(records, objects, prober, capacity=capacity, unabandoned=unabandoned),
        open_uploads=open_uploads,
        completion=Completion(
            open_uploads, upload_records, records, objects, prober, capacity=capacity, unabandoned=unabandoned
        ),
        videos=Videos(records, objects, lease_s=settings.upload_lease_s, unabandoned=unabandoned),
        max_video_bytes=settings.max_video_bytes,
        idle_s=settings.upload_idle_s,
    )

    async def check() -> None:
        await asyncio.gather(records.check(), objects.check())

    async with asyncio.TaskGroup() as tasks:
        sweeping = tasks.create_task(sweeper.run())
        try:
            yield ServiceRegistration(
                name=ingest_pb2.DESCRIPTOR.services_by_name["IngestService"].full_name,
                add=lambda server: ingest_pb2_grpc.add_IngestServiceServicer_to_server(servicer, server),
                check=check,
            )
        finally:
            await unabandoned.close()
            sweeping.cancel()


@contextlib.asynccontextmanager
async def open_stores(settings: IngestSettings) -> AsyncIterator[tuple[VideoRecords, UploadRecords, VideoObjects]]:
    """Open PostgreSQL and S3 for the length of the block. Neither has to be there yet."""
    connections = s3.S3VideoObjects.connections(settings.total_parts_in_flight)

    session = s3.open_session(region=settings.s3_region, profile=settings.s3_profile)
    public_url = settings.s3_public_endpoint_url or settings.s3_endpoint_url
    objects = s3.S3VideoObjects(
        s3.open_client(session, endpoint_url=settings.s3_endpoint_url, connections=connections),
        url_client=s3.open_client(session, endpoint_url=public_url, connections=connections),
        bucket=settings.s3_bucket,
        part_threads=settings.total_parts_in_flight,
    )
    with contextlib.closing(objects):
        dsn = settings.database_url.get_secret_value()
        pool = await open_pool(dsn, schema=postgres.SCHEMA, max_size=settings.database_connections)
        try:
            yield postgres.PostgresVideoRecords(pool), PostgresUploadRecords(pool), objects
        finally:
            await pool.close()


async def _serve(settings: IngestSettings) -> None:
    async with open_stores(settings) as (records, upload_records, objects):
        prober = PyAVProber(
            timeout_s=settings.probe_timeout_s, max_bytes=settings.probe_max_bytes, at_once=settings.probes_at_once
        )
        async with service(
            settings, records=records, upload_records=upload_records, objects=objects, prober=prober
        ) as registration:
            await serve(service_name="ingest", settings=settings, services=[registration])


def _run_serve() -> None:
    settings = load(IngestSettings)
    try:
        asyncio.run(_serve(settings))
    except (psycopg.ProgrammingError, BotoCoreError, ValueError) as error:
        fail(f"{type(error).__name__}: {error}")


def _run_migrate() -> None:
    settings = load(DatabaseSettings)
    migrations = importlib.resources.files("sage_ingest") / "migrations"
    try:
        migrate(settings.database_url.get_secret_value(), schema=postgres.SCHEMA, migrations=migrations)
    except (MigrationError, psycopg.Error) as error:
        fail(f"{type(error).__name__}: {error}")


def main() -> None:
    """Do what the only argument says."""
    commands: dict[str, Callable[[], None]] = {"serve": _run_serve, "migrate": _run_migrate}
    if len(sys.argv) != 2 or sys.argv[1] not in commands:
        fail(_USAGE)
    commands[sys.argv[1]]()


if __name__ == "__main__":
    main()
