"""What belongs to the current call: request id and time left."""

import asyncio

import pytest
import structlog
from sage_runtime.context import accept_request_id, current_request_id, enter_call, time_left_s, working_on


def test_outside_a_call_there_is_no_id_and_no_deadline():
    assert current_request_id() == ""
    assert time_left_s() is None


@pytest.mark.parametrize("offered", ["nightly-42", "0192f0c1d2e37a4b8c9d0e1f2a3b4c5d", "a" * 128, "a.b:c/d=e+f@g_h"])
def test_valid_request_ids_are_kept(offered):
    assert accept_request_id(offered) == offered


@pytest.mark.parametrize("offered", [None, "", b"bytes", "a" * 129, "two words", "line\nbreak", "é", '{"a":1}'])
def test_other_request_ids_are_replaced(offered):
    made = accept_request_id(offered)
    assert made != offered
    assert len(made) == 32


def test_work_outside_a_call_has_an_id_until_it_ends():
    with working_on("job-7", timeout_s=10) as request_id:
        assert request_id == current_request_id() == "job-7"
        assert structlog.contextvars.get_contextvars()["request_id"] == "job-7"
        assert 9 < time_left_s() <= 10
    assert current_request_id() == ""
    assert "request_id" not in structlog.contextvars.get_contextvars()


async def test_each_task_has_its_own_call():
    async def call(name):
        enter_call(name, timeout_s=None)
        await asyncio.sleep(0)
        return current_request_id()

    assert await asyncio.gather(call("a"), call("b")) == ["a", "b"]
    assert current_request_id() == ""


def test_time_left_is_never_negative():
    with working_on(timeout_s=-1):
        assert time_left_s() == 0
