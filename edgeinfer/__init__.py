"""Run a TFLite model on a small device: pixels in, answers out. No TensorFlow."""

__version__ = "0.1.0"
