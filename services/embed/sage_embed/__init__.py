"""Embed: turns videos into vectors and looks after the work."""
