"""Probing: reading the media of a video file in a confined process."""
