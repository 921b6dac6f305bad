"""Reading a remote file with range requests."""

import io
import threading
import time
from collections.abc import Iterator

import pytest
from sage_embed.engines.local import http_source
from sage_embed.engines.local.http_source import AbortedError, HttpSource
from sage_runtime.errors import Reason, SageError
from support.file_server import FileServer

CONTENT = bytes(range(256)) * 8192


@pytest.fixture
def server() -> Iterator[FileServer]:
    """A server of two megabytes."""
    with FileServer(CONTENT).running() as running:
        yield running


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries do not wait."""
    monkeypatch.setattr(http_source, "_RETRY_WAITS_S", (0.0, 0.0, 0.0))


def _read_all(source: HttpSource) -> bytes:
    return b"".join(iter(lambda: source.read(100_000), b""))


def test_a_file_is_read_in_one_request(server: FileServer) -> None:
    """Reading on and skipping a little need no further request, and the query of the URL is sent."""
    source = HttpSource(lambda: server.url)
    assert source.read(10) == CONTENT[:10]
    source.seek(1000, io.SEEK_CUR)
    assert source.read(10) == CONTENT[1010:1020]
    assert _read_all(source) == CONTENT[1020:]
    assert server.requests == [("/film?signature=1", "bytes=0-")]
    source.close()


def test_a_seek_requests_the_rest_from_its_offset(server: FileServer) -> None:
    source = HttpSource(lambda: server.url)
    assert source.seek(-5, io.SEEK_END) == len(CONTENT) - 5
    assert _read_all(source) == CONTENT[-5:]
    source.seek(3)
    assert source.read(4) == CONTENT[3:7]
    source.close()


def test_reading_continues_after_broken_connections(server: FileServer) -> None:
    """As long as bytes arrive in between, any number of them. Each byte is read once, with a fresh URL."""
    server.cut_after = 300_000
    urls = []

    def url() -> str:
        urls.append(server.url)
        return server.url

    source = HttpSource(url)
    assert _read_all(source) == CONTENT
    assert len(urls) == 7
    source.close()


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (403, Reason.STORE_FORBIDDEN),
        (404, Reason.STORE_MISCONFIGURED),
        (416, Reason.STORE_UNAVAILABLE),
        (500, Reason.STORE_UNAVAILABLE),
        (503, Reason.STORE_UNAVAILABLE),
        (507, Reason.STORE_UNAVAILABLE),
    ],
)
def test_a_store_that_refuses_is_retried_and_then_named(server: FileServer, status: int, reason: Reason) -> None:
    server.status = status
    source = HttpSource(lambda: server.url)
    with pytest.raises(SageError) as caught:
        source.read(10)
    assert caught.value.reason is reason
    assert f"HTTP {status}" in caught.value.detail
    assert len(server.requests) == 4


def test_errors_do_not_contain_the_presigned_url(server: FileServer) -> None:
    server.status = 403
    with pytest.raises(SageError) as caught:
        HttpSource(lambda: server.url).read(10)
    assert "signature" not in str(caught.value)


def test_an_abort_interrupts_a_waiting_read(server: FileServer) -> None:
    waiting, release = threading.Event(), threading.Event()

    def hold(offset: int) -> None:
        if offset:
            waiting.set()
            release.wait(30)

    server.before_send = hold
    source = HttpSource(lambda: server.url)
    ended: list[BaseException] = []

    def read() -> None:
        try:
            _read_all(source)
        except AbortedError as error:
            ended.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    assert waiting.wait(10)
    begun_at = time.monotonic()
    source.abort()
    thread.join(20)
    # Half of the read timeout, which would end the read otherwise.
    assert time.monotonic() - begun_at < 5
    assert ended
    release.set()
    source.close()
