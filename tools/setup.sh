#!/usr/bin/env bash
# Makes the virtual environment from requirements.lock. PYTHON and VENV come from the Makefile.
set -euo pipefail
python=${PYTHON:-python3} venv=${VENV:-.venv}

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
  echo "SAGE needs Python 3.11 or later; $python is $("$python" --version 2>&1 || true)." >&2
  echo "If another one is installed, name it: make setup PYTHON=python3.12" >&2
  exit 1
}
# Debian's python3 lacks ensurepip, which is in the package python3-venv.
if ! "$python" -c 'import ensurepip' 2>/dev/null; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "Installing python3-venv, which this Python lacks ..." >&2
    { apt-get install -y -qq python3-venv || { apt-get update -qq && apt-get install -y -qq python3-venv; }; } >/dev/null
  else
    echo "This Python has no ensurepip. On Debian, install it with: sudo apt-get install python3-venv" >&2
    exit 1
  fi
fi
[ -x "$venv/bin/pip" ] || "$python" -m venv --clear "$venv"
echo "Installing the pinned packages into $venv ..." >&2
pip() { "$venv/bin/python" -m pip --disable-pip-version-check --quiet "$@"; }
pip install --require-hashes -r requirements.lock
pip install --no-deps --no-build-isolation -e .
# numba keeps the code beside the source, for every process that comes later.
echo "Compiling the alignment ..." >&2
"$venv/bin/python" -c 'from sage_compare.aligned.warm import warm_up; warm_up()'
