"""Training: batches of examples, and the one loop that every training step of a recipe runs in."""
