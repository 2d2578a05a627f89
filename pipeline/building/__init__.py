"""The run: plan, graph, shards."""
