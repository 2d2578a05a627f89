"""Train AttParseNet on shards. Reads dataset.json and the shards; imports nothing from the pipeline.

Images are (batch, 3, 218, 178), RGB, -1 to 1. Masks and maps are (batch, attributes, 96, 76). Labels are
(batch, attributes) int8: 1 yes, 0 no, -1 unknown. Attributes keep the order of dataset.json.
"""
