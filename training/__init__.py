"""Training AttParseNet from shards; reads dataset.json and the shards, imports nothing of the pipeline.

Images are (batch, 3, 218, 178), RGB, -1 to 1; masks and maps (batch, attributes, 96, 76); labels
(batch, attributes), 0 or 1. Attributes are in the order of dataset.json.
"""
