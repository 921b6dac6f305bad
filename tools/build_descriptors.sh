#!/usr/bin/env bash
# Writes the contracts as Envoy's JSON transcoder reads them. Everything that they import is inside, and google.rpc.Status
# with its details, which errors over JSON are made of. Without comments: a cluster's ConfigMap holds 1 MiB.
set -euo pipefail
buf build --as-file-descriptor-set --exclude-source-info -o "$1"
