#!/usr/bin/env bash
# Drives a gateway with real calls: every protocol, every RPC over JSON, both kinds of streams, foreign pages, large and
# broken uploads, errors, limits, sign-in, TLS.
#
# usage: gateway/verify.sh [HOST:PORT]      default: localhost:8080, where `make up` serves
#
#   SAGE_TOKEN               a token with the scope `write`, if the stack requires one
#   SAGE_VERIFY_MEGABYTES    size of the large upload (default 1000)
#
# Options that the stack does not use are verified with a second gateway in front of the same services. Their addresses
# come from `sage-local env`, unless SAGE_INGEST_ADDRESS and the others are set. The script deletes everything it creates.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/.venv/bin:$PATH"
address=${1:-localhost:8080}
url=http://$address
megabytes=${SAGE_VERIFY_MEGABYTES:-1000}
film=samples/old.mp4
if [ -z "${SAGE_INGEST_ADDRESS:-}" ]; then
  facts=$(sage-local env)
  eval "$facts"
fi
authorization=()
[ -z "${SAGE_TOKEN:-}" ] || authorization=(-H "authorization: Bearer $SAGE_TOKEN")
scratch=$(mktemp -d)
started=()
failures=0

end() {
  for pid in "${started[@]}"; do kill "$pid" 2>/dev/null && wait "$pid" 2>/dev/null || true; done
  rm -rf "$scratch"
}
trap end EXIT

section() { printf '\n%s\n' "$1"; }
passed() { printf '  ok      %s\n' "$1"; }
failed() {
  printf '  FAILED  %s\n%s\n' "$1" "$(tail -n 6 <<<"$2" | cut -c -1000 | sed 's/^/          /')"
  failures=$((failures + 1))
}

# check WHAT PATTERN COMMAND...: the command's output, including errors, must match the pattern. It is in $output then.
check() {
  local what=$1 pattern=$2
  shift 2
  output=$("$@" 2>&1) || true
  if grep -Eq -- "$pattern" <<<"$output"; then passed "$what"; else failed "$what: no $pattern in" "$output"; fi
}

# until_true SECONDS COMMAND...: returns once the command succeeds.
until_true() {
  local deadline=$((SECONDS + $1))
  shift
  until "$@" >/dev/null 2>&1; do
    [ "$SECONDS" -lt "$deadline" ] || return 1
    sleep 0.1
  done
}

call() { grpcurl -plaintext -max-time 30 "${authorization[@]}" "$@"; }
web() { python gateway/verify/grpc_web.py "$url" "$1" "$2" "${authorization[@]:1}" "${@:3}"; }
# The body, then a line with the status and the type.
http() { curl -sS -k -m 60 -w '\n%{http_code} %{content_type}\n' "${authorization[@]}" "$@"; }
# field NAME...: the value under these names in the last response.
field() {
  python -c '
import functools, json, sys
print(functools.reduce(lambda found, name: found.get(name, {}), sys.argv[2:], json.loads(sys.argv[1])))' "${output%$'\n'*}" "$@"
}

serves() { curl -s -k -m 2 "$url/v1/health" | grep -q '"SERVING"'; }
until_true 10 serves || { echo "error: no gateway with healthy services on $address. \`make up\` starts one." >&2; exit 2; }
for part in protocols json pages uploads strict; do
  # shellcheck source=/dev/null
  source "gateway/verify/$part.sh"
done

printf '\n%s\n' "$([ $failures = 0 ] && echo "All checks passed." || echo "$failures checks failed.")"
exit $((failures > 0))
