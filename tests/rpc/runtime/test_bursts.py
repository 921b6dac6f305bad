"""Many calls in one moment."""

import asyncio

from fakes.echo import answers, start

CALLS = 2000


async def test_calls_of_a_burst_wait_for_their_turn(echo):
    """Calls that come faster than they are begun are answered, and none is ended by gRPC without a reason."""
    calls = [start(echo.channel, "unary_unary", str(number), timeout=60) for number in range(CALLS)]
    assert await asyncio.gather(*map(answers, calls)) == [[str(number)] for number in range(CALLS)]
