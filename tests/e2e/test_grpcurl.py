"""SAGE through Envoy with nothing but `grpcurl`, with the very commands that the README shows."""

import asyncio
import json
import re
import sys
from pathlib import Path

from sage_local.running import RunningStack

ROOT = Path(__file__).parents[2]
# The Python that runs the tests has grpcurl beside it.
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


def readme_block(heading: str) -> str:
    """Return the first shell block below a heading of the README."""
    below = (ROOT / "README.md").read_text().split(f"\n## {heading}\n", 1)[1]
    block = re.search(r"```sh\n(.*?)```", below, re.DOTALL)
    assert block is not None
    return block.group(1)


async def test_reflection_lists_every_service_through_the_gateway(stack: RunningStack) -> None:
    """`list` shows all three services, whichever backend answers, and `describe` knows their methods."""
    listed = (await shell(f"grpcurl -plaintext {stack.address} list")).split()
    assert {"sage.ingest.v1.IngestService", "sage.embed.v1.EmbedService", "sage.compare.v1.CompareService"} <= {*listed}
    for method in (
        "sage.ingest.v1.IngestService.UploadVideo",
        "sage.embed.v1.EmbedService.WatchEmbedding",
        "sage.compare.v1.CompareService.CompareEmbeddings",
    ):
        assert method.rpartition(".")[2] in await shell(f"grpcurl -plaintext {stack.address} describe {method}")


async def test_the_commands_of_the_readme_go_from_two_files_to_their_differences(stack: RunningStack) -> None:
    """Upload, create, watch and compare work with `grpcurl` alone, as the README writes them."""
    script = readme_block("With grpcurl")
    assert "localhost:8080" in script
    out = await shell(script.replace("localhost:8080", stack.address))
    assert '"last": true' in out
    # The last command prints the comparison; everything before it are other documents.
    comparison = json.loads(out[out.rindex('{\n  "mode"') :])
    assert [difference["kind"] for difference in comparison["differences"]] == [
        *["DIFFERENCE_KIND_CHANGED"] * 3,
        "DIFFERENCE_KIND_ONLY_IN_B",
    ]


async def test_errors_reach_the_client_with_reason_and_field(stack: RunningStack) -> None:
    """An error's details come through the gateway: grpcurl prints the reason and the field."""
    process = await asyncio.create_subprocess_exec(
        "grpcurl", "-plaintext", "-d", '{"embedding_id_a": "nonsense"}', stack.address,
        "sage.compare.v1.CompareService/CompareEmbeddings",
        env={"PATH": PATH}, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    out, _ = await process.communicate()
    assert process.returncode != 0
    for part in ("InvalidArgument", "FIELD_INVALID", "embedding_id_a"):
        assert part in out.decode()
