#!/usr/bin/env bash
# Fails if protos/ breaks clients of the previous contracts. Since the commit that added protos/README.md nothing may break.
#
# "Previous" is the commit AGAINST if that is set. Otherwise, on a branch, it is where the branch left origin/main; on main,
# it is the state before the uncommitted change to protos/, or before the last committed one.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ -n "${AGAINST:-}" ]; then
  base=$AGAINST
elif fork=$(git merge-base origin/main HEAD 2>/dev/null) && [ "$fork" != "$(git rev-parse HEAD)" ]; then
  base=$fork
elif ! git diff --quiet HEAD -- protos; then
  base=HEAD
else
  base=$(git log -1 --first-parent --format=%H -- protos)~1
fi
if ! git rev-parse --quiet --verify "$base^{commit}" >/dev/null; then
  if [ -n "${AGAINST:-}" ]; then
    echo "There is no commit $AGAINST." >&2
    exit 1
  fi
  if [ "$(git rev-parse --is-shallow-repository)" = true ]; then
    echo "NOT CHECKED: this clone lacks the commit before the last change to protos/. Run: git fetch --unshallow" >&2
    exit 0
  fi
fi
if ! git cat-file -e "$base:protos/README.md" 2>/dev/null; then
  echo "The contracts before this change were not stable yet: nothing can break." >&2
  exit 0
fi
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
git archive "$base" buf.yaml protos third_party | tar -x -C "$folder"
buf breaking --against "$folder"
