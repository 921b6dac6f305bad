"""The process that probes a file starts quickly."""

import subprocess
import sys


def test_worker_imports_neither_asyncio_nor_what_only_servers_need():
    """Every upload starts a new one."""
    program = "import sys, sage_ingest.probing.worker; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True).stdout.split()
    assert "av" in loaded
    assert not {"asyncio", "boto3", "google.protobuf", "grpc", "psycopg", "pydantic", "sage_runtime.errors"} & set(
        loaded
    )
