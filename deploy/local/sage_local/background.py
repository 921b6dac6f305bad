"""A complete stack for the length of a block, for tests and benchmarks."""

import asyncio
import contextlib
import tempfile
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from pathlib import Path

from sage_local.display import Display
from sage_local.running import RunningStack
from sage_local.settings import StackSettings
from sage_local.stack import StopRequest, run_stack


@contextlib.contextmanager
def running_stack(
    *,
    workers: int = 1,
    replicas: int = 1,
    environment: Mapping[str, str] | None = None,
    state: Path | None = None,
) -> Iterator[RunningStack]:
    """Run a complete stack on free ports for the length of the block.

    It is supervised as `sage-local up` does it, in a thread of its own, so it works from synchronous and asynchronous
    code: a worker that dies is started again.

    Args:
        workers: How many worker processes.
        replicas: How many processes serve each of ingest, embed and compare.
        environment: Settings of ours for its services and its gateway, such as `{"SAGE_SWEEP_INTERVAL_SECONDS": "1"}`.
        state: Its state folder, kept at the end; without it a temporary one.

    Raises:
        StackError: It could not start, or a part of it died during the block.
    """
    with contextlib.ExitStack() as stack:
        if state is None:
            state = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sage-")))
        settings = StackSettings.on_free_ports(state, workers=workers, replicas=replicas)
        yield stack.enter_context(_in_thread(settings, environment or {}))


@contextlib.contextmanager
def _in_thread(settings: StackSettings, environment: Mapping[str, str]) -> Iterator[RunningStack]:
    ready: Future[RunningStack] = Future()
    ended: Future[None] = Future()
    loop = asyncio.new_event_loop()
    stop = StopRequest()

    def run() -> None:
        try:
            loop.run_until_complete(
                run_stack(settings, display=Display(), stop=stop, on_ready=ready.set_result, environment=environment)
            )
            ended.set_result(None)
        except BaseException as error:
            ended.set_exception(error)
            if not ready.done():
                ready.set_exception(error)

    thread = threading.Thread(target=run, name="sage-local")
    thread.start()
    try:
        running = ready.result()
        yield running
    finally:
        loop.call_soon_threadsafe(stop.asked.set)
        thread.join()
        loop.close()
    ended.result()
