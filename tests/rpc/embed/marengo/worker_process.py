"""A worker process with the engines of production. Its fingerprints have no blocks, so they need no store."""

import asyncio

from fakes.fingerprints import NoBlocks
from sage_embed.__main__ import make_engines
from sage_embed.app import run_worker
from sage_embed.config import WorkerSettings
from sage_embed.engines.twelvelabs.client import preload
from sage_runtime.process.settings import load

if __name__ == "__main__":
    preload()
    asyncio.run(run_worker(load(WorkerSettings), make_engines, NoBlocks()))
