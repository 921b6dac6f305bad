"""A server in place of TwelveLabs for the check of a key, with any response that a test needs."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from aiohttp import web

EMPTY_LIST = {"data": [], "page_info": {"limit_per_page": 1, "page": 1, "total_page": 0, "total_results": 0}}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class KeyProvider:
    """Responds with `handler`, initially with an empty list, and records the requests.

    Attributes:
        handler: Makes the responses.
        requests: Method, path and key of each request.
        base_url: Its URL.
    """

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, str]] = []
        self.base_url = ""
        self.handler: Handler
        self.say(200, json=EMPTY_LIST)

    def say(self, status: int, *, text: str | None = None, json: object = None, **headers: str) -> None:
        """Set the response."""

        async def handler(_request: web.Request) -> web.StreamResponse:
            if text is not None:
                return web.Response(status=status, text=text, headers=headers)
            return web.json_response(json, status=status, headers=headers)

        self.handler = handler

    @asynccontextmanager
    async def running(self) -> AsyncIterator["KeyProvider"]:
        """Serve while the block runs."""
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.base_url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1.3"
        try:
            yield self
        finally:
            await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((request.method, request.path_qs, request.headers.get("x-api-key", "")))
        return await self.handler(request)
