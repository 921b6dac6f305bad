"""Videos: stored files and their media."""
