"""What a model file says, read without an interpreter."""
