"""The Beam pipeline: a face-attribute data set in, verified WebDataset shards out."""
