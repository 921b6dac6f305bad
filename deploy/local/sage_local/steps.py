"""Starting things in order: each as soon as what it needs is there, independent ones at once."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Step:
    """One thing to do.

    Attributes:
        do: Does it and returns when it is done.
        after: Names of the steps that have to be done before.
    """

    do: Callable[[], Awaitable[None]]
    after: Sequence[str] = ()


async def run_steps(steps: Mapping[str, Step], *, on_done: Callable[[str, float], None]) -> None:
    """Do all steps; the first that fails ends the others.

    Args:
        steps: What to do, by name.
        on_done: Called with a step's name and the seconds that it took, without waiting for others.

    Raises:
        Exception: What the first step that failed raised.
    """
    done = {name: asyncio.Event() for name in steps}

    async def run(name: str, step: Step) -> None:
        for needed in step.after:
            await done[needed].wait()
        begin = time.monotonic()
        await step.do()
        on_done(name, time.monotonic() - begin)
        done[name].set()

    try:
        async with asyncio.TaskGroup() as tasks:
            for name, step in steps.items():
                tasks.create_task(run(name, step))
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None
