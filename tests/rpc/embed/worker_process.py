"""A worker process with a scripted engine, which a test can kill."""

import asyncio
import os
import sys
from pathlib import Path

from fakes.embed import Script, ScriptedEngine
from fakes.fingerprints import NoBlocks, OnePassEngine, ScriptedMaker
from sage_embed.app import run_worker
from sage_embed.config import WorkerSettings
from sage_runtime.process.settings import load

if __name__ == "__main__":
    script = Script(Path(sys.argv[1]))
    engine = ScriptedEngine(script, task_id=os.environ.get("SCRIPT_TASK_ID", ""))
    if os.environ.get("SCRIPT_ONE_PASS"):
        engine = OnePassEngine(script)
    maker = NoBlocks()
    if os.environ.get("SCRIPT_BLOCKS"):
        maker = ScriptedMaker(script, block_seconds=float(os.environ.get("SCRIPT_BLOCK_SECONDS", "1")))
    asyncio.run(run_worker(load(WorkerSettings), lambda pool, settings, keys: [engine], maker))
