"""Releases without images, and joining them with one's own images."""
