"""How well a model does each task but classification: a pipeline over annotated pictures, and the task's metric."""
