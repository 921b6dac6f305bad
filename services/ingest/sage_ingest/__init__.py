"""Ingest: takes videos in, keeps them in S3 and knows what they are."""
