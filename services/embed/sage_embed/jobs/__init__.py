"""The work behind embeddings: queue, workers, and recovery from lost workers."""
