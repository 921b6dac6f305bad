"""Errors of requests to TwelveLabs, and the messages that users see."""

import math
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from email.utils import parsedate_to_datetime

import httpx
from sage_runtime.errors import Reason, SageError
from twelvelabs.core.api_error import ApiError

from sage_embed.embeddings.model import provider_name
from sage_embed.engines.twelvelabs.results import error_of
from sage_embed.errors import api_key_invalid
from sage_embed.keys.model import PROVIDER

NAME = provider_name(PROVIDER)

_UNAUTHORIZED, _REQUEST_TIMEOUT, _TOO_MANY_REQUESTS = 401, 408, 429
_QUOTA = "usage_limit_exceeded"
_ABOUT_THE_VIDEO = (
    "video_duration_too_short",
    "video_duration_too_long",
    "video_resolution_too_low",
    "video_resolution_too_high",
    "video_filesize_too_large",
    "video_file_broken",
)
# Several hours have been observed; more than a day is implausible.
_MAX_RETRY_AFTER_S = 24 * 3600.0
_MAX_MESSAGE_CHARS = 700
# The query of a presigned URL, which gives access to the video.
_URL_SECRET = re.compile(r"(https?://[^\s?\"'<>]+)\?[^\s\"'<>]*")


class LimitedError(Exception):
    """The rate limit refused the request, which had no effect.

    Attributes:
        retry_after_s: Seconds until the next request may be sent; None if not stated.
    """

    def __init__(self, retry_after_s: float | None) -> None:
        super().__init__("rate limited")
        self.retry_after_s = retry_after_s


class RefusedError(Exception):
    """The request was refused and had no effect.

    Attributes:
        status: The HTTP status.
        code: The code in the body, or empty. The key is redacted.
        message: The message in the body, or empty. The key is redacted.
    """

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(f"HTTP {status} {code}")
        self.status = status
        self.code = code
        self.message = message

    @property
    def of_the_key(self) -> bool:
        """Whether it was refused because of its key."""
        return self.status == _UNAUTHORIZED


class UnclearError(Exception):
    """There is no usable response, and it is unknown whether the request had an effect.

    Attributes:
        sent: Whether TwelveLabs may have received the request.
    """

    def __init__(self, detail: str, *, sent: bool = True) -> None:
        super().__init__(detail)
        self.sent = sent


@contextmanager
def problems(secret: str) -> Iterator[None]:
    """Translate any exception from a request through the SDK into one of three errors.

    The texts of the original errors are dropped, because they contain bodies and URLs.

    Args:
        secret: The key, which is redacted.

    Raises:
        LimitedError: Status 429.
        RefusedError: Any other 4xx status.
        UnclearError: Everything else: network errors, errors of TwelveLabs, malformed responses.
    """
    try:
        yield
    except ApiError as error:
        raise _of_response(error, secret) from None
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
        raise UnclearError(type(error).__name__, sent=False) from None
    except Exception as error:
        # The SDK lets errors of pydantic, Unicode and httpx through, and may fail on an unexpected body in other ways.
        # A create request that had an effect must not count as one that failed.
        raise UnclearError(type(error).__name__) from None


def refused(error: RefusedError) -> SageError:
    """Return the user-facing error for a refusal."""
    if error.of_the_key or error.code == "api_key_invalid":
        return api_key_invalid(PROVIDER)
    return failed(error.code, error.message or f"it returned HTTP {error.status}")


def failed(code: str, message: str) -> SageError:
    """Return the user-facing error for a failure, with TwelveLabs' own message.

    Args:
        code: TwelveLabs' code, or empty.
        message: TwelveLabs' message, or empty.
    """
    known = next((one for one in (*_ABOUT_THE_VIDEO, _QUOTA) if one == code or one in message), "")
    reason = Reason.PROVIDER_FAILED
    if known:
        reason = Reason.PROVIDER_QUOTA_EXCEEDED if known == _QUOTA else Reason.PROVIDER_REJECTED_VIDEO
    why = _harmless(message) or code or "it gave no reason"
    return SageError(reason, detail=f"code {code!r}", provider=NAME, why=why.removesuffix("."))


def unreachable(detail: str) -> SageError:
    """Return the error for a problem that may be gone by the next attempt."""
    return SageError(Reason.PROVIDER_UNREACHABLE, detail=detail, provider=NAME)


def _of_response(error: ApiError, secret: str) -> Exception:
    status = error.status_code or 0
    code, message = (text.replace(secret, "***") for text in error_of(error.body))
    if status == _TOO_MANY_REQUESTS and code != _QUOTA:
        return LimitedError(retry_after_s(error.headers or {}))
    # 408 means that the request arrived too slowly, but proxies also return it for slow responses.
    if 400 <= status < 500 and status != _REQUEST_TIMEOUT:
        return RefusedError(status, code, message)
    return UnclearError(f"HTTP {status}")


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Return the seconds after which the headers of a 429 allow another request; None if they do not say.

    `Retry-After` holds seconds or a date (RFC 9110, section 10.2.3). Without it, TwelveLabs documents
    `X-Ratelimit-Reset`, in seconds since 1970.
    """
    after = {name.lower(): value.strip() for name, value in headers.items()}
    seconds = _number(after.get("retry-after", ""))
    if seconds is None and "retry-after" in after:
        seconds = _seconds_until(after["retry-after"])
    if seconds is None and (reset := _number(after.get("x-ratelimit-reset", ""))) is not None:
        seconds = reset - time.time()
    return None if seconds is None else min(_MAX_RETRY_AFTER_S, max(0.0, seconds))


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _seconds_until(date: str) -> float | None:
    try:
        return parsedate_to_datetime(date).timestamp() - time.time()
    except (ValueError, OverflowError):
        return None


def _harmless(message: str) -> str:
    """Return a message on one line, with the queries of URLs removed, because they give access to the video."""
    text = _URL_SECRET.sub(r"\1", " ".join(message.split()))
    return text if len(text) <= _MAX_MESSAGE_CHARS else text[: _MAX_MESSAGE_CHARS - 1] + "…"
