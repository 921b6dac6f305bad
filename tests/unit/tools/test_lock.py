"""requirements.lock: what `make setup` installs."""

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[3]
_ENTRY = re.compile(r"(?P<requirement>[\w.-]+==[^\\\n]+?)(?P<hashes>(?: \\\n    --hash=sha256:[0-9a-f]{64})+)\n")


def _locked() -> dict[str, str]:
    """Return the locked versions by package; every line must be a comment or part of an entry with hashes."""
    text = (ROOT / "requirements.lock").read_text()
    entries = list(_ENTRY.finditer(text))
    rest = _ENTRY.sub("", text)
    assert [line for line in rest.splitlines() if not line.startswith("#")] == []
    pins = [Requirement(entry["requirement"]) for entry in entries]
    return {canonicalize_name(pin.name): str(pin.specifier).removeprefix("==") for pin in pins}


def test_every_package_has_hashes_and_no_index_is_named() -> None:
    assert len(_locked()) > 100


def test_it_has_what_pyproject_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [line for lines in project["optional-dependencies"].values() for line in lines]
    wanted = [Requirement(line) for line in [*project["dependencies"], *extras]]
    locked = _locked()
    missing = [str(one) for one in wanted if one.name != project["name"] and not _meets(locked, one)]
    assert missing == []


def test_setup_refuses_packages_without_a_hash() -> None:
    assert "pip install --require-hashes -r requirements.lock" in (ROOT / "tools" / "setup.sh").read_text()


def _meets(locked: dict[str, str], wanted: Requirement) -> bool:
    return wanted.specifier.contains(locked.get(canonicalize_name(wanted.name), "0"), prereleases=True)
