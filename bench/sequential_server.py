"""A peer of `bench/upload.py`: parts of 10 MiB, one after another.

A gRPC server reads the stream, collects 10 MiB, sends them to S3 and waits for the response before it reads on, as does
any server that calls boto3 between two messages. The environment contains the S3 settings.
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
    """Stores the bytes and nothing else: no checksum, no probing."""

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
            response = self._s3.upload_part(
                Bucket=self._bucket, Key=key, UploadId=upload_id, PartNumber=len(etags) + 1, Body=part
            )
            etags.append(response["ETag"])

        collected = bytearray()
        for message in request_iterator:
            collected += message.content.data
            if len(collected) >= PART_BYTES:
                send(bytes(collected))
                collected.clear()
        if collected:
            send(bytes(collected))
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
