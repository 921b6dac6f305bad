"""`kill -9` of the worker at every step of a task: the embedding completes, and one task is paid for."""

import asyncio
import itertools
from dataclasses import dataclass

import psycopg
from fakes.twelvelabs.faults import Gate, Moment, Step
from sage.embed.v1 import embed_pb2
from sage_embed.config import SCHEMA
from sage_runtime.api import new_id

COMPLETED = embed_pb2.EMBEDDING_STATE_COMPLETED


@dataclass(frozen=True)
class Point:
    """The point at which a worker is killed.

    Attributes:
        name: Name of the case.
        step: The request in flight.
        at: How far the request has got.
        creates: Create requests sent in total. Only one of them takes effect.
    """

    name: str
    step: Step
    at: Moment
    creates: int = 1


POINTS = [
    Point("before create", Step.CREATE, Moment.BEFORE, creates=2),
    Point("after create, before its response", Step.CREATE, Moment.AFTER),
    Point("while the response to create arrives", Step.CREATE, Moment.HALF),
    Point("while polling", Step.POLL, Moment.BEFORE),
    Point("while the response to a poll arrives", Step.POLL, Moment.HALF),
    Point("before fetching", Step.FETCH, Moment.BEFORE),
    Point("while fetching", Step.FETCH, Moment.HALF),
]


MODELS = ["marengo3.0", "marengo3.5", "Marengo-retrieval-2.7"]


async def test_a_killed_worker_costs_no_second_task(spawn_worker, create, finish, ingest, twelvelabs, until, subtests):
    """One worker is at every point with every model when it is killed, each with its own embedding."""
    held: dict[str, tuple[Point, Gate]] = {}
    for model, point in itertools.product(MODELS, POINTS):
        video = ingest.add(new_id("video"), duration_seconds=9.5, sound=True)
        gate = twelvelabs.hold(point.step, point.at, of=video)
        held[(await create(video_id=video, model=model)).id] = point, gate
    victim = spawn_worker()
    await until(lambda: all(gate.reached.is_set() for _, gate in held.values()), timeout_s=60)
    victim.kill()
    victim.wait()
    for _, gate in held.values():
        gate.drop()
    spawn_worker()
    finished = await asyncio.gather(*(finish(embedding_id) for embedding_id in held))
    for embedding in finished:
        point, _ = held[embedding.id]
        with subtests.test(point.name, model=embedding.model):
            assert embedding.state == COMPLETED, embedding.failure
            assert [task.id for task in twelvelabs.tasks_of(embedding.video_id)] == [embedding.provider_task_id]
            assert twelvelabs.count(Step.CREATE, of=embedding.video_id) == point.creates
    assert len(twelvelabs.tasks) == len(held)


async def test_a_worker_killed_before_its_submission_leaves_nothing_to_search(
    spawn_worker, create, finish, ingest, twelvelabs, until
):
    gate = ingest.hold_urls()
    embedding_id = (await create()).id
    victim = spawn_worker()
    await until(lambda: ingest.urls, timeout_s=60)
    victim.kill()
    victim.wait()
    gate.set()
    spawn_worker()
    assert (await finish(embedding_id)).state == COMPLETED
    assert (twelvelabs.creates_received, len(twelvelabs.tasks)) == (1, 1)


async def test_a_result_that_was_not_stored_is_fetched_again(
    spawn_worker, create, finish, read, twelvelabs, until, database_url
):
    gate = twelvelabs.hold(Step.FETCH, Moment.AFTER)
    embedding_id = (await create()).id
    victim = spawn_worker()
    await until(gate.reached.is_set, timeout_s=60)
    with psycopg.connect(database_url, options=f"-c search_path={SCHEMA}") as connection:
        connection.execute("LOCK TABLE segment_chunks IN EXCLUSIVE MODE")
        gate.open()

        def storing() -> bool:
            query = "SELECT count(*) FROM pg_locks WHERE relation = 'segment_chunks'::regclass AND NOT granted"
            row = connection.execute(query).fetchone()
            return bool(row and row[0])

        await until(storing)
        victim.kill()
        victim.wait()
    spawn_worker()
    done = await finish(embedding_id)
    assert done.state == COMPLETED
    starts, _, _ = await read(done, "visual")
    assert starts == [0, 2, 4, 6, 8]
    assert twelvelabs.creates_received == 1
    assert twelvelabs.count(Step.FETCH) == 2
