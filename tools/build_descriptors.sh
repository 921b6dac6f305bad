#!/usr/bin/env bash
# Writes the contracts as descriptors for Envoy's JSON transcoder: with everything that they import, with google.rpc.Status
# and its details for errors over JSON, and without comments, because a ConfigMap on a cluster holds at most 1 MiB.
set -euo pipefail
buf build --as-file-descriptor-set --exclude-source-info -o "$1"
