"""API tokens: what they are, the files that hold their hashes, and the command that makes them."""
