"""Every link from one file of the repository to another leads somewhere."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "samples" / "README.md"])
_LINK = re.compile(r"\]\(([^)#\s]*)(?:#([^)\s]+))?\)")


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_of_a_page_lead_somewhere(page: Path) -> None:
    broken = []
    for target, fragment in _LINK.findall(page.read_text()):
        file = page.parent / target if target else page
        if "://" not in target and (not file.exists() or (fragment and fragment not in anchors(file))):
            broken.append(f"{target}#{fragment}")
    assert broken == []


@pytest.mark.parametrize(
    "program",
    ["python/diff.py", "typescript/web.ts", "typescript/parts.ts", "typescript/node.ts", "go/main.go", "shell/diff.sh"],
)
def test_the_page_on_clients_links_every_program(program: str) -> None:
    assert f"](../clients/{program})" in (ROOT / "docs" / "clients.md").read_text()
