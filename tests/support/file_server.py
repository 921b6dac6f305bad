"""A web server for one file, with ranges, and with failures on request."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class FileServer:
    """Serves some bytes at any path.

    Attributes:
        content: What it serves.
        requests: The requested paths, each with its range.
        cut_after: Number of bytes after which it closes the connection.
        status: Status to respond with; any other than 206 is an error.
        before_send: Called before each piece is sent, with the offset of the piece.
    """

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.requests: list[tuple[str, str]] = []
        self.cut_after: int | None = None
        self.status = 206
        self.before_send: Callable[[int], None] = lambda offset: None
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server._respond(self)

            def log_message(self, *_: object) -> None:
                """Keep quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})

    @property
    def url(self) -> str:
        """URL of the file."""
        return f"http://127.0.0.1:{self._server.server_port}/film?signature=1"

    @contextmanager
    def running(self) -> Iterator["FileServer"]:
        """Serve for the length of the block."""
        self._thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()

    def _respond(self, handler: BaseHTTPRequestHandler) -> None:
        requested = handler.headers["Range"]
        self.requests.append((handler.path, requested))
        if self.status != 206:
            handler.send_error(self.status)
            return
        start = int(requested.removeprefix("bytes=").removesuffix("-"))
        handler.send_response(206)
        handler.send_header("Content-Range", f"bytes {start}-{len(self.content) - 1}/{len(self.content)}")
        handler.send_header("Content-Length", str(len(self.content) - start))
        handler.end_headers()
        end = len(self.content) if self.cut_after is None else min(len(self.content), start + self.cut_after)
        try:
            for offset in range(start, end, 65536):
                self.before_send(offset)
                handler.wfile.write(self.content[offset : min(offset + 65536, end)])
        except ConnectionError:
            """The client has received enough."""
        handler.close_connection = True
