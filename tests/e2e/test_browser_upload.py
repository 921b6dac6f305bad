"""A browser uploads a large file in parts, despite a reloaded page and a network failure halfway."""

import functools
import hashlib
import http.server
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.async_api import async_playwright
from sage_local.stack import RunningStack, running_stack
from support.cuttable_proxy import CuttableProxy

ROOT = Path(__file__).parents[2]
SIZE = 300 * 1024 * 1024
CHROMIUM = "/usr/bin/chromium"
pytestmark = pytest.mark.skipif(
    not Path(CHROMIUM).exists() and "CI" not in os.environ,
    reason="Chromium is not installed: `make browser` installs it",
)
ARGUMENTS = ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-quic"]


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        pass


@pytest.fixture
def page_origin(tmp_path: Path) -> Iterator[str]:
    """The origin of a page with the uploader."""
    shutil.copy(Path(__file__).parent / "browser" / "upload.html", tmp_path)
    shutil.copy(ROOT / "clients" / "typescript" / "dist" / "browser" / "parts.js", tmp_path)
    handler = functools.partial(_Quiet, directory=tmp_path)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def open_stack(page_origin: str) -> Iterator[RunningStack]:
    """A stack whose gateway allows that origin."""
    with running_stack(workers=0, environment={"SAGE_GATEWAY_ALLOWED_ORIGINS": page_origin}) as running:
        yield running


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A film of 300 MiB: most of it a `free` box, which players skip."""
    path = tmp_path_factory.mktemp("film") / "large.mp4"
    shutil.copy(ROOT / "samples" / "old.mp4", path)
    with path.open("ab") as file:
        box = SIZE - path.stat().st_size
        file.write(box.to_bytes(4, "big") + b"free")
        # Not zeros, with which a part in the wrong place would not change the checksum.
        block = hashlib.shake_128(b"film").digest(1024 * 1024)
        for index in range((box - 8) // len(block)):
            file.write(index.to_bytes(8, "big") + block[8:])
        file.write(block[: (box - 8) % len(block)])
    return path


@pytest.mark.serial
async def test_an_upload_resumes_after_a_reload_and_a_network_failure(
    page_origin: str, open_stack: RunningStack, film: Path
) -> None:
    async with CuttableProxy(open_stack.address).running() as network, async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        page = await browser.new_page()
        await page.goto(f"{page_origin}/upload.html?gateway=http://127.0.0.1:{network.port}")
        await page.set_input_files("input", film)
        await network.wait_for_sent(SIZE // 3)
        await page.reload()
        await page.set_input_files("input", film)

        await network.wait_for_sent(SIZE * 2 // 3)
        network.go_away()
        await page.wait_for_function("() => document.title !== 'Upload in parts'")
        network.come_back()

        await page.wait_for_function("() => window.result", timeout=120_000)
        result = await page.evaluate("() => window.result")
        await browser.close()
    with film.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    assert result == {"id": result.get("id"), "sha256": sha256, "size": SIZE}
    assert network.cuts > 0
    # Only parts in flight were sent twice. A restart from the beginning would have sent at least a third more.
    assert network.sent_bytes < 1.35 * SIZE
