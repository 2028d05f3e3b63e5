"""What was found, drawn into the picture."""

from edgeinfer.drawing.drawing import draw

__all__ = ["draw"]
