"""Embeddings as resources: created, read, watched, cancelled, deleted."""
