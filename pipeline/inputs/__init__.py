"""What the user hands in: label files, splits, boxes, points, landmarks."""
