"""Command lines and memory settings of the services."""

import gc
import platform
import subprocess
import sys

import pytest
from sage_runtime.process.startup import Command, freeze_loaded_objects, run_command

_WORK = """
import resource
from sage_runtime.process.startup import keep_freed_memory
if {on}: assert keep_freed_memory()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for i in range(20):
    parts = [bytearray((1 + (i + j) % 12) << 20) for j in range(4)]
    parts = None
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def _run(*arguments: str) -> list[str]:
    done: list[str] = []
    commands = {
        "serve": Command("serve until SIGTERM or SIGINT", lambda: done.append("serve")),
        "migrate": Command("bring the database schema up to date", lambda: done.append("migrate")),
    }
    run_command("sage_test", "A service.", commands, arguments)
    return done


def test_named_command_runs():
    assert _run("migrate") == ["migrate"]


@pytest.mark.parametrize("arguments", [(), ("fly",), ("serve", "--port")])
def test_bad_usage_is_one_line_and_code_2(arguments, capsys):
    with pytest.raises(SystemExit) as end:
        _run(*arguments)
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert "python -m sage_test" in line


def test_help_lists_the_commands(capsys):
    with pytest.raises(SystemExit) as end:
        _run("--help")
    assert end.value.code == 0
    assert "bring the database schema up to date" in capsys.readouterr().out


def _page_faults(*, on):
    run = subprocess.run([sys.executable, "-c", _WORK.format(on=on)], capture_output=True, check=True, text=True)
    return int(run.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's allocator has these settings")
def test_freed_megabytes_are_reused_without_page_faults():
    assert _page_faults(on=True) < _page_faults(on=False) / 3


def test_collections_skip_objects_loaded_before_the_freeze():
    before = [object(), []]
    try:
        freeze_loaded_objects()
        later: list[list[int]] = [[1]]
        tracked = {id(one) for one in gc.get_objects()}
        assert id(before) not in tracked
        assert id(later) in tracked
    finally:
        gc.unfreeze()
