"""The compare service: finds where two embeddings differ."""
