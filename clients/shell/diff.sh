#!/usr/bin/env bash
# Where do two cuts of a video differ? Asked with grpcurl, which reads the contracts from the server by reflection.
#
# usage: diff.sh OLD.mp4 NEW.mp4      SAGE_ADDRESS: the gateway, localhost:8080 where it is not set
set -euo pipefail
headers=(${SAGE_TOKEN:+-H "authorization: Bearer $SAGE_TOKEN"})

call() { grpcurl -plaintext "${headers[@]}" "${@:2}" "${SAGE_ADDRESS:-localhost:8080}" "sage.$1"; }
id() { sed -n "s/.*\"id\": \"\($1_[0-9a-f]*\)\".*/\1/p"; }

# Client streaming: the first message describes the file, the others carry its bytes.
upload() {
  { printf '{"spec": {"filename": "%s", "content_type": "video/mp4", "size_bytes": %d}}\n' "${1##*/}" "$(wc -c <"$1")"
    base64 -w 1000000 "$1" | sed 's/.*/{"content": {"data": "&"}}/'
  } | call ingest.v1.IngestService/UploadVideo -d @ | id video
}
embed() { call embed.v1.EmbedService/CreateEmbedding -d "{\"video_id\": \"$1\"}" | id embed; }
watch() { call embed.v1.EmbedService/WatchEmbedding -d "{\"embedding_id\": \"$1\"}" >&2; }

old=$(upload "$1") new=$(upload "$2")
a=$(embed "$old") b=$(embed "$new")
watch "$a"
watch "$b"
call compare.v1.CompareService/CompareEmbeddings -d "{\"embedding_id_a\": \"$a\", \"embedding_id_b\": \"$b\"}"
