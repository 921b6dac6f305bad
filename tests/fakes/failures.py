"""Failures of fakes, on demand."""

import asyncio
from collections import Counter


class Failures:
    """Makes methods fail or wait, by name.

    Attributes:
        errors: A method raises this instead of doing its work.
        late_errors: A method raises this after its work, as if the response was lost.
        gates: A method waits for this before its work.
        calls: Number of calls of each method.
    """

    def __init__(self) -> None:
        self.errors: dict[str, BaseException] = {}
        self.late_errors: dict[str, BaseException] = {}
        self.gates: dict[str, asyncio.Event] = {}
        self.calls: Counter[str] = Counter()

    def close(self, method: str) -> asyncio.Event:
        """Make a method wait until the returned event is set."""
        gate = self.gates[method] = asyncio.Event()
        return gate

    async def before(self, method: str) -> None:
        """Count a call, then wait and fail as configured."""
        self.calls[method] += 1
        if method in self.gates:
            await self.gates[method].wait()
        if method in self.errors:
            raise self.errors[method]

    def after(self, method: str) -> None:
        """Fail as configured."""
        if method in self.late_errors:
            raise self.late_errors[method]
