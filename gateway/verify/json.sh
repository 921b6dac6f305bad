# shellcheck shell=bash disable=SC2154
section "JSON for every RPC"
called=()

# json METHOD PATTERN CURL_ARGUMENT...: a call whose response must match; its body is in $output.
json() {
  called+=("$1")
  check "$1" "$2" http "${@:3}"
}

json UploadVideo '"id":"video_[0-9a-f]{32}"' -T "$film" "$url/v1/videos?spec.filename=verify+one.mp4"
video=$(field video id)
check "  a plus in the query is a space" '"filename":"verify one.mp4"' echo "$output"
json ListVideos "$video" "$url/v1/videos?page_size=5&filename_contains=verify+one"
json GetVideo "$video" "$url/v1/videos/$video"
json GetPlaybackUrl '"expireTime"' -d '{"validity": "600s"}' "$url/v1/videos/$video:playbackUrl"
playback=$(field url)
play() { curl -sS -m 60 -o /dev/null -w '%{http_code} %{content_type} %{size_download}\n' -r "$1" "$playback"; }
check "  a player gets the type and the range that it requests" "^206 video/mp4 100$" play 100-199
check "  a player can seek to the end" "^206 video/mp4 1000$" play -1000

size=$(wc -c <"$film")
spec="{\"spec\": {\"filename\": \"verify-parts.mp4\", \"contentType\": \"video/mp4\", \"sizeBytes\": \"$size\"}}"
json CreateUpload '"UPLOAD_STATE_OPEN"' -d "$spec" "$url/v1/uploads"
upload=$(field upload id)
json UploadPart '"partNumber":1' -T "$film" "$url/v1/uploads/$upload/parts/1"
json GetUpload '"partNumber":1' "$url/v1/uploads/$upload"
json ListUploads "$upload" "$url/v1/uploads?page_size=5"
json CompleteUpload '"id":"video_[0-9a-f]{32}"' -X POST "$url/v1/uploads/$upload:complete"
parts_video=$(field video id)
output=$(http -d "$spec" "$url/v1/uploads")
json AbortUpload '"UPLOAD_STATE_ABORTED"' -X POST "$url/v1/uploads/$(field upload id):abort"

json ListModels '"local"' "$url/v1/models"
json CreateEmbedding '"EMBEDDING_STATE_' -d "{\"videoId\": \"$video\", \"model\": \"local\"}" "$url/v1/embeddings"
embedding=$(field embedding id)
json WatchEmbedding '"last":true' -N "$url/v1/embeddings/$embedding:watch"
check "  as lines of JSON" '^[1-9]' python -c '
import json, sys
print(len([json.loads(line) for line in sys.argv[1].splitlines()[:-1] if line]))' "$output"
json GetEmbedding '"EMBEDDING_STATE_COMPLETED"' "$url/v1/embeddings/$embedding"
json ListEmbeddings "$embedding" "$url/v1/embeddings?video_id=$video&state=EMBEDDING_STATE_COMPLETED"
json ReadSegments '"vectors":"[^"]' "$url/v1/embeddings/$embedding/segments?track=visual"
json CreateFingerprint '"EMBEDDING_STATE_' -d "{\"videoId\": \"$video\"}" "$url/v1/fingerprints"
json WatchFingerprint '"last":true' -N "$url/v1/fingerprints/$video:watch"
json GetFingerprint '"EMBEDDING_STATE_COMPLETED"' "$url/v1/fingerprints/$video"
json ReadFingerprint '"data":"[^"]' "$url/v1/fingerprints/$video/data"
json CancelFingerprint 'FINGERPRINT_FINISHED' -X POST "$url/v1/fingerprints/$video:cancel"
json CompareEmbeddings '"similarityPercent":100' -d "{\"embeddingIdA\": \"$embedding\", \"embeddingIdB\": \"$embedding\"}" "$url/v1/comparisons"
# Without `force` the response would be the embedding above.
output=$(http -d "{\"videoId\": \"$video\", \"model\": \"local\", \"force\": true}" "$url/v1/embeddings")
cancelled=$(field embedding id)
json CancelEmbedding '"EMBEDDING_STATE_CANCELLED"|EMBEDDING_FINISHED' -X POST "$url/v1/embeddings/$cancelled:cancel"

json GetApiKey '"provider":"twelvelabs"' "$url/v1/apiKey"
stored=$(field apiKey source)
json SetApiKey '"API_KEY_STATUS_|API_KEY_INVALID' -X PUT -d '{"key": "verify-not-a-key", "validateOnly": true}' "$url/v1/apiKey"
# Never delete a key that this script did not set.
if [ "$stored" = API_KEY_SOURCE_STORED ]; then
  called+=(DeleteApiKey)
  passed "DeleteApiKey is left out: a key is stored"
else
  json DeleteApiKey '^\{\}' -X DELETE "$url/v1/apiKey"
fi

section "Streams"
check "as server-sent events: type" "^200 text/event-stream" http -N -H "accept: text/event-stream" "$url/v1/embeddings/$embedding:watch"
check "as server-sent events: data" '^data: \{.*"last":true' http -N -H "accept: text/event-stream" "$url/v1/embeddings/$embedding:watch"
check "over gRPC-Web" '"last": true' web sage.embed.v1.EmbedService/WatchEmbedding "{\"embedding_id\": \"$embedding\"}"
check "over gRPC-Web it ends with its status" '"status": "OK"' web sage.embed.v1.EmbedService/WatchEmbedding "{\"embedding_id\": \"$embedding\"}"
check "over gRPC" '"last": true' call -d "{\"embedding_id\": \"$embedding\"}" "$address" sage.embed.v1.EmbedService/WatchEmbedding
check "vectors over gRPC-Web" '"vectors"' web sage.embed.v1.EmbedService/ReadSegments "{\"embedding_id\": \"$embedding\"}"
check "an error before the first message has its status" "^404 application/json" \
  http -H "accept: text/event-stream" "$url/v1/embeddings/embed_0192f0c1d2e37a4b8c9d0e1f2a3b4c5d:watch"

section "Everything created is deleted"
json DeleteEmbedding '^\{\}' -X DELETE "$url/v1/embeddings/$embedding"
http -X DELETE "$url/v1/embeddings/$cancelled" >/dev/null || true
json DeleteFingerprint '^\{\}' -X DELETE "$url/v1/fingerprints/$video"
json DeleteVideo '^\{\}' -X DELETE "$url/v1/videos/$video"
http -X DELETE "$url/v1/videos/$parts_video" >/dev/null || true
left=$(comm -23 <(python gateway/verify/rpcs.py | sort) <(printf '%s\n' "${called[@]}" | sort -u))
if [ -z "$left" ]; then passed "no RPC was left out"; else failed "RPCs without a call:" "$left"; fi
