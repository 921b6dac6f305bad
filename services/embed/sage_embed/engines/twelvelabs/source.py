"""Why TwelveLabs could not fetch a video: what the video's own store says."""

import re
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

import httpx
from sage_runtime.errors import Reason, SageError

_TIMEOUT_S = 10.0
_FETCHING = re.compile(r"fetch|download|materialize|media_source|source media|video_?\s?url", re.IGNORECASE)


async def explained(
    error: SageError, video_url: Callable[[], Awaitable[str]], http_client: Callable[[], httpx.AsyncClient]
) -> SageError:
    """Return an error with what SAGE's own store says, if TwelveLabs says that it could not fetch the video.

    Args:
        error: Any error of the engine.
        video_url: Makes a fresh URL of the video.
        http_client: Makes an HTTP client.
    """
    why = error.facts.get("why", "")
    if error.reason is not Reason.PROVIDER_FAILED or not _FETCHING.search(why):
        return error
    try:
        problem = await _problem(await video_url(), http_client)
    except Exception:
        # Neither ingest nor the store can be asked now, so nothing more is known.
        return error
    return SageError(error.reason, detail=error.detail, provider=error.facts["provider"], why=f"{why}. {problem}")


async def _problem(url: str, http_client: Callable[[], httpx.AsyncClient]) -> str:
    host = urlsplit(url).netloc.rpartition("@")[2]
    try:
        async with (
            http_client() as http,
            http.stream("GET", url, headers={"Range": "bytes=0-0"}, timeout=_TIMEOUT_S) as response,
        ):
            status = response.status_code
    except httpx.HTTPError as error:
        return f"SAGE's own store at {host} cannot be reached from here either ({type(error).__name__})"
    if status in (200, 206):
        return f"SAGE's own store serves the video at {host}. That address must be reachable from the Internet"
    return f"SAGE's own store at {host} refuses to serve the video (HTTP {status})"
