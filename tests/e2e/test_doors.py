"""A running stack, tried by those it does not belong to: pages of other origins and other users of this machine."""

import contextlib
import http.server
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import boto3
import psutil
import pytest
from mypy_boto3_s3 import S3Client
from playwright.async_api import async_playwright
from sage_local.stack import RunningStack, running_stack
from support.films import SAMPLES
from support.other_users import open_to_others, tried_as_other_user
from support.sage_command import Sage

CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-quic"]
_needs_chromium = pytest.mark.skipif(
    not Path(CHROMIUM).exists() and "CI" not in os.environ,
    reason="Chromium is not installed: `make browser` installs it",
)
# Sends what a page may send to any address without asking first, and reports what it may read.
_TRY = """async ({ports, paths, bodies}) => {
    const read = [];
    const timeout = () => AbortSignal.timeout(5000);
    const image = url => new Promise(done => {
        const one = new Image();
        one.onload = one.onerror = done;
        setTimeout(done, 2000);
        one.src = url;
    });
    await Promise.all(ports.map(async port => {
        for (const path of paths) {
            const url = `http://127.0.0.1:${port}${path}`;
            try {
                const response = await fetch(url, {signal: timeout()});
                await response.arrayBuffer();
                read.push(`${response.status} ${path}`);
            } catch {}
            await image(url);
            for (const body of bodies) {
                const form = new FormData();
                form.append("file", new Blob([body]), "film.mp4");
                for (const content of [form, body, new URLSearchParams({body})]) {
                    try {
                        await fetch(url, {method: "POST", mode: "no-cors", body: content, signal: timeout()});
                    } catch {}
                }
            }
        }
    }));
    return read;
}"""


@pytest.fixture(scope="module")
def open_folder() -> Iterator[Path]:
    """A folder that every user of this machine may enter. Those of pytest are closed."""
    folder = Path(tempfile.mkdtemp(prefix="sage-open-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def stack(open_folder: Path) -> Iterator[RunningStack]:
    """A stack whose state is in that folder."""
    with running_stack(workers=1, state=open_folder / "state") as running:
        yield running


@pytest.fixture
def s3(stack: RunningStack) -> Iterator[S3Client]:
    """A client of its object store."""
    client = boto3.client(
        "s3", endpoint_url=stack.s3.endpoint_url, region_name=stack.s3.region,
        aws_access_key_id=stack.s3.access_key, aws_secret_access_key=stack.s3.secret_key,
    )  # fmt: skip
    with contextlib.closing(client):
        yield client


@pytest.fixture
def foreign_origin() -> Iterator[str]:
    """The origin of an empty page that has nothing to do with the stack."""

    class _Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Page) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://localhost:{server.server_port}"
        server.shutdown()
        thread.join()


def _listening(stack: RunningStack) -> list[int]:
    """Return every TCP port on which a process of the stack listens."""
    connections = [one for pid in stack.pids.values() for one in psutil.Process(pid).net_connections("tcp")]
    listening = {one.laddr for one in connections if one.status == psutil.CONN_LISTEN}
    assert {address.ip.removeprefix("::ffff:") for address in listening} == {"127.0.0.1"}
    return sorted(address.port for address in listening)


@_needs_chromium
async def test_a_page_of_another_origin_reads_and_changes_nothing(
    stack: RunningStack, s3: S3Client, foreign_origin: str
) -> None:
    sage = Sage(stack.address)
    film = SAMPLES / "old.mp4"
    video = (await sage("upload", str(film))).word()
    (stored,) = s3.list_objects_v2(Bucket=stack.s3.bucket)["Contents"]
    paths = [
        f"/buckets/{stack.s3.bucket}/{stored['Key']}",
        f"/{stack.s3.bucket}/{stored['Key']}",
        f"/col/delete?collection={stack.s3.bucket}",
        "/dir/status",
        "/v1/videos",
        "/v1/embeddings",
        "/stats/prometheus",
        "/sage.embed.v1.EmbedService/CreateEmbedding",
    ]
    bodies = [f'{{"video_id": "{video}"}}', "frames of another film"]
    ports = _listening(stack)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        page = await browser.new_page()
        await page.goto(foreign_origin)
        read = await page.evaluate(_TRY, {"ports": ports, "paths": paths, "bodies": bodies})
        await browser.close()
    # S3 lets any page read its answer, which is a refusal without a signature.
    assert {one.split()[0] for one in read} <= {"403", "400", "404", "405"}, read
    (left,) = s3.list_objects_v2(Bucket=stack.s3.bucket)["Contents"]
    assert left["Key"] == stored["Key"]
    assert s3.get_object(Bucket=stack.s3.bucket, Key=left["Key"])["Body"].read() == film.read_bytes()
    assert [line.split()[0] for line in (await sage("videos")).out.splitlines() if "video_" in line] == [video]
    assert "embed_" not in (await sage("embeddings")).out


def test_other_users_may_open_no_file_and_no_socket(stack: RunningStack) -> None:
    connections = [one for pid in stack.pids.values() for one in psutil.Process(pid).net_connections("unix")]
    sockets = {stack.state / "s3" / one.laddr for one in connections if one.laddr.endswith(".sock")}
    # In the folder with the right to pass, which PostgreSQL needs if the stack runs as root.
    assert len(sockets) == 7
    assert [found for path in (stack.state, *sockets) for found in open_to_others(path)] == []
    if os.geteuid() == 0:
        assert tried_as_other_user(stack.state, *sockets) == []
