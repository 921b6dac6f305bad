"""Errors of requests to TwelveLabs, and the messages that users see."""

import math
import re
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from urllib.parse import quote

import httpx
from sage_runtime.errors import Reason, SageError
from twelvelabs.core.api_error import ApiError

from sage_embed.embeddings.model import provider_name
from sage_embed.engines.twelvelabs.responses import error_of
from sage_embed.errors import api_key_invalid
from sage_embed.keys.model import PROVIDER

NAME = provider_name(PROVIDER)

_UNAUTHORIZED, _REQUEST_TIMEOUT, _TOO_MANY_REQUESTS = 401, 408, 429
# Unauthorized, payment required, forbidden.
_OF_THE_ACCOUNT = (_UNAUTHORIZED, 402, 403)
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
_HIDDEN = "***"
# The query of a presigned URL, which gives access to the video, and a password before its host.
_URL_QUERY = re.compile(r"(https?://[^\s?\"'<>]+)\?[^\s\"'<>]*", re.IGNORECASE)
_URL_PASSWORD = re.compile(r"(https?://)[^\s/@\"'<>]+@", re.IGNORECASE)
# The same without the URL, and other places that hold secrets, plain or percent-encoded.
_NAMED_SECRET = re.compile(
    r"((?:x-amz-(?:signature|credential|security-token)|x-api-key|api[-_]?key|authorization|signature|token|bearer)"
    r"[\"']?(?:\s*[=:]\s*|%3D|\s+(?=\S{16}))(?:bearer\s+)?[\"']?)[^\s&\"'<>]+",
    re.IGNORECASE,
)
# A key of TwelveLabs, also one that this process has never used, and a signature of S3 (Signature Version 4).
_SECRET = re.compile(r"\btlk_[\w-]+|(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])", re.IGNORECASE)


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

    @property
    def of_the_account(self) -> bool:
        """Whether its key or its account was refused, whatever the request was. Proxies also refuse in this way."""
        return self.status in _OF_THE_ACCOUNT or self.code == _QUOTA

    def words(self) -> str:
        """Return what TwelveLabs said, for users."""
        said = _harmless(self.message)
        return f"HTTP {self.status}: {said.removesuffix('.')}" if said else f"HTTP {self.status}"


class UnclearError(Exception):
    """There is no usable response, and it is unknown whether the request had an effect. The text says why, for users.

    Attributes:
        sent: Whether TwelveLabs may have received the request.
    """

    def __init__(self, detail: str, *, sent: bool = True) -> None:
        super().__init__(detail)
        self.sent = sent


class KeyTroubleError(UnclearError):
    """The deadline passed while there was no usable key. There may be a task."""


@contextmanager
def problems(secrets: Collection[str]) -> Iterator[None]:
    """Translate any exception from a request through the SDK into one of three errors.

    The texts of the original errors are dropped, because they contain bodies and URLs.

    Args:
        secrets: The keys, which are redacted.

    Raises:
        LimitedError: Status 429.
        RefusedError: Any other 4xx status.
        UnclearError: Everything else: network errors, errors of TwelveLabs, malformed responses.
    """
    try:
        yield
    except ApiError as error:
        raise _of_response(error, secrets) from None
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
        raise UnclearError(_described(error), sent=False) from None
    except Exception as error:
        # The SDK lets errors of pydantic, Unicode and httpx through, and may fail on an unexpected body in other ways.
        # A create request that had an effect must not count as one that failed.
        raise UnclearError(_described(error)) from None


def _described(error: Exception) -> str:
    name = type(error).__name__
    if isinstance(error, TimeoutError | httpx.TimeoutException):
        return f"it timed out ({name})"
    if isinstance(error, httpx.TransportError):
        return f"the connection failed ({name})"
    return f"its response cannot be read ({name})"


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
    why = _harmless(message) or _harmless(code) or "it gave no reason"
    return SageError(reason, detail=f"code {code!r}", provider=NAME, why=why.removesuffix("."))


def unreachable(detail: str) -> SageError:
    """Return the error for a problem that may be gone by the next attempt."""
    return SageError(Reason.PROVIDER_UNREACHABLE, detail=detail, provider=NAME)


def redacted(text: str, secrets: Collection[str]) -> str:
    """Return a text of TwelveLabs without keys, signatures and tokens.

    Args:
        text: The text.
        secrets: The keys that this process has used. Other keys are recognized by their form.
    """
    for secret in secrets:
        for form in {secret, quote(secret, safe="")}:
            text = re.sub(re.escape(form), _HIDDEN, text, flags=re.IGNORECASE)
    text = _URL_PASSWORD.sub(r"\1", _URL_QUERY.sub(r"\1", text))
    return _SECRET.sub(_HIDDEN, _NAMED_SECRET.sub(rf"\1{_HIDDEN}", text))


def _of_response(error: ApiError, secrets: Collection[str]) -> Exception:
    status = error.status_code or 0
    code, message = (redacted(text, secrets) for text in error_of(error.body))
    if status == _TOO_MANY_REQUESTS and code != _QUOTA:
        return LimitedError(retry_after_s(error.headers or {}))
    # 408 means that the request arrived too slowly, but proxies also return it for slow responses.
    if 400 <= status < 500 and status != _REQUEST_TIMEOUT:
        return RefusedError(status, code, message)
    return UnclearError(f"HTTP {status}")


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Return the seconds after which the headers of a 429 allow another request; None if they do not say.

    `Retry-After` holds seconds or a date (RFC 9110, section 10.2.3). Without it, TwelveLabs documents
    `X-Ratelimit-Reset`, in seconds since 1970. Moments are compared with the response's own date, because the clock of
    this machine may be wrong.
    """
    after = {name.lower(): value.strip() for name, value in headers.items()}
    now = _moment(after.get("date", ""))
    if now is None:
        now = time.time()
    seconds = _number(after.get("retry-after", ""))
    if seconds is None and (until := _moment(after.get("retry-after", ""))) is not None:
        seconds = until - now
    if seconds is None and (reset := _number(after.get("x-ratelimit-reset", ""))) is not None:
        seconds = reset - now
    return None if seconds is None else min(_MAX_RETRY_AFTER_S, max(0.0, seconds))


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _moment(date: str) -> float | None:
    """Return a date of HTTP in seconds since 1970."""
    try:
        return parsedate_to_datetime(date).timestamp()
    except (ValueError, OverflowError):
        return None


def _harmless(message: str) -> str:
    """Return a message on one line, without what looks like a secret, and not too long."""
    text = redacted(" ".join(message.split()), ())
    return text if len(text) <= _MAX_MESSAGE_CHARS else text[: _MAX_MESSAGE_CHARS - 1] + "…"
