"""Compare: finds where two embeddings differ."""
