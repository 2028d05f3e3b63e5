"""Output tensors to results, on the stored integers."""
