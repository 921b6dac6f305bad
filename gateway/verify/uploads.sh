# shellcheck shell=bash disable=SC2154
section "Uploads of $megabytes MB"
bytes=$((megabytes * 1000 * 1000))
large=$scratch/large.mp4
# A film, then a box that players skip. A size of 1 means that the real size follows in eight bytes.
{
  cat "$film"
  printf '\0\0\0\1free%b' "$(printf '%016x' $((bytes - $(wc -c <"$film"))) | sed 's/../\\x&/g')"
} >"$large"
truncate -s "$bytes" "$large"

port_of() { sed 's/^[a-z0-9]*:\/*//' <<<"$1" | tr , '\n' | sed 's/.*://'; }
# shellcheck disable=SC2046
gateway_pid=$(python gateway/verify/listening.py $(port_of "x:$address") | head -1)
# shellcheck disable=SC2046
ingest_pids=$(python gateway/verify/listening.py $(port_of "$SAGE_INGEST_ADDRESS"))
memory() { awk -v name="$2:" '$1 == name { print $2 }' "/proc/$1/status"; }

# grows WHAT PID BASE MAX_MB: by how much the peak memory of a process exceeds BASE KiB.
grows() {
  local growth=$((($(memory "$2" VmHWM) - $3) / 1024))
  if [ "$growth" -lt "$4" ]; then passed "$1 grew by $growth MB"; else failed "$1 grew by more than $4 MB:" "$growth MB"; fi
}

declare -A base=()
for pid in $gateway_pid $ingest_pids; do
  # Resets the peak.
  if echo 5 2>/dev/null >"/proc/$pid/clear_refs"; then base[$pid]=$(memory "$pid" VmRSS); fi
done
before=$(python gateway/verify/stored.py)
began=$(date +%s.%N)
check "curl -T streams a large file" '"id":"video_[0-9a-f]{32}"' http -m 600 -T "$large" "$url/v1/videos?spec.filename=verify-large.mp4"
awk -v size="$megabytes" -v from="$began" -v to="$(date +%s.%N)" 'BEGIN { printf "          %.0f MB/s\n", size / (to - from) }'
large_video=$(field video id)
for pid in "${!base[@]}"; do
  if [ "$pid" = "$gateway_pid" ]; then grows Envoy "$pid" "${base[$pid]}" 32; else grows ingest "$pid" "${base[$pid]}" 150; fi
done
check "all of it was stored" "\"sizeBytes\":\"$bytes\"" http "$url/v1/videos/$large_video"
check "its checksum is right" "\"sha256\":\"$(sha256sum "$large" | cut -d' ' -f1)\"" http "$url/v1/videos/$large_video"
http -X DELETE "$url/v1/videos/$large_video" >/dev/null || true
nothing_new() { [ "$(python gateway/verify/stored.py)" = "$before" ]; }
if until_true 30 nothing_new; then passed "and it is deleted again"; else failed "left behind:" "$(python gateway/verify/stored.py)"; fi

# abort PATH: sends the header and half of the film, then closes the connection.
abort() {
  exec 3<>"/dev/tcp/${address%:*}/${address##*:}"
  printf 'PUT %s HTTP/1.1\r\nhost: %s\r\ncontent-length: %d\r\n' "$1" "$address" "$bytes" >&3
  [ -z "${SAGE_TOKEN:-}" ] || printf 'authorization: Bearer %s\r\n' "$SAGE_TOKEN" >&3
  printf '\r\n' >&3
  head -c $((bytes / 2)) "$large" >&3
  exec 3>&-
}
abort "/v1/videos?spec.filename=verify-aborted.mp4"
if until_true 60 nothing_new; then
  passed "an upload that is cut off halfway leaves nothing"
else
  failed "an upload that is cut off halfway leaves:" "$(python gateway/verify/stored.py)"
fi
check "and no video" '^\{"videos":\[\]' http "$url/v1/videos?filename_contains=verify-aborted"
check "a client's own x-upload-content-length is ignored" '"size_bytes|"spec.size_bytes' \
  http -X POST -H "transfer-encoding: chunked" -H "x-upload-content-length: 5" --data-binary "@$film" \
  -H "content-type: video/mp4" "$url/v1/videos?spec.filename=verify-chunked.mp4"
