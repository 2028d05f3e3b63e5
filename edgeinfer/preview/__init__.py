"""A page for a device without a screen."""
