"""The faults of the stand-in: what happens, at which step and point, and how often."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from fakes.twelvelabs.tasks import Document


class Step(StrEnum):
    """The purpose of a request, in either API."""

    CREATE = "create"
    """It creates the task."""
    POLL = "poll"
    """It requests the status: v1's status, or v2's retrieve while the task is not ready."""
    FETCH = "fetch"
    """It fetches the result: v1's retrieve, or v2's retrieve of a task that is ready."""
    LIST = "list"
    """It lists tasks."""


class Moment(StrEnum):
    """When in a request something happens."""

    BEFORE = "before"
    """It has been read, without any effect yet."""
    AFTER = "after"
    """It has taken effect, and no response has been sent."""
    HALF = "half"
    """Half of the response's body has been sent."""


class Gate:
    """Holds a request until a test releases it, from any thread."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.opened = threading.Event()
        self.dropped = False

    def open(self) -> None:
        """Let the request continue."""
        self.opened.set()

    def drop(self) -> None:
        """Close the request's connection. Nothing after this point happens."""
        self.dropped = True
        self.opened.set()


@dataclass(frozen=True)
class Answers:
    """A response that replaces the correct one. With AFTER, the request still takes effect.

    Attributes:
        status: The status.
        body: The body: bytes as they are, everything else as JSON.
        headers: Additional headers.
        at: BEFORE or AFTER the effect.
    """

    status: int
    body: object = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    at: Moment = Moment.BEFORE


@dataclass(frozen=True)
class Drops:
    """The connection is closed."""

    at: Moment = Moment.BEFORE


@dataclass(frozen=True)
class Holds:
    """The request waits at a gate."""

    gate: Gate
    at: Moment = Moment.BEFORE


@dataclass(frozen=True)
class Delays:
    """The request is delayed."""

    seconds: float
    at: Moment = Moment.BEFORE


@dataclass(frozen=True)
class Changes:
    """The correct response is changed before it is sent."""

    change: Callable[[Document], None]


Fault = Answers | Drops | Holds | Delays | Changes


@dataclass
class _Entry:
    steps: frozenset[Step]
    fault: Fault
    left: float
    of: str


class FaultBook:
    """The pending faults. Written by the thread of a test, read by that of the server."""

    def __init__(self) -> None:
        self._entries: list[_Entry] = []
        self._lock = threading.Lock()

    def add(self, fault: Fault, *steps: Step, times: int | None, of: str) -> None:
        """Add a fault for the next `times` requests (None for all) of these steps whose URL contains `of`."""
        with self._lock:
            self._entries.append(_Entry(frozenset(steps), fault, float("inf") if times is None else times, of))

    def clear(self) -> None:
        """Remove all faults."""
        with self._lock:
            self._entries.clear()

    def take(self, step: Step, url: str) -> list[Fault]:
        """Return the faults of a request, and count them."""
        with self._lock:
            matching = [entry for entry in self._entries if step in entry.steps and entry.left > 0 and entry.of in url]
            for entry in matching:
                entry.left -= 1
            return [entry.fault for entry in matching]
