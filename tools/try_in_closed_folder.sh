#!/usr/bin/env bash
# Runs a command in a copy of this checkout and its environment, in a folder of mode 0700, as a checkout in /root is.
#
# usage: tools/try_in_closed_folder.sh make demo
set -euo pipefail
cd "$(dirname "$0")/.."
here=$PWD
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
git ls-files -z | tar --create --null --files-from - | tar --extract --directory "$folder"
# Hard links, if both folders are on one file system: the environment is larger than 1 GB.
cp -al .venv "$folder/.venv" 2>/dev/null || { rm -rf "$folder/.venv"; cp -a .venv "$folder/.venv"; }
# The environment names its own folder in scripts and in the packages that are installed from the checkout.
grep -rlIF "$here" "$folder/.venv/bin" "$folder"/.venv/lib/python*/site-packages/*sage* | xargs sed -i "s#$here#$folder#g"
cd "$folder"
"$@"
