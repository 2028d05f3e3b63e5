"""Public models by name: which there are, and how one comes into the cache."""
