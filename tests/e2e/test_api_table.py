"""The tables of docs/api.md: every command is run, with `curl` and with `grpcurl`, and no RPC is missing."""

import asyncio
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from sage_local.stack import RunningStack

ROOT = Path(__file__).parents[2]
# curl reports an HTTP error in its exit code only with this flag; grpcurl always does.
CURL = "curl -sS --fail-with-body --max-time 60"
# These need an unfinished resource, which the other call creates first.
UNFINISHED = {
    "EmbedService.CancelEmbedding": "EmbedService.CreateEmbedding",
    "IngestService.AbortUpload": "IngestService.CreateUpload",
}


@dataclass(frozen=True)
class Row:
    """A line of a table: a URL, its RPC and the two commands."""

    url: str
    rpc: str
    curl: str
    grpcurl: str


def rows(page: str) -> list[Row]:
    """Return the lines of a page's tables that show commands."""
    cells = [
        [cell.strip().strip("`") for cell in line.strip("|\n").split(" | ")]
        for line in (ROOT / page).read_text().splitlines()
        if line.startswith("| ") and "`curl " in line
    ]
    return [Row(url, rpc, curl, grpcurl) for url, rpc, curl, grpcurl, _ in cells]


async def shell(command: str, ids: dict[str, str], address: str) -> str:
    """Return what a command prints. It must succeed."""
    process = await asyncio.create_subprocess_exec(
        "bash", "-euo", "pipefail", "-c", command.replace("localhost:8080", address),
        cwd=ROOT, env={"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", **ids},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    assert process.returncode == 0, f"{command[:200]}\n{out.decode()[:2000]}\n{err.decode()[:2000]}"
    return out.decode()


def learned(out: str, rpc: str) -> dict[str, str]:
    """Return the variable that a response sets."""
    makes = {
        "UploadVideo": ("VIDEO", "video"),
        "CreateEmbedding": ("EMBEDDING", "embed"),
        "CreateUpload": ("UPLOAD", "upload"),
    }
    name, prefix = makes.get(rpc.partition(".")[2], ("", "none"))
    found = re.search(rf'"id":\s*"({prefix}_[0-9a-f]{{32}})"', out)
    return {name: found.group(1)} if found else {}


@pytest.mark.parametrize("tool", ["curl", "grpcurl"])
async def test_every_line_of_the_tables_works(stack: RunningStack, tool: str) -> None:
    table = rows("docs/api.md")
    commands = {row.rpc: row.curl.replace("curl", CURL, 1) if tool == "curl" else row.grpcurl for row in table}
    ids: dict[str, str] = {}
    for rpc, command in commands.items():
        here = dict(ids)
        if rpc in UNFINISHED:
            creation = UNFINISHED[rpc]
            # Without `force` this would be the embedding that is already completed.
            create = commands[creation].replace('"model": "local"', '"model": "local", "force": true')
            here |= learned(await shell(create, ids, stack.address), creation)
        ids |= learned(await shell(command, here, stack.address), rpc)
    assert set(ids) == {"VIDEO", "EMBEDDING", "UPLOAD"}


def test_no_rpc_is_missing() -> None:
    script = [sys.executable, str(ROOT / "gateway" / "verify" / "rpcs.py")]
    offered = subprocess.run(script, capture_output=True, text=True, check=True).stdout.split()
    assert sorted(row.rpc.partition(".")[2] for row in rows("docs/api.md")) == sorted([*offered, "Check"])


async def test_a_film_plays_in_a_browser(stack: RunningStack) -> None:
    """The playback URL serves byte ranges with the film's content type, without further credentials."""
    upload, playback = (
        next(row.curl for row in rows("docs/api.md") if row.rpc == f"IngestService.{name}")
        for name in ("UploadVideo", "GetPlaybackUrl")
    )
    video = learned(await shell(upload, {}, stack.address), "IngestService.UploadVideo")
    url = json.loads(await shell(playback, video, stack.address))["url"]
    headers = (await shell(f"curl -sS -D - -o /dev/null -r 1000-1999 '{url}'", {}, stack.address)).lower()
    for part in (" 206 ", "content-type: video/mp4", "content-range: bytes 1000-1999/1219335", "content-length: 1000"):
        assert part in headers
    whole = (await shell(f"curl -sS -D - -o /dev/null '{url}'", {}, stack.address)).lower()
    assert "accept-ranges: bytes" in whole
