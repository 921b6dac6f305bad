"""Every way in which TwelveLabs misbehaves: what users see, what is stored, and how many tasks are created."""

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from fakes.twelvelabs.faults import Delays, Drops, Fault, Moment, Step
from fakes.twelvelabs.misbehaviour import (
    empty,
    fails,
    limits,
    lists_nothing,
    lists_without_urls,
    names_task,
    not_json,
    refuses,
    says,
    with_nan,
)
from sage.embed.v1 import embed_pb2
from sage.errors.v1 import error_reason_pb2
from sage_runtime.api import new_id

COMPLETED = embed_pb2.EMBEDDING_STATE_COMPLETED
FAILED = embed_pb2.EMBEDDING_STATE_FAILED

V2, V1 = "marengo3.0", "Marengo-retrieval-2.7"
MODELS = [V2, V1]

pytestmark = pytest.mark.usefixtures("worker")


@dataclass(frozen=True)
class Trouble:
    """A temporary error.

    Attributes:
        name: Name of the case.
        fault: What the stand-in does.
        step: In which request.
        times: How often.
        creates: Create requests sent in total. Only one of them takes effect.
    """

    name: str
    fault: Fault
    step: Step
    times: int = 1
    creates: int = 1


LIMITED = [
    Trouble("429 at create", limits(), Step.CREATE, 2, creates=3),
    Trouble("429 at create, Retry-After", limits(retry_after="1"), Step.CREATE, creates=2),
    Trouble("429 at create, not JSON", limits(json=False), Step.CREATE, creates=2),
    Trouble("429 while polling", limits(), Step.POLL, 2),
    Trouble("429 while fetching", limits(json=False), Step.FETCH),
]
PASSING = [
    Trouble("500 at create", refuses(500, "internal_server_error"), Step.CREATE, creates=2),
    Trouble("503 at create", refuses(503, "service_unavailable"), Step.CREATE, creates=2),
    Trouble("empty 500 after the create took effect", empty(500), Step.CREATE),
    Trouble("HTML of a proxy after the create took effect", not_json(504), Step.CREATE),
    Trouble("empty response to a create", empty(202), Step.CREATE),
    Trouble("response to a create that is not JSON", not_json(202), Step.CREATE),
    Trouble("connection drops before the create took effect", Drops(), Step.CREATE, creates=2),
    Trouble("connection drops after the create took effect", Drops(Moment.AFTER), Step.CREATE),
    Trouble("connection drops in the response to a create", Drops(Moment.HALF), Step.CREATE),
    Trouble("slow create", Delays(1.5, Moment.AFTER), Step.CREATE),
    Trouble("500 while polling", refuses(500, "internal_server_error", nested=True), Step.POLL, 3),
    Trouble("503 while polling", refuses(503, "service_unavailable"), Step.POLL),
    Trouble("empty body while polling", empty(200), Step.POLL),
    Trouble("a page of HTML while polling", not_json(200), Step.POLL),
    Trouble("connection drops while polling", Drops(), Step.POLL, 2),
    Trouble("slow poll", Delays(1.5), Step.POLL),
    Trouble("status queued", says("queued"), Step.POLL, 2),
    Trouble("status pending", says("pending"), Step.POLL, 2),
    Trouble("status banana", says("banana"), Step.POLL, 2),
    Trouble("one 401 while polling", refuses(401, "api_key_invalid"), Step.POLL),
    Trouble("one 403 while polling", refuses(403, "forbidden"), Step.POLL),
    Trouble("one 403 while fetching", refuses(403, "forbidden"), Step.FETCH),
    Trouble("impossible task ID", names_task("../../embed/tasks"), Step.CREATE),
    Trouble("task ID with NUL", names_task("a\0b"), Step.CREATE),
    Trouble("ID of an unknown task", names_task("64f8d2c7e4a1b37f8a9c5d12"), Step.CREATE),
    Trouble("500 while fetching", refuses(500, "internal_server_error"), Step.FETCH),
    Trouble("empty result", empty(200), Step.FETCH),
    Trouble("result that is not JSON", not_json(200), Step.FETCH),
    Trouble("connection drops in the result", Drops(Moment.HALF), Step.FETCH),
    Trouble("slow result", Delays(1.5), Step.FETCH),
    Trouble("result corrupt once", with_nan(), Step.FETCH),
]


CREATING = [trouble for trouble in PASSING if trouble.step is Step.CREATE]
FOLLOWING = [trouble for trouble in PASSING if trouble.step is not Step.CREATE]


@pytest.mark.parametrize("troubles", [CREATING, FOLLOWING, LIMITED], ids=["creating", "following", "rate limits"])
async def test_temporary_errors_are_retried_with_one_task(embed_all, twelvelabs, subtests, troubles):
    cases = [(model, trouble) for trouble in troubles for model in MODELS]

    def meeting(trouble: Trouble) -> Callable[[str], None]:
        return lambda video: twelvelabs.misbehave(trouble.fault, trouble.step, times=trouble.times, of=video)

    embeddings = await embed_all([{"meet": meeting(trouble), "model": model} for model, trouble in cases])
    for (model, trouble), done in zip(cases, embeddings, strict=True):
        with subtests.test(trouble.name, model=model):
            assert done.state == COMPLETED, done.failure
            assert done.tracks[0].segment_count == (5 if model == V2 else 4)
            assert [task.id for task in twelvelabs.tasks_of(done.video_id)] == [done.provider_task_id]
            assert twelvelabs.count(Step.CREATE, of=done.video_id) == trouble.creates


@pytest.mark.parametrize("model", MODELS)
async def test_a_list_that_lags_costs_no_second_task(create, finish, twelvelabs, model):
    twelvelabs.misbehave(Drops(Moment.AFTER), Step.CREATE, times=1)
    twelvelabs.misbehave(lists_nothing(), Step.LIST, times=1)
    done = await finish((await create(model=model)).id)
    assert done.state == COMPLETED
    assert (twelvelabs.creates_received, len(twelvelabs.tasks)) == (1, 1)


async def test_an_inconclusive_list_fails_the_embedding_instead_of_paying_twice(create, finish, twelvelabs):
    twelvelabs.misbehave(Drops(Moment.AFTER), Step.CREATE, times=1)
    twelvelabs.misbehave(lists_without_urls(), Step.LIST)
    failed = await finish((await create()).id)
    assert failed.state == FAILED
    assert failed.failure.reason == error_reason_pb2.ERROR_REASON_PROVIDER_FAILED
    assert "billed" in failed.failure.message
    assert (twelvelabs.creates_received, len(twelvelabs.tasks)) == (1, 1)


@dataclass(frozen=True)
class Final:
    """A permanent error.

    Attributes:
        name: Name of the case.
        fault: What the stand-in does.
        step: In which request.
        reason: The expected reason.
        words: TwelveLabs' words in the expected message.
    """

    name: str
    fault: Fault
    step: Step
    reason: str
    words: str = ""


def _rejected(code: str) -> Final:
    words = f"The words of TwelveLabs for {code}, with a number: 4"
    return Final(code, refuses(400, code, words), Step.CREATE, "PROVIDER_REJECTED_VIDEO", words)


BROKE = "failed to fetch or materialize source media"
QUOTA = "You have used up your free plan's 600 minutes"
WRONG = "The video_url parameter is invalid"
FINAL = [
    Final("401", refuses(401, "api_key_invalid"), Step.CREATE, "API_KEY_INVALID"),
    Final("403", refuses(403, "forbidden", "Not for you"), Step.CREATE, "PROVIDER_FAILED", "Not for you"),
    Final("usage limit", refuses(400, "usage_limit_exceeded", QUOTA), Step.CREATE, "PROVIDER_QUOTA_EXCEEDED", QUOTA),
    Final(
        "wrong parameter", refuses(400, "parameter_invalid", WRONG, nested=True), Step.CREATE, "PROVIDER_FAILED", WRONG
    ),
    *map(
        _rejected,
        (
            "video_duration_too_short",
            "video_duration_too_long",
            "video_resolution_too_low",
            "video_resolution_too_high",
            "video_filesize_too_large",
            "video_file_broken",
        ),
    ),
    Final("the task fails", fails(BROKE), Step.POLL, "PROVIDER_FAILED", BROKE),
]


async def test_permanent_errors_are_reported_with_twelvelabs_message(embed_all, twelvelabs, subtests):
    cases = [(model, trouble) for trouble in FINAL for model in MODELS]

    def meeting(trouble: Final) -> Callable[[str], None]:
        return lambda video: twelvelabs.misbehave(trouble.fault, trouble.step, of=video)

    embeddings = await embed_all([{"meet": meeting(trouble), "model": model} for model, trouble in cases])
    for (model, trouble), failed in zip(cases, embeddings, strict=True):
        with subtests.test(trouble.name, model=model):
            assert failed.state == FAILED
            assert error_reason_pb2.ErrorReason.Name(failed.failure.reason) == f"ERROR_REASON_{trouble.reason}"
            assert trouble.words in failed.failure.message
            assert ("may still bill task" in failed.failure.message) == bool(failed.provider_task_id)
            assert all(track.segment_count == 0 for track in failed.tracks)
            assert twelvelabs.count(Step.CREATE, of=failed.video_id) == 1


async def test_a_task_of_another_embedding_leads_to_a_search_for_the_right_one(create, finish, twelvelabs):
    first = await finish((await create()).id)
    twelvelabs.misbehave(names_task(first.provider_task_id), Step.CREATE, times=1)
    second = await finish((await create()).id)
    assert second.state == COMPLETED, second.failure
    assert second.provider_task_id == twelvelabs.tasks[1].id
    assert (twelvelabs.creates_received, len(twelvelabs.tasks)) == (2, 2)


async def test_a_hold_is_told_by_every_embedding_of_the_key_until_it_ends(create, watch, ingest, twelvelabs):
    twelvelabs.misbehave(limits(retry_after="6"), Step.CREATE, times=1)
    videos = [ingest.add(new_id("video"), duration_seconds=9.5, sound=True) for _ in range(3)]
    created = [await create(video_id=video) for video in videos]
    for messages in await asyncio.gather(*(watch(embedding.id) for embedding in created)):
        assert messages[-1].embedding.state == COMPLETED
        told = {message.embedding.progress.message for message in messages}
        held = re.compile(r"The rate limit of TwelveLabs holds this work back until [0-9: -]+ UTC\.")
        assert any(held.fullmatch(text) for text in told), told


@pytest.mark.parametrize("model", MODELS)
async def test_a_task_that_is_gone_fails_and_is_not_created_again(create, finish, twelvelabs, until, model):
    twelvelabs.polls_before_ready = 1000
    embedding_id = (await create(model=model)).id
    await until(lambda: twelvelabs.count(Step.POLL) > 1)
    twelvelabs.forget_tasks()
    failed = await finish(embedding_id)
    assert failed.state == FAILED
    assert failed.failure.reason == error_reason_pb2.ERROR_REASON_PROVIDER_FAILED
    assert "no longer exists" in failed.failure.message
    assert twelvelabs.creates_received == 1


@pytest.mark.parametrize("model", MODELS)
async def test_a_task_that_is_briefly_not_found_is_waited_for(create, finish, twelvelabs, model):
    gone = refuses(404, "resource_not_exists") if model == V2 else refuses(400, "parameter_invalid")
    twelvelabs.misbehave(gone, Step.POLL, times=2)
    assert (await finish((await create(model=model)).id)).state == COMPLETED
    assert twelvelabs.creates_received == 1
