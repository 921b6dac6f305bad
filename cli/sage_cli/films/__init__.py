"""Turning films into comparable embeddings: targets, uploads, embeddings."""
