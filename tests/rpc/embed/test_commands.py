"""The commands of `python -m sage_embed`."""

import asyncio
import importlib.resources
import os
import signal
import subprocess
import sys

import grpc
import pytest
from sage.embed.v1 import embed_pb2, embed_pb2_grpc
from sage_local.ports import free_port


def start(command: str, **environment: str) -> subprocess.Popen:
    """Start a command with these environment variables and no other of SAGE."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("SAGE_", "TWELVELABS_"))}
    return subprocess.Popen(
        [sys.executable, "-m", "sage_embed", command],
        env={**inherited, **environment},
        stderr=subprocess.PIPE,
        text=True,
    )


def test_migrate_can_be_repeated(make_database):
    dsn = make_database()
    ours = sum(
        file.name.endswith(".sql") for file in (importlib.resources.files("sage_embed") / "migrations").iterdir()
    )
    # The queue's schema counts as one more.
    for applied in (ours + 1, 0):
        process = start("migrate", SAGE_DATABASE_URL=dsn)
        _, log = process.communicate(timeout=60)
        assert process.returncode == 0
        assert log.count('"migration_applied"') == applied


@pytest.mark.parametrize("command", ["serve", "worker", "migrate"])
def test_a_missing_setting_is_named(command):
    process = start(command)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    missing = ["SAGE_DATABASE_URL"] if command == "migrate" else ["S3_BUCKET_NAME", "SAGE_DATABASE_URL"]
    assert sorted(errors.splitlines()) == [f"error: {name}: is required and not set" for name in missing]


def test_an_unreachable_database_is_reported_in_one_line():
    process = start("migrate", SAGE_DATABASE_URL="postgresql://127.0.0.1:1/none")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert errors.startswith("error: the database was not migrated: ")
    assert "Traceback" not in errors


@pytest.mark.parametrize(("command", "variable"), [("serve", "SAGE_EMBED_LISTEN"), ("worker", "SAGE_WORKER_LISTEN")])
async def test_processes_serve_health_and_stop_on_sigterm(database_url, serving, command, variable):
    address = f"127.0.0.1:{free_port()}"
    process = start(
        command, SAGE_DATABASE_URL=database_url, S3_BUCKET_NAME="none", SAGE_LOG_LEVEL="error", **{variable: address}
    )
    try:
        async with grpc.aio.insecure_channel(address) as channel:
            await serving(channel)
            if command == "serve":
                stub = embed_pb2_grpc.EmbedServiceStub(channel)
                models = (await stub.ListModels(embed_pb2.ListModelsRequest())).models
                # Without a key the provider's models are listed as unusable.
                assert [model.provider for model in models if model.usable] == ["local"]
                assert {model.provider for model in models} == {"local", "twelvelabs"}
        process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait, 20) == 0
    finally:
        process.kill()
        process.communicate()
