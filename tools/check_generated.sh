#!/usr/bin/env bash
# Fails where gen/ differs from what buf makes of protos/ now.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
buf generate -o "$folder"
diff -r "$folder/gen" gen --exclude=__pycache__ || {
  echo "gen/ is not what protos/ generates. Run: make gen" >&2
  exit 1
}
