"""`python -m sage_compare serve` runs the compare service."""

import asyncio

from sage_runtime.process.settings import load
from sage_runtime.process.startup import Command, run_command

from sage_compare.app import run
from sage_compare.config import CompareSettings


def main() -> None:
    """Run the command line."""
    run_command(
        "sage_compare",
        "Finds where two cuts of a video differ.",
        {
            "serve": Command(
                "serve until SIGTERM or SIGINT; settings come from the environment",
                lambda: asyncio.run(run(load(CompareSettings))),
            ),
        },
    )


if __name__ == "__main__":
    main()
