#!/usr/bin/env bash
# Installs Debian's Chromium for the tests that drive a browser, where there is none.
set -euo pipefail
command -v chromium >/dev/null && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends chromium >/dev/null
else
  echo "There is no Chromium here, so the tests in a browser are skipped. As root: apt-get install chromium"
fi
