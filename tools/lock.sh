#!/usr/bin/env bash
# Writes requirements.lock: the newest versions that pyproject.toml allows, for every platform and Python, each with the
# hashes of all its files.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder"
"$folder/bin/pip" --disable-pip-version-check --quiet install 'uv>=0.13'
"$folder/bin/uv" pip compile --quiet --system-certs --upgrade --universal --python-version 3.11 --generate-hashes \
  --no-annotate --no-header --extra dev --output-file "$folder/requirements.lock" pyproject.toml
{
  echo "# Pinned by \`make lock\`; tools/setup.sh installs from it."
  cat "$folder/requirements.lock"
} >requirements.lock
