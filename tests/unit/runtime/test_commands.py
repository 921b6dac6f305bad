"""Command lines of the services."""

import pytest
from sage_runtime.process.commands import Command, run_command


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
