"""Training AttParseNet from shards; reads dataset.json and the shards, imports nothing of the pipeline."""
