import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PAGES = ["docs/architecture.md", "CONTRIBUTING.md"]
FOLDERS = "bench|cli|clients|deploy|docs|gateway|gen|protos|samples|services|tests|third_party|tools"


def named_paths(page: str) -> set[str]:
    return set(re.findall(rf"`((?:{FOLDERS})(?:/[\w./-]+)?)`", (ROOT / page).read_text()))


@pytest.mark.parametrize("page", PAGES)
def test_every_path_that_a_page_names_exists(page: str) -> None:
    assert [path for path in sorted(named_paths(page)) if not (ROOT / path).exists()] == []


def test_the_architecture_tells_where_to_find_things() -> None:
    section = (ROOT / "docs" / "architecture.md").read_text().split("## Where to find it\n")[1].split("\n## ")[0]
    questions = [line for line in section.splitlines() if line.startswith("| Where ")]
    assert len(questions) >= 10
    assert all("`" in question for question in questions)
