#!/usr/bin/env bash
# Installs Debian's Chromium for the tests that drive a browser, unless it is installed.
set -euo pipefail
command -v chromium >/dev/null && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends chromium >/dev/null
else
  echo "Chromium is not installed, so the browser tests will be skipped (if CI is set, they fail). As root: apt-get install chromium"
fi
