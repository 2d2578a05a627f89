"""Training AttParseNet on shards: reads dataset.json and the shards, imports nothing of the pipeline.

Images are (batch, 3, 218, 178), RGB, -1 to 1; masks and maps (batch, attributes, 96, 76); labels (batch, attributes)
int8: 1 yes, 0 no, -1 unknown. Attributes are in the order of dataset.json.
"""
