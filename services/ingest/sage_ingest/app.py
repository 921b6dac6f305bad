"""Composition root: builds adapters, use cases and the servicer, and opens and closes them."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from sage.ingest.v1 import ingest_pb2, ingest_pb2_grpc
from sage_runtime.errors import task_group
from sage_runtime.postgres import open_pool
from sage_runtime.s3 import open_check_client, open_client, open_session
from sage_runtime.s3_errors import Room
from sage_runtime.server import ServiceRegistration, serve

from sage_ingest.config import IngestSettings
from sage_ingest.probing.ports import Prober
from sage_ingest.probing.prober import PyAVProber
from sage_ingest.servicer import IngestServicer
from sage_ingest.storage import S3VideoObjects
from sage_ingest.uploads.completion import Completion
from sage_ingest.uploads.parts import Capacity
from sage_ingest.uploads.ports import UploadRepository
from sage_ingest.uploads.postgres import PostgresUploadRepository
from sage_ingest.uploads.resumable import ResumableUploads
from sage_ingest.uploads.streamed import StreamedUploads
from sage_ingest.uploads.sweep import Sweeper
from sage_ingest.videos.catalog import VideoCatalog
from sage_ingest.videos.pending import PendingObjects, ShieldedTasks
from sage_ingest.videos.ports import VideoObjects, VideoRepository
from sage_ingest.videos.postgres import SCHEMA, PostgresVideoRepository


@dataclass(frozen=True)
class Adapters:
    """One adapter for each port."""

    videos: VideoRepository
    uploads: UploadRepository
    objects: VideoObjects
    prober: Prober


@contextlib.asynccontextmanager
async def open_adapters(settings: IngestSettings) -> AsyncIterator[Adapters]:
    """Open PostgreSQL and S3 for the length of the block. Neither needs to be reachable yet."""
    connections = S3VideoObjects.connections(settings.total_parts_in_flight)
    session = open_session(region=settings.s3_region, profile=settings.s3_profile)
    public_url = settings.s3_public_endpoint_url or settings.s3_endpoint_url
    objects = S3VideoObjects(
        open_client(session, endpoint_url=settings.s3_endpoint_url, connections=connections),
        url_client=open_client(session, endpoint_url=public_url, connections=connections),
        check_client=open_check_client(
            session, endpoint_url=settings.s3_endpoint_url, timeout_s=settings.health_timeout_s
        ),
        bucket=settings.s3_bucket,
        part_threads=settings.total_parts_in_flight,
        room=Room(settings.store_folder, settings.store_min_free_bytes),
    )
    with contextlib.closing(objects):
        dsn = settings.database_url.get_secret_value()
        pool = await open_pool(dsn, schema=SCHEMA, max_size=settings.database_connections)
        try:
            yield Adapters(PostgresVideoRepository(pool), PostgresUploadRepository(pool), objects, PyAVProber(settings))
        finally:
            await pool.close()


@contextlib.asynccontextmanager
async def open_service(settings: IngestSettings, adapters: Adapters) -> AsyncIterator[ServiceRegistration]:
    """Run ingest and its sweep for the length of the block, then wait for cleanup to finish.

    Serve inside the block, so that calls have ended when the block exits.
    """
    videos, uploads, objects = adapters.videos, adapters.uploads, adapters.objects
    capacity, shielded = Capacity(settings), ShieldedTasks()
    pending = PendingObjects(videos, objects, lease_s=settings.upload_lease_s)
    servicer = IngestServicer(
        settings,
        streamed=StreamedUploads(
            settings,
            videos=videos,
            objects=objects,
            pending=pending,
            prober=adapters.prober,
            capacity=capacity,
            shielded=shielded,
        ),
        resumable=ResumableUploads(
            settings, uploads=uploads, objects=objects, pending=pending, capacity=capacity, shielded=shielded
        ),
        completion=Completion(
            settings,
            uploads=uploads,
            videos=videos,
            objects=objects,
            pending=pending,
            prober=adapters.prober,
            capacity=capacity,
            shielded=shielded,
        ),
        catalog=VideoCatalog(videos, objects, pending, shielded),
    )
    sweeper = Sweeper(settings, videos=videos, uploads=uploads, objects=objects)

    async def check() -> None:
        # Both end before the next check begins.
        for failed in await asyncio.gather(videos.check(), objects.check(), return_exceptions=True):
            if failed is not None:
                raise failed

    name = ingest_pb2.DESCRIPTOR.services_by_name["IngestService"].full_name
    async with task_group() as tasks:
        sweeping = tasks.create_task(sweeper.run())
        try:
            yield ServiceRegistration(
                name=name,
                add=lambda server: ingest_pb2_grpc.add_IngestServiceServicer_to_server(servicer, server),
                check=check,
                # Without room for uploads, everything that is stored can still be read.
                partial_checks={f"{name}/uploads": objects.check_writable},
                # It changes nothing, but its response must not be cached, as a GET's could be.
                read_methods=frozenset({"GetPlaybackUrl"}),
            )
        finally:
            await shielded.close()
            sweeping.cancel()


async def run(settings: IngestSettings) -> None:
    """Serve ingest until a signal stops it."""
    async with open_adapters(settings) as adapters, open_service(settings, adapters) as registration:
        await serve(service_name="ingest", settings=settings, services=[registration])
