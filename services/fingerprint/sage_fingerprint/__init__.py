"""Fingerprints: what a film shows and sounds like, frame by frame, small enough to keep and exact enough to compare."""
