#!/usr/bin/env bash
# Validates the gateway's configuration and drives a gateway with real calls.
#
# usage: gateway/verify.sh [ADDRESS]      default: localhost:8080, where `make up` serves
set -euo pipefail
cd "$(dirname "$0")/.."
PATH="$PWD/.venv/bin:$PATH"
address=${1:-localhost:8080}
failures=0

# check WHAT PATTERN COMMAND...: the command's output, errors included, has to match the pattern.
check() {
  local what=$1 pattern=$2 output
  shift 2
  output=$("$@" 2>&1) || true
  if grep -Eq -- "$pattern" <<<"$output"; then
    printf 'ok      %s\n' "$what"
  else
    printf 'FAILED  %s: no %s in\n%s\n' "$what" "$pattern" "$(head -n 20 <<<"$output")"
    failures=$((failures + 1))
  fi
}

call() { grpcurl -plaintext -max-time 10 "$@"; }

config=$(mktemp --suffix=.yaml)
trap 'rm -f "$config"' EXIT
sage-local gateway-config >"$config"
check "Envoy takes the configuration" "configuration '.*' OK" envoy --mode validate -c "$config"

for service in ingest.v1.IngestService embed.v1.EmbedService compare.v1.CompareService; do
  check "reflection lists sage.$service" "^sage.$service\$" call "$address" list
done
check "reflection describes a method of each" "rpc WatchEmbedding" call "$address" describe sage.embed.v1.EmbedService
check "health answers" '"status": "SERVING"' call "$address" grpc.health.v1.Health/Check

check "ingest answers" '^\{' call -d '{"page_size": 1}' "$address" sage.ingest.v1.IngestService/ListVideos
check "embed answers" '"models"' call "$address" sage.embed.v1.EmbedService/ListModels
check "compare answers, and its errors come through whole" '"reason":"?.*FIELD_INVALID|FIELD_INVALID' \
  call -d '{"embedding_id_a": "?", "embedding_id_b": "?"}' "$address" sage.compare.v1.CompareService/CompareEmbeddings
check "a client stream reaches ingest" "SPEC_MISSING|FIELD_INVALID" \
  call -d '{}' "$address" sage.ingest.v1.IngestService/UploadVideo
check "a request id goes through and comes back" "x-request-id: verify-gateway-1" \
  call -v -H "x-request-id: verify-gateway-1" "$address" sage.ingest.v1.IngestService/ListVideos
check "what no service has is refused" "Unimplemented|does not" \
  call -import-path protos -import-path third_party/googleapis -proto sage/ingest/v1/ingest.proto \
  -d '{}' "$address" sage.nobody.v1.NoService/Nothing

exit $((failures > 0))
