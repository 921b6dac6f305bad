#!/usr/bin/env bash
# Writes requirements.lock: the newest versions that pyproject.toml allows, resolved in a temporary environment.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder"
"$folder/bin/pip" --disable-pip-version-check --quiet install -e '.[dev]'
{
  echo "# Pinned by \`make lock\`; tools/setup.sh installs from it."
  "$folder/bin/pip" --disable-pip-version-check freeze --exclude-editable --exclude pip --exclude setuptools
} >requirements.lock
