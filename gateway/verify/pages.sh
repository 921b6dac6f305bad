# shellcheck shell=bash disable=SC2154
section "Pages of other origins are refused"
foreign=https://foreign.example
preflight() { curl -s -k -m 10 -i -X OPTIONS -H "origin: $1" -H "access-control-request-method: POST" "$2"; }
lacks() { if grep -Eiq -- "$1" <<<"$2"; then echo "has $1"; else echo "lacks it"; fi; }
check "a preflight gets no permission" "lacks it" \
  lacks access-control-allow-origin "$(preflight "$foreign" "$url/v1/comparisons")"
check "a response may not be read" "lacks it" \
  lacks access-control-allow-origin "$(http -i -H "origin: $foreign" "$url/v1/models")"
check "a POST that needs no preflight is refused" '"FORBIDDEN"' \
  http -H "origin: $foreign" -H "content-type: text/plain" -d '{}' "$url/v1/comparisons"
check "from a page without an origin too" '"FORBIDDEN"' http -H "origin: null" -H "content-type: text/plain" -d '{}' "$url/v1/comparisons"
check "an upload as well" "^403" http -H "origin: $foreign" -T "$film" "$url/v1/videos?spec.filename=a.mp4"
check "gRPC-Web as well" '"PERMISSION_DENIED"|HTTP 403' web sage.embed.v1.EmbedService/ListModels '{}' "origin: $foreign"
check "a page of the gateway's own origin is accepted" "FIELD_INVALID" http -H "origin: $url" -d '{}' "$url/v1/comparisons"
check "a foreign name that points at the gateway is refused" '"FORBIDDEN"' http -H "host: foreign.example" "$url/v1/models"
check "over gRPC too" "PermissionDenied" call -authority foreign.example "$address" list
