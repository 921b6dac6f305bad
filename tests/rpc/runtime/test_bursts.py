"""Many calls at once."""

import asyncio

from fakes.echo import responses, start

CALLS = 2000


async def test_calls_of_a_burst_are_queued_not_dropped(echo):
    """By default gRPC ends some of more than 1,000 pending calls without a reason."""
    calls = [start(echo.channel, "unary_unary", str(number), timeout=60) for number in range(CALLS)]
    assert await asyncio.gather(*map(responses, calls)) == [[str(number)] for number in range(CALLS)]
