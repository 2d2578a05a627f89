"""From an image to the 68 landmarks of a face."""
