"""Starting in order."""

import asyncio

import pytest
from sage_local.steps import Step, run_steps


async def test_a_step_waits_for_what_it_needs() -> None:
    """Whatever the order in which they are written, a step begins when those before it are done."""
    order: list[str] = []

    def record(name: str) -> Step:
        async def do() -> None:
            await asyncio.sleep(0)
            order.append(name)

        return Step(do, after=after[name])

    after: dict[str, list[str]] = {
        "gateway": ["service"],
        "service": ["database", "bucket"],
        "database": [],
        "bucket": [],
    }
    await run_steps({name: record(name) for name in after}, on_done=lambda name, seconds: None)
    assert order[2:] == ["service", "gateway"]


async def test_independent_steps_run_at_once() -> None:
    """Two steps that wait for each other's beginning both end."""
    begun = {"one": asyncio.Event(), "two": asyncio.Event()}

    def meeting(own: str, other: str) -> Step:
        async def do() -> None:
            begun[own].set()
            await asyncio.wait_for(begun[other].wait(), timeout=5)

        return Step(do)

    done: list[str] = []
    steps = {"one": meeting("one", "two"), "two": meeting("two", "one")}
    await run_steps(steps, on_done=lambda name, seconds: done.append(name))
    assert sorted(done) == ["one", "two"]


async def test_a_failure_ends_the_others() -> None:
    """The error of the step that failed comes out as it was, and what still ran is cancelled."""
    cancelled = asyncio.Event()

    async def fail() -> None:
        raise LookupError("the disk is gone")

    async def wait() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    with pytest.raises(LookupError, match="the disk is gone"):
        await run_steps({"wait": Step(wait), "fail": Step(fail)}, on_done=lambda name, seconds: None)
    assert cancelled.is_set()
