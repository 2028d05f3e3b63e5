"""What can go wrong in a conversion: the branch of the error tree that only a workstation needs."""

from __future__ import annotations

from edgeinfer.errors import EdgeInferError

__all__ = ["AccuracyDropError", "CalibrationError", "ConversionError", "RecipeError", "TrainingError"]


class ConversionError(EdgeInferError, ValueError):
    """The model could not be loaded or converted."""

    exit_code = 3


class RecipeError(ConversionError):
    """Steps stand in an impossible order, or the target cannot run what a step makes."""

    exit_code = 2


class CalibrationError(ConversionError):
    """The calibration data cannot be right: too few samples, a wrong range, constant, or not finite."""

    exit_code = 2


class TrainingError(ConversionError):
    """A training step cannot go on: its loss is no number any more, or the data does not fit the model."""

    exit_code = 3


class AccuracyDropError(ConversionError):
    """The converted model lost more than the recipe allows.

    Attributes:
        report: The `Report` with what was measured.
        conversion: The `Conversion` that failed the gate, so that hours of work are not lost.
    """

    exit_code = 1
    report: object = None
    conversion: object = None
