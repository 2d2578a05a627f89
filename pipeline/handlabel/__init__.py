"""Annotation by hand with labelme."""
