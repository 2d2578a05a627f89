"""Overlays over face crops, contact sheets of them, and the samples to draw."""
