"""What is done with features: found again in an index, or made into new classes, and kept on disk."""
