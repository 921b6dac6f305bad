"""Asking TwelveLabs whether it takes a key."""

import asyncio
import math

import structlog
from sage_runtime.context import time_left_s
from twelvelabs.core.api_error import ApiError
from twelvelabs.core.request_options import RequestOptions

from sage_embed.adapters.twelvelabs.answers import ListReader
from sage_embed.adapters.twelvelabs.clients import new_http_client, new_sdk, reading
from sage_embed.key_model import KeyStatus
from sage_embed.ports import KeyChecker

_TIMEOUT_S = 8.0
# Of the time that the caller still waits, so much is kept for storing the key and for the answer.
_RESERVED_S = 1.0
_UNAUTHORIZED = 401

log = structlog.get_logger()


class TwelveLabsKeyChecker(KeyChecker):
    """Lists one task, the cheapest call that wants a key.

    200 is a valid key and 401 an invalid one. Nothing else tells: 403 and 429 come with valid keys as well, and a 200
    that is no list comes from somebody else on the way.

    Args:
        timeout_s: Seconds for the whole question.
    """

    def __init__(self, *, timeout_s: float = _TIMEOUT_S) -> None:
        self._timeout_s = timeout_s

    async def check(self, secret: str) -> KeyStatus:
        """See `KeyChecker`."""
        left_s = time_left_s()
        timeout_s = self._timeout_s if left_s is None else min(self._timeout_s, max(0.0, left_s - _RESERVED_S))
        try:
            async with asyncio.timeout(timeout_s):
                await _list_one(secret, timeout_s=timeout_s)
        except ApiError as error:
            if error.status_code == _UNAUTHORIZED:
                return KeyStatus.INVALID
            return _unknown(error, http_status=error.status_code)
        except Exception as error:
            # No network, no time, no URL, no list, and whatever else the SDK trips over: it does not tell.
            return _unknown(error)
        return KeyStatus.VALID


async def _list_one(secret: str, *, timeout_s: float) -> None:
    # Loading the certificates takes 40 ms.
    async with new_http_client() as http:
        tasks = new_sdk(secret, http).embed.v_2.tasks
        options = RequestOptions(timeout_in_seconds=math.ceil(timeout_s))
        # The SDK takes any object for a list.
        await reading(ListReader(), lambda: tasks.list(page_limit=1, request_options=options))


def _unknown(error: Exception, *, http_status: int | None = None) -> KeyStatus:
    # The error's text stays out of the log: it carries the answer's body, and who knows what that quotes.
    log.warning("api_key_not_checked", error=type(error).__name__, http_status=http_status)
    return KeyStatus.UNKNOWN
