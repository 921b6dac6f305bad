#!/usr/bin/env bash
# Fails where protos/ breaks a client of the contracts before this change.
#
# "Before" is AGAINST where it is set; on a branch the point where it left origin/main; on main the state before the
# change to protos/ that is uncommitted or, where none is, the last one.
set -euo pipefail
if [ -n "${AGAINST:-}" ]; then
  base=$AGAINST
elif fork=$(git merge-base origin/main HEAD 2>/dev/null) && [ "$fork" != "$(git rev-parse HEAD)" ]; then
  base=$fork
elif ! git diff --quiet HEAD -- protos; then
  base=HEAD
else
  base=$(git log -1 --format=%H -- protos)~1
fi
if ! git cat-file -e "$base:buf.yaml" 2>/dev/null; then
  echo "No contracts before this change: nothing can break." >&2
  exit 0
fi
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
git archive "$base" buf.yaml protos third_party | tar -x -C "$folder"
buf breaking --against "$folder"
