"""How the stand-in misbehaves: what happens instead, at which step, at which moment, and how often."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from fakes.twelvelabs.tasks import Document


class Step(StrEnum):
    """What a request is in the life of a task, whichever API it is of."""

    CREATE = "create"
    """It makes the task."""
    POLL = "poll"
    """It asks for the status: v1's status, or v2's retrieve while the task is not ready."""
    FETCH = "fetch"
    """It fetches the result: v1's retrieve, or v2's retrieve of a task that is ready."""
    LIST = "list"
    """It lists tasks."""


class Moment(StrEnum):
    """When in a request something happens."""

    BEFORE = "before"
    """It has been read and has had no effect."""
    AFTER = "after"
    """It has had its effect, and nothing has been answered."""
    HALF = "half"
    """Half of the answer's body has been sent."""


class Gate:
    """Holds a request until a test lets it go, from any thread."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.opened = threading.Event()
        self.dropped = False

    def open(self) -> None:
        """Let the request go on."""
        self.opened.set()

    def drop(self) -> None:
        """Break the request's connection off; what it was to do after this moment is not done."""
        self.dropped = True
        self.opened.set()


@dataclass(frozen=True)
class Answers:
    """This is answered, whatever is right. After AFTER the request has had its effect all the same.

    Attributes:
        status: The status.
        body: The body: bytes as they are, everything else as JSON.
        headers: Headers besides.
        at: BEFORE or AFTER the effect.
    """

    status: int
    body: object = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    at: Moment = Moment.BEFORE


@dataclass(frozen=True)
class Drops:
    """The connection breaks off."""

    at: Moment = Moment.BEFORE


@dataclass(frozen=True)
class Holds:
    """The request waits at a gate."""

    gate: Gate
    at: Moment = Moment.BEFORE


@dataclass(frozen=True)
class Delays:
    """The request takes so long."""

    seconds: float
    at: Moment = Moment.BEFORE


@dataclass(frozen=True)
class Changes:
    """The right answer is changed before it is sent."""

    change: Callable[[Document], None]


Fault = Answers | Drops | Holds | Delays | Changes


@dataclass
class _Entry:
    steps: frozenset[Step]
    fault: Fault
    left: float
    of: str


class FaultBook:
    """Says which faults a request meets. Written by a test's thread, read by the server's."""

    def __init__(self) -> None:
        self._entries: list[_Entry] = []
        self._lock = threading.Lock()

    def add(self, fault: Fault, *steps: Step, times: int | None, of: str) -> None:
        """Add a fault for the next so many requests of these steps whose task's URL has `of` in it; None: for all."""
        with self._lock:
            self._entries.append(_Entry(frozenset(steps), fault, float("inf") if times is None else times, of))

    def clear(self) -> None:
        """Drop all faults."""
        with self._lock:
            self._entries.clear()

    def take(self, step: Step, url: str) -> list[Fault]:
        """Return the faults that a request meets now, and count them."""
        with self._lock:
            matching = [one for one in self._entries if step in one.steps and one.left > 0 and one.of in url]
            for entry in matching:
                entry.left -= 1
            return [entry.fault for entry in matching]
