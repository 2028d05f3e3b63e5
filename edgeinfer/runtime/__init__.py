"""Arrays in, arrays out: engines, and the one class that runs a model."""
