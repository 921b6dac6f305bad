#!/usr/bin/env bash
# Fails where gen/ differs from what buf makes of protos/ now, or docs/settings.md from the code's settings.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
buf generate -o "$folder"
python tools/write_settings.py "$folder/settings.md"
diff -r "$folder/gen" gen --exclude=__pycache__ && diff "$folder/settings.md" docs/settings.md || {
  echo "What is generated is not current. Run: make gen" >&2
  exit 1
}
