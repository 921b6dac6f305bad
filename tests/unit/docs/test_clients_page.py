"""The page on clients shows the programs that the tests run."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    "program", ["python/diff.py", "typescript/web.ts", "typescript/node.ts", "go/main.go", "shell/diff.sh"]
)
def test_the_page_shows_the_program_as_it_is(program: str) -> None:
    """A program that was changed is shown changed."""
    assert (ROOT / "clients" / program).read_text().rstrip() in (ROOT / "docs" / "clients.md").read_text()
