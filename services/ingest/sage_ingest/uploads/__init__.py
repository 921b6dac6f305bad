"""Uploads: streamed and resumable, from the first byte to a stored video."""
