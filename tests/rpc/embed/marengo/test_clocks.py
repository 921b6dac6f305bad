"""Workers whose machines have a wrong clock: hours ahead, or half an hour behind."""

import datetime
import sys

import pytest
from fakes.twelvelabs.faults import Drops, Moment, Step
from fakes.twelvelabs.misbehaviour import refuses
from sage.embed.v1 import embed_pb2

COMPLETED = embed_pb2.EMBEDDING_STATE_COMPLETED
HOURS_AHEAD_S, BEHIND_S = 5 * 3600.0, -1800.0


@pytest.fixture
def set_clock(monkeypatch):
    """Return a function that moves the clock of this machine, as far as workers read it."""

    def move(seconds: float) -> None:
        class Moved(datetime.datetime):
            @classmethod
            def now(cls, tz=None):
                return datetime.datetime.now(tz) + datetime.timedelta(seconds=seconds)

        for name, module in list(sys.modules.items()):
            if name.startswith(("sage_embed.jobs", "sage_embed.engines")) and hasattr(module, "datetime"):
                monkeypatch.setattr(module, "datetime", Moved)

    return move


@pytest.mark.parametrize("wrong_s", [HOURS_AHEAD_S, BEHIND_S])
async def test_the_task_of_another_worker_is_continued(
    start_worker, create, finish, twelvelabs, until, set_clock, wrong_s
):
    twelvelabs.polls_before_ready = 10_000
    async with start_worker():
        embedding_id = (await create()).id
        await until(lambda: twelvelabs.count(Step.POLL) > 1)
    set_clock(wrong_s)
    twelvelabs.tasks[0].polls_left = 5
    async with start_worker():
        done = await finish(embedding_id)
    assert done.state == COMPLETED, done.failure
    assert (twelvelabs.creates_received, len(twelvelabs.tasks)) == (1, 1)


@pytest.mark.parametrize("wrong_s", [HOURS_AHEAD_S, BEHIND_S])
async def test_the_lost_submission_of_another_worker_is_found(
    start_worker, create, finish, twelvelabs, until, set_clock, wrong_s
):
    gate = twelvelabs.hold(Step.CREATE, Moment.AFTER)
    async with start_worker():
        embedding_id = (await create()).id
        await until(gate.reached.is_set)
    gate.drop()
    set_clock(wrong_s)
    async with start_worker():
        done = await finish(embedding_id)
    assert done.state == COMPLETED, done.failure
    assert (twelvelabs.creates_received, len(twelvelabs.tasks)) == (1, 1)


async def test_a_retry_is_not_put_off_by_hours(start_worker, create, finish, twelvelabs, set_clock):
    twelvelabs.misbehave(Drops(Moment.AFTER), Step.CREATE, times=1)
    twelvelabs.misbehave(refuses(500, "internal_server_error"), Step.LIST, times=5)
    set_clock(HOURS_AHEAD_S)
    async with start_worker():
        done = await finish((await create()).id)
    assert done.state == COMPLETED, done.failure
    assert (twelvelabs.creates_received, len(twelvelabs.tasks)) == (1, 1)
