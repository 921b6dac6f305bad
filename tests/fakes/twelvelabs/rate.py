"""The rate limit of an account."""

import math
import time
from collections import deque
from dataclasses import dataclass, field

from fakes.twelvelabs.faults import Answers
from fakes.twelvelabs.misbehaviour import limits


@dataclass
class RateLimit:
    """Accepts a number of requests in any window and refuses the rest.

    Attributes:
        requests: How many are accepted.
        window_s: Length of the window in seconds.
        retry_after: Whether a refusal states when to retry.
        json: Whether the body of a refusal is JSON.
    """

    requests: int
    window_s: float
    retry_after: bool = True
    json: bool = True
    _passed: deque[float] = field(default_factory=deque)

    def refusal(self) -> Answers | None:
        """Count a request, and return the response that refuses it, or None."""
        now = time.monotonic()
        while self._passed and self._passed[0] <= now - self.window_s:
            self._passed.popleft()
        if len(self._passed) < self.requests:
            self._passed.append(now)
            return None
        seconds = math.ceil(self._passed[0] + self.window_s - now)
        return limits(retry_after=str(seconds) if self.retry_after else None, json=self.json)
