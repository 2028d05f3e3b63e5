"""Pruning: what matters least in a model, how much of it a budget takes, and the model without it."""
