#!/usr/bin/env bash
# Fails if gen/ or the gateway's descriptors differ from what buf generates from protos/ now, or docs/settings.md from the
# settings in the code.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
buf generate -o "$folder"
tools/build_descriptors.sh "$folder/sage.binpb"
python tools/write_settings.py "$folder/settings.md"
diff -r "$folder/gen" gen --exclude=__pycache__ && cmp "$folder/sage.binpb" gateway/sage_gateway/sage.binpb && diff "$folder/settings.md" docs/settings.md || {
  echo "Generated files are out of date. Run: make gen" >&2
  exit 1
}
