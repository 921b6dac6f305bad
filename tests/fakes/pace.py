"""A fake of the pace of requests, on a clock that tests advance."""

from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from sage_embed.engines.twelvelabs.pace import PaceOptions, PaceState, ProviderPace, after_refusal
from sage_embed.keys.model import ProviderKey


@dataclass
class _Line:
    next_at: float = 0.0
    held_until: float = 0.0
    allowance: int | None = None
    allowance_at: float = 0.0
    measured: bool = True
    holds: int = 0
    sent_since_hold: int = 0
    sent: deque[float] = field(default_factory=deque)


class FakeProviderPace(ProviderPace):
    """Keeps the pace in memory. Waiting advances the clock."""

    def __init__(self, options: PaceOptions, *, now: Callable[[], float], advance: Callable[[float], None]) -> None:
        self._options = options
        self._now = now
        self._advance = advance
        self._lines: dict[str, _Line] = {}

    async def wait_turn(self, key: ProviderKey, *, in_use: Callable[[], Awaitable[bool]]) -> None:
        line, window_s = self._lines.setdefault(key.fingerprint, _Line()), self._options.window_s
        while True:
            if not await in_use():
                return
            allowed = self._allowed(line)
            free_at = line.sent[-allowed] + window_s if allowed and len(line.sent) >= allowed else 0.0
            wait_s = max(line.next_at, line.held_until, free_at) - self._now()
            if wait_s <= 0:
                break
            self._advance(wait_s)
        distance_s = window_s / allowed if allowed else 0.0
        due = max(line.next_at, self._now() - distance_s) + distance_s
        line.next_at = max(due, self._now() + self._options.min_interval_s)
        line.sent_since_hold += 1
        line.sent.append(self._now())

    async def limited(self, key: ProviderKey, *, retry_after_s: float | None) -> None:
        line, now = self._lines.setdefault(key.fingerprint, _Line()), self._now()
        state = PaceState(
            allowance=self._allowed(line),
            base=line.allowance,
            measured=line.measured,
            holds=line.holds,
            sent_since_hold=line.sent_since_hold,
            resting=line.held_until > now,
            sent=self._fullest_window(line),
        )
        known, rest_s = after_refusal(state, self._options, retry_after_s=retry_after_s)
        line.allowance, line.allowance_at, line.holds = known.allowance, now, known.holds
        line.measured = known.measured
        line.held_until = max(line.held_until, now + rest_s)
        if not state.resting:
            line.sent_since_hold = 0

    def held_s(self, key: ProviderKey) -> float:
        return max(0.0, self._lines.setdefault(key.fingerprint, _Line()).held_until - self._now())

    def _fullest_window(self, line: _Line) -> int:
        window_s, since = self._options.window_s, self._now() - 2 * self._options.window_s
        late = [at for at in line.sent if at >= since]
        return max((sum(end - window_s <= at <= end for at in late) for end in late), default=0)

    def _allowed(self, line: _Line) -> int | None:
        if line.allowance is None:
            return None
        elapsed_s, window_s = self._now() - line.allowance_at, self._options.window_s
        if not line.measured:
            return int(line.allowance * 2.0 ** min(20.0, elapsed_s / window_s))
        return int(line.allowance * 1.1 ** max(0.0, (elapsed_s - self._options.relax_after_s) / window_s))
