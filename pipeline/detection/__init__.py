"""From an image to 68 landmarks."""
