#!/usr/bin/env bash
# Shows where two cuts of a video differ, with grpcurl and coreutils.
#
# usage: clients/shell/diff.sh OLD.mp4 NEW.mp4
#
# SAGE_ADDRESS is the gateway (default: localhost:8080), SAGE_TOKEN the token if the server requires one.
set -euo pipefail
# Also in command substitutions: without it, a file that cannot be read would be looked up with an empty checksum.
shopt -s inherit_errexit
[ $# = 2 ] || { echo "usage: $0 OLD.mp4 NEW.mp4" >&2; exit 2; }
headers=(${SAGE_TOKEN:+-H "authorization: Bearer $SAGE_TOKEN"})

call() { grpcurl -plaintext "${headers[@]}" "${@:2}" "${SAGE_ADDRESS:-localhost:8080}" "sage.$1"; }
id() { sed -n "s/.*\"id\": \"\($1_[0-9a-f]*\)\".*/\1/p"; }

# Prints the ID of the video with the file's bytes, uploading them unless SAGE has them already.
# Client streaming: the first message describes the file, the others carry its bytes.
upload() {
  local sha256 stored
  sha256=$(sha256sum "$1" | cut -d ' ' -f 1)
  stored=$(call ingest.v1.IngestService/ListVideos -d "{\"sha256\": \"$sha256\", \"page_size\": 1}" | id video)
  if [ -n "$stored" ]; then echo "$stored"; return; fi
  {
    printf '{"spec": {"filename": "%s", "content_type": "video/mp4", "size_bytes": %d, "sha256": "%s"}}\n' \
      "$(basename "$1" | tr -d '"\\')" "$(wc -c <"$1")" "$sha256"
    base64 -w 1000000 "$1" | sed 's/.*/{"content": {"data": "&"}}/'
  } | call ingest.v1.IngestService/UploadVideo -d @ | id video
}
# SAGE reuses the embedding that exists, if any.
embed() { call embed.v1.EmbedService/CreateEmbedding -d "{\"video_id\": \"$1\"}" | id embed; }
watch() { call embed.v1.EmbedService/WatchEmbedding -d "{\"embedding_id\": \"$1\"}" >&2; }

old=$(upload "$1")
new=$(upload "$2")
a=$(embed "$old")
b=$(embed "$new")
watch "$a"
watch "$b"
# Clip by clip at equal times. Mode ALIGNED, the default, also needs the fingerprints of both videos.
call compare.v1.CompareService/CompareEmbeddings -d "{\"embedding_id_a\": \"$a\", \"embedding_id_b\": \"$b\", \"mode\": \"COMPARE_MODE_TIME\"}"
