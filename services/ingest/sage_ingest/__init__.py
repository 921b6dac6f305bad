"""Ingest: accepts videos, stores them in S3 and describes their media."""
