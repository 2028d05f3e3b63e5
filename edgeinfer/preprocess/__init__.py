"""Pixels into the model's input tensor, the same on every machine."""
