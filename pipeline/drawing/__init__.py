"""Overlays and contact sheets."""
