"""Asks TwelveLabs whether it accepts a key."""

import asyncio
import math

import structlog
from sage_runtime.context import time_left_s
from twelvelabs.core.api_error import ApiError
from twelvelabs.core.request_options import RequestOptions

from sage_embed.engines.twelvelabs.client import new_http_client, new_sdk, read_response
from sage_embed.engines.twelvelabs.results import ListReader
from sage_embed.keys.model import KeyChecker, KeyStatus

_TIMEOUT_S = 8.0
# Reserved, out of the caller's remaining time, for storing the key and sending the response.
_RESERVED_S = 1.0
_UNAUTHORIZED = 401

log = structlog.get_logger()


class TwelveLabsKeyChecker(KeyChecker):
    """Checks a key by listing one task, the cheapest call that requires a key.

    Status 200 means that the key is valid and 401 that it is not. Everything else is inconclusive: valid keys also get
    403 and 429, and a 200 whose body is not a list does not come from TwelveLabs.

    Args:
        timeout_s: Seconds for the whole check.
    """

    def __init__(self, *, timeout_s: float = _TIMEOUT_S) -> None:
        self._timeout_s = timeout_s

    async def check(self, secret: str) -> KeyStatus:
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
            # No network, no time left, a bad URL, not a list, or anything else that breaks the SDK: inconclusive.
            return _unknown(error)
        return KeyStatus.VALID


async def _list_one(secret: str, *, timeout_s: float) -> None:
    async with new_http_client() as http:
        tasks = new_sdk(secret, http).embed.v_2.tasks
        options = RequestOptions(timeout_in_seconds=math.ceil(timeout_s))
        # The SDK's parser would accept any JSON object as a list.
        await read_response(ListReader(), lambda: tasks.list(page_limit=1, request_options=options))


def _unknown(error: Exception, *, http_status: int | None = None) -> KeyStatus:
    # The error's text is not logged: it contains the response's body, which may quote the key.
    log.warning("api_key_not_checked", error=type(error).__name__, http_status=http_status)
    return KeyStatus.UNKNOWN
