"""Shows where two cuts of a video differ, over native gRPC with the code that buf generates into gen/python.

usage: python clients/python/diff.py OLD.mp4 NEW.mp4

SAGE_ADDRESS is the gateway (default: localhost:8080), SAGE_TOKEN the token if the server requires one.
"""

import hashlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
from google.api import httpbody_pb2
from sage.compare.v1 import compare_pb2, compare_pb2_grpc
from sage.embed.v1 import embed_pb2, embed_pb2_grpc
from sage.ingest.v1 import ingest_pb2, ingest_pb2_grpc

CHUNK_BYTES = 512 * 1024
TOKEN = os.environ.get("SAGE_TOKEN")
METADATA: tuple[tuple[str, str | bytes], ...] = (("authorization", f"Bearer {TOKEN}"),) if TOKEN else ()


def main() -> None:
    """Upload both files, embed both videos, compare the embeddings and print the differences."""
    if len(sys.argv) != 3:
        sys.exit("usage: diff.py OLD.mp4 NEW.mp4")
    with grpc.insecure_channel(os.environ.get("SAGE_ADDRESS", "localhost:8080")) as channel:
        a, b = [embed(channel, upload(channel, Path(name))) for name in sys.argv[1:3]]
        # Clip by clip at equal times. Mode ALIGNED, the default, also needs the fingerprints of both videos.
        request = compare_pb2.CompareEmbeddingsRequest(
            embedding_id_a=a, embedding_id_b=b, mode=compare_pb2.COMPARE_MODE_TIME
        )
        comparison = compare_pb2_grpc.CompareServiceStub(channel).CompareEmbeddings(request, metadata=METADATA)
    visual = comparison.tracks[0]  # the only one, because the request names no others
    for difference in visual.time.differences:
        kind = compare_pb2.DifferenceKind.Name(difference.kind).removeprefix("DIFFERENCE_KIND_")
        sides = [seconds(getattr(difference, side)) if difference.HasField(side) else "-" for side in ("a", "b")]
        print(kind, *sides)
    for found in comparison.media_differences:
        print(compare_pb2.MediaDifferenceKind.Name(found.kind).removeprefix("MEDIA_DIFFERENCE_KIND_"), found.a, found.b)
    print(f"picture similar {visual.similarity_percent:.1f} %")
    for part in comparison.not_compared:
        reason = compare_pb2.NotComparedReason.Name(part.reason).removeprefix("NOT_COMPARED_REASON_")
        print(f"not compared: {part.track}, {reason}")


def upload(channel: grpc.Channel, path: Path) -> str:
    """Return the ID of the video with the file's bytes, uploading them unless SAGE already has them."""
    videos = ingest_pb2_grpc.IngestServiceStub(channel)
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    stored = videos.ListVideos(ingest_pb2.ListVideosRequest(sha256=sha256, page_size=1), metadata=METADATA).videos
    if stored:
        return stored[0].id

    def messages() -> Iterator[ingest_pb2.UploadVideoRequest]:
        spec = ingest_pb2.VideoSpec(
            filename=path.name, content_type="video/mp4", size_bytes=path.stat().st_size, sha256=sha256
        )
        yield ingest_pb2.UploadVideoRequest(spec=spec)
        with path.open("rb") as file:
            while data := file.read(CHUNK_BYTES):
                yield ingest_pb2.UploadVideoRequest(content=httpbody_pb2.HttpBody(data=data))

    return videos.UploadVideo(messages(), metadata=METADATA).video.id


def embed(channel: grpc.Channel, video_id: str) -> str:
    """Return the ID of the video's embedding once it is completed. SAGE reuses an existing one."""
    embeddings = embed_pb2_grpc.EmbedServiceStub(channel)
    created = embeddings.CreateEmbedding(embed_pb2.CreateEmbeddingRequest(video_id=video_id), metadata=METADATA)
    watch = embed_pb2.WatchEmbeddingRequest(embedding_id=created.embedding.id)
    for message in embeddings.WatchEmbedding(watch, metadata=METADATA):
        if message.WhichOneof("event") != "embedding":
            continue  # a heartbeat
        now = message.embedding
        print(f"{video_id}: {now.progress.fraction:.0%} {now.progress.message}", file=sys.stderr)
        if message.last:
            if now.state == embed_pb2.EMBEDDING_STATE_COMPLETED:
                return now.id
            raise SystemExit(now.failure.message or now.progress.message)
    raise SystemExit(f"The watch of {created.embedding.id} was cut off. Run this again: it continues.")


def seconds(side: compare_pb2.FrameRange) -> str:
    """Return a range as text, in seconds."""
    return f"{side.start_seconds:.2f}-{side.end_seconds:.2f}"


if __name__ == "__main__":
    main()
