"""What a comparison reads: embeddings and their segments, through the embed service's contract."""
