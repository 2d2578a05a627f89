"""What a run leaves: writer and reader of each format side by side."""
