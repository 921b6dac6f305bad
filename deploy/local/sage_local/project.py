"""Finding what lies in the checkout beside the packages."""

from pathlib import Path

from sage_local.errors import StackError

_ROOT = Path(__file__).resolve().parents[3]


def project_file(path: str) -> Path:
    """Return a file of the checkout that these packages are installed from.

    Raises:
        StackError: It is not there, because the packages were installed on their own.
    """
    file = _ROOT / path
    if not file.exists():
        raise StackError(f"{file} is missing.", next_step="Run sage-local from a checkout of the project: make setup.")
    return file
