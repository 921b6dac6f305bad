"""The method that uploads are measured against: parts of 10 MB, one after another.

A gRPC server takes the stream, gathers 10 MB, sends them to S3 and waits for the answer before it reads on: what a
server does that calls boto3 between two messages. Run by `bench/upload.py`, with the S3 settings in the environment.
"""

import os
import sys
import uuid
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import boto3
import grpc
from sage.ingest.v1 import ingest_pb2, ingest_pb2_grpc

PART_BYTES = 10 * 1024 * 1024


class SequentialServicer(ingest_pb2_grpc.IngestServiceServicer):
    """Stores what comes, nothing else: no checksum, no look into the file."""

    def __init__(self, bucket: str) -> None:
        self._s3 = boto3.client("s3", endpoint_url=os.environ["S3_ENDPOINT_URL"])
        self._bucket = bucket

    def UploadVideo(
        self, request_iterator: Iterator[ingest_pb2.UploadVideoRequest], context: Any
    ) -> ingest_pb2.UploadVideoResponse:
        """Store the bytes under a new key."""
        key = f"sequential/{uuid.uuid4().hex}"
        upload_id = self._s3.create_multipart_upload(Bucket=self._bucket, Key=key)["UploadId"]
        etags: list[str] = []

        def send(part: bytes) -> None:
            answer = self._s3.upload_part(
                Bucket=self._bucket, Key=key, UploadId=upload_id, PartNumber=len(etags) + 1, Body=part
            )
            etags.append(answer["ETag"])

        gathered = bytearray()
        for message in request_iterator:
            gathered += message.content.data
            if len(gathered) >= PART_BYTES:
                send(bytes(gathered))
                gathered.clear()
        if gathered:
            send(bytes(gathered))
        self._s3.complete_multipart_upload(
            Bucket=self._bucket,
            Key=key,
            UploadId=upload_id,
            MultipartUpload={"Parts": [{"ETag": tag, "PartNumber": number} for number, tag in enumerate(etags, 1)]},
        )
        return ingest_pb2.UploadVideoResponse(video=ingest_pb2.Video(id=key))


def main() -> None:
    """Serve until standard input ends; the first line of output is the port."""
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=4))
    servicer = SequentialServicer(os.environ["S3_BUCKET_NAME"])  # type: ignore[abstract] # one method is enough
    ingest_pb2_grpc.add_IngestServiceServicer_to_server(servicer, server)
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    server.start()
    sys.stdin.read()
    server.stop(None)


if __name__ == "__main__":
    main()
