"""Capture, inference and output at the same time: the latest frame wins."""
