# shellcheck shell=bash disable=SC2154
section "Native gRPC"
for service in ingest.v1.IngestService embed.v1.EmbedService compare.v1.CompareService; do
  check "reflection lists sage.$service" "^sage.$service\$" call "$address" list
done
check "reflection describes a method of each" "rpc WatchEmbedding" call "$address" describe sage.embed.v1.EmbedService
check "health responds" '"status": "SERVING"' call "$address" grpc.health.v1.Health/Check
check "ingest responds" '^\{' call -d '{"page_size": 1}' "$address" sage.ingest.v1.IngestService/ListVideos
check "embed responds" '"models"' call "$address" sage.embed.v1.EmbedService/ListModels
check "compare responds" "FIELD_INVALID" call -d '{}' "$address" sage.compare.v1.CompareService/CompareEmbeddings
check "a client stream reaches ingest" "SPEC_MISSING|FIELD_INVALID" call -d '{}' "$address" sage.ingest.v1.IngestService/UploadVideo
check "a request ID is passed on and returned" "x-request-id: verify-gateway-1" \
  call -v -H "x-request-id: verify-gateway-1" "$address" sage.ingest.v1.IngestService/ListVideos

section "gRPC-Web"
check "a unary call" '"models"' web sage.embed.v1.EmbedService/ListModels '{}'
check "ends with its status" '"status": "OK"' web sage.embed.v1.EmbedService/ListModels '{}'

section "Errors have reason and field over all three protocols"
ids='{"embedding_id_a": "?", "embedding_id_b": "?"}'
check "gRPC: reason" "FIELD_INVALID" call -d "$ids" "$address" sage.compare.v1.CompareService/CompareEmbeddings
check "gRPC: field" "embedding_id_a" call -d "$ids" "$address" sage.compare.v1.CompareService/CompareEmbeddings
check "gRPC-Web: reason and field" '"INVALID_ARGUMENT".*"FIELD_INVALID".*"field": "embedding_id_a"' \
  web sage.compare.v1.CompareService/CompareEmbeddings "$ids"
check "JSON: reason and field" '"FIELD_INVALID".*"field":"embedding_id_a"' http -d "$ids" "$url/v1/comparisons"
check "JSON: status" "^400 application/json" http -d "$ids" "$url/v1/comparisons"
missing=video_0192f0c1d2e37a4b8c9d0e1f2a3b4c5d
check "gRPC: a missing video" "VIDEO_NOT_FOUND" call -d "{\"video_id\": \"$missing\"}" "$address" sage.ingest.v1.IngestService/GetVideo
check "gRPC-Web: a missing video" '"NOT_FOUND".*VIDEO_NOT_FOUND' web sage.ingest.v1.IngestService/GetVideo "{\"video_id\": \"$missing\"}"
check "JSON: a missing video" "VIDEO_NOT_FOUND" http "$url/v1/videos/$missing"

section "Errors of the gateway itself have the same form"
check "gRPC: no such service" "Unimplemented" call -import-path protos -import-path third_party/googleapis -import-path third_party/protovalidate \
  -import-path gateway/verify -proto google/rpc/error_details.proto -proto unknown.proto -d '{}' "$address" sage.unknown.v1.UnknownService/Nothing
check "gRPC: its reason" "UNIMPLEMENTED" call -import-path protos -import-path third_party/googleapis -import-path third_party/protovalidate \
  -import-path gateway/verify -proto google/rpc/error_details.proto -proto unknown.proto -d '{}' "$address" sage.unknown.v1.UnknownService/Nothing
check "JSON: an unknown path" '"reason":"UNIMPLEMENTED"' http "$url/v1/nothing"
check "JSON: an unknown path is 404" "^404 application/json" http "$url/nothing"
check "JSON: an unknown parameter" '"FIELD_INVALID".*nope|nope.*"FIELD_INVALID"' http "$url/v1/videos?nope=1"
check "JSON: malformed JSON" '"FIELD_INVALID"' http -d '{"embeddingIdA":' "$url/v1/comparisons"
{ printf '{"embeddingIdA":"'; head -c 4000000 /dev/zero | tr '\0' a; printf '"}'; } >"$scratch/large.json"
check "JSON: too large a body" '"LIMIT_EXCEEDED"' http --data-binary "@$scratch/large.json" "$url/v1/comparisons"
check "JSON: too large a body is 413" "^413 application/json" http --data-binary "@$scratch/large.json" "$url/v1/comparisons"
check "JSON: too large a body for a GET" '"LIMIT_EXCEEDED"' http -X GET --data-binary "@$scratch/large.json" "$url/v1/videos"
check "JSON: too large headers" '"LIMIT_EXCEEDED"' http -H "x-large: $(head -c 70000 /dev/zero | tr '\0' a)" "$url/v1/videos"
check "JSON: HTTP/1.0" '"FIELD_INVALID"' http --http1.0 "$url/v1/videos"

section "Monitoring"
if [ -n "${SAGE_GATEWAY_PROBE_URL:-}" ]; then
  check "statistics for Prometheus, by method" 'envoy_cluster_grpc_.*ListModels' http "$SAGE_GATEWAY_PROBE_URL/stats/prometheus"
  check "readiness" "^LIVE" http "$SAGE_GATEWAY_PROBE_URL/ready"
  check "but nothing else of the admin interface" "^404" http "$SAGE_GATEWAY_PROBE_URL/config_dump"
fi
if [ -n "${SAGE_GATEWAY_ADMIN_SOCKET:-}" ]; then
  admin() { http --unix-socket "$SAGE_GATEWAY_ADMIN_SOCKET" "$@"; }
  check "only its user can open the admin interface" sock find "$SAGE_GATEWAY_ADMIN_SOCKET" -perm 600
  check "the admin interface reports readiness" "^LIVE" admin http://localhost/ready
  check "but does not show the gateway's token" "^403" admin http://localhost/config_dump
  check "and cannot stop Envoy" "^403" admin -X POST http://localhost/quitquitquit
fi
check "health over JSON" '"status":"SERVING"' http "$url/v1/health"
