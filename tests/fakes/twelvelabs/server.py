"""A stand-in for TwelveLabs: an HTTP server with both embedding APIs that misbehaves on request.

It runs in a separate thread, so that a test can control it while the code under test, in this or another process, uses
it through `TWELVELABS_BASE_URL`.
"""

import asyncio
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from aiohttp import web
from fakes.twelvelabs.endpoints import Endpoints
from fakes.twelvelabs.facts import PREFIX, Api
from fakes.twelvelabs.faults import Fault, FaultBook, Gate, Holds, Moment, Step
from fakes.twelvelabs.handling import Handling

if TYPE_CHECKING:
    from fakes.twelvelabs.rate import RateLimit
    from fakes.twelvelabs.studio import Footage
    from fakes.twelvelabs.tasks import Task

KEY = "tlk_STANDIN0SECRET0KEY0WXYZ"


class Looks(Protocol):
    """Analyses videos."""

    async def look(self, url: str, clip_seconds: int) -> "Footage":
        """Return the footage at a URL."""
        ...


@dataclass
class Seen:
    """A received request.

    Attributes:
        at: When it arrived, in seconds of `time.monotonic`.
        step: Its step in the life of a task.
        path: Its path.
        key: The key that it was sent with.
        url: URL of the video that it concerns; empty if it concerns none or was refused unread.
        status: Status of the response; 0 if there was none.
    """

    at: float
    step: Step
    path: str
    key: str
    url: str = ""
    status: int = 0


class StandIn:
    """The embedding APIs of TwelveLabs.

    Args:
        studio: Analyses the videos.

    Attributes:
        keys: The valid keys.
        tasks: The tasks that were created, oldest first. Each of them would be billed.
        seen: The received requests, oldest first.
        polls_before_ready: How often a new task reports that it is not done.
        speech: Whether videos with sound contain speech.
        rate_limit: The rate limit; None if unlimited.
    """

    def __init__(self, studio: Looks) -> None:
        self.studio = studio
        self._port = 0
        self.reset()

    def reset(self) -> None:
        """Reset everything: requests, tasks, faults and settings."""
        self.keys = {KEY}
        self.tasks: list[Task] = []
        self.seen: list[Seen] = []
        self.polls_before_ready = 1
        self.speech = False
        self.rate_limit: RateLimit | None = None
        self.faults = FaultBook()

    @property
    def environment(self) -> Mapping[str, str]:
        """The environment of a process that uses it, with a valid key."""
        return {"TWELVELABS_BASE_URL": self.base_url, "TWELVELABS_API_KEY": KEY}

    @property
    def base_url(self) -> str:
        """Its base URL."""
        return f"http://127.0.0.1:{self._port}{PREFIX}"

    @property
    def creates_received(self) -> int:
        """How many create requests arrived, whatever happened to them."""
        return self.count(Step.CREATE)

    def count(self, step: Step, *, of: str = "") -> int:
        """Return how many requests of a step arrived for videos whose URL contains `of`."""
        return sum(seen.step is step and of in seen.url for seen in self.seen)

    def tasks_of(self, of: str) -> "list[Task]":
        """Return the tasks of videos whose URL contains `of`."""
        return [task for task in self.tasks if of in task.order.url]

    def misbehave(self, fault: Fault, *steps: Step, times: int | None = None, of: str = "") -> None:
        """Misbehave in the next requests of these steps.

        Args:
            fault: What happens.
            steps: The steps.
            times: In how many requests; None for all.
            of: Only for videos whose URL contains this.
        """
        self.faults.add(fault, *steps, times=times, of=of)

    def hold(self, step: Step, at: Moment, *, of: str = "") -> Gate:
        """Hold the next request of a step at a point, and return the gate."""
        gate = Gate()
        self.misbehave(Holds(gate, at), step, times=1, of=of)
        return gate

    def find(self, task_id: str) -> "Task | None":
        """Return a task."""
        return next((task for task in self.tasks if task.id == task_id), None)

    def forget_tasks(self) -> None:
        """Delete every task, as TwelveLabs does after seven days."""
        self.tasks.clear()

    @contextmanager
    def running(self) -> Iterator["StandIn"]:
        """Serve while the block runs."""
        ready: Future[tuple[int, asyncio.AbstractEventLoop, asyncio.Event]] = Future()
        thread = threading.Thread(target=lambda: asyncio.run(self._run(ready)), name="twelvelabs")
        thread.start()
        self._port, loop, stop = ready.result(timeout=10)
        try:
            yield self
        finally:
            loop.call_soon_threadsafe(stop.set)
            thread.join()

    async def _run(self, ready: "Future[tuple[int, asyncio.AbstractEventLoop, asyncio.Event]]") -> None:
        try:
            await self._serve(ready)
        except Exception as error:
            if ready.done():
                raise
            ready.set_exception(error)

    async def _serve(self, ready: "Future[tuple[int, asyncio.AbstractEventLoop, asyncio.Event]]") -> None:
        application = web.Application()
        endpoints = Endpoints(self)
        for api in Api:
            for method, path, endpoint in endpoints.of(api):
                application.router.add_route(method, f"{PREFIX}{api}{path}", Handling(self, endpoint).handle)
        runner = web.AppRunner(application, shutdown_timeout=0.1, access_log=None)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            stop = asyncio.Event()
            ready.set_result((runner.addresses[0][1], asyncio.get_running_loop(), stop))
            await stop.wait()
        finally:
            await runner.cleanup()

    def record(self, request: web.Request, step: Step) -> Seen:
        """Record a request."""
        seen = Seen(time.monotonic(), step, request.path, request.headers.get("x-api-key", ""))
        self.seen.append(seen)
        return seen
