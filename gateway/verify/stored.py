"""Prints the contents of the object store: one line per object and per incomplete multipart upload.

The store is the one of S3_ENDPOINT_URL and the AWS variables, as `sage-local env` prints them.
"""

import contextlib
import os

import boto3


def main() -> None:
    """Print the contents."""
    bucket = os.environ["S3_BUCKET_NAME"]
    s3 = boto3.client("s3", endpoint_url=os.environ.get("S3_ENDPOINT_URL") or None, region_name=os.environ["S3_REGION"])
    with contextlib.closing(s3):
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket):
            for found in page.get("Contents", []):
                print("object", found["Key"])
        for unfinished in s3.list_multipart_uploads(Bucket=bucket).get("Uploads", []):
            print("upload", unfinished["Key"])


if __name__ == "__main__":
    main()
