"""Embed: turns videos into vectors and manages the work."""
