"""The model's layers as a graph: what stands where, and what can be taken off."""
