"""SAGE through Envoy with only `grpcurl`, with the commands of docs/api.md."""

import asyncio
import json
import re
import sys
from pathlib import Path

from sage_local.stack import RunningStack

ROOT = Path(__file__).parents[2]
# grpcurl is in the same folder as the Python that runs the tests.
PATH = f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin"


async def shell(script: str) -> str:
    """Return what a script prints."""
    process = await asyncio.create_subprocess_exec(
        "bash", "-euo", "pipefail", "-c", script,
        cwd=ROOT, env={"PATH": PATH}, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode() + out.decode()
    return out.decode()


def shell_block(heading: str) -> str:
    """Return the first shell block below a heading of docs/api.md."""
    below = (ROOT / "docs" / "api.md").read_text().split(f"\n## {heading}\n", 1)[1]
    block = re.search(r"```sh\n(.*?)```", below, re.DOTALL)
    assert block is not None
    return block.group(1)


async def test_reflection_lists_every_service_through_the_gateway(stack: RunningStack) -> None:
    """`list` shows all three services, whichever backend serves it, and `describe` shows their methods."""
    listed = (await shell(f"grpcurl -plaintext {stack.address} list")).split()
    assert {"sage.ingest.v1.IngestService", "sage.embed.v1.EmbedService", "sage.compare.v1.CompareService"} <= {*listed}
    for method in (
        "sage.ingest.v1.IngestService.UploadVideo",
        "sage.embed.v1.EmbedService.WatchEmbedding",
        "sage.compare.v1.CompareService.CompareEmbeddings",
    ):
        assert method.rpartition(".")[2] in await shell(f"grpcurl -plaintext {stack.address} describe {method}")


async def test_the_documented_commands_go_from_two_files_to_their_differences(stack: RunningStack) -> None:
    script = shell_block("With grpcurl")
    assert "localhost:8080" in script
    out = await shell(script.replace("localhost:8080", stack.address))
    assert '"last": true' in out
    # Each command prints a JSON document; the last one is the comparison.
    comparison = json.loads(out[out.rindex('{\n  "mode"') :])
    (visual,) = comparison["tracks"]
    kinds = [edit["kind"] for edit in visual["script"]["edits"]]
    counts = {kind: kinds.count(f"EDIT_KIND_{kind}") for kind in ("CHANGED", "INSERTED", "DELETED", "MOVED")}
    assert counts == {"CHANGED": 5, "INSERTED": 2, "DELETED": 0, "MOVED": 1}


async def test_errors_reach_the_client_with_reason_and_field(stack: RunningStack) -> None:
    """The gateway passes error details on: grpcurl prints the reason and the field."""
    process = await asyncio.create_subprocess_exec(
        "grpcurl", "-plaintext", "-d", '{"embedding_id_a": "nonsense"}', stack.address,
        "sage.compare.v1.CompareService/CompareEmbeddings",
        env={"PATH": PATH}, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    out, _ = await process.communicate()
    assert process.returncode != 0
    for part in ("InvalidArgument", "FIELD_INVALID", "embedding_id_a"):
        assert part in out.decode()
