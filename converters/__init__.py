"""Turn a trained Keras model into a quantized, checked and labelled TFLite file."""

from converters.card import Card, Training
from converters.conversion import Conversion
from converters.convert import convert
from converters.errors import AccuracyDropError, CalibrationError, ConversionError, RecipeError, TrainingError
from converters.metadata import annotate
from converters.recipe import Distill, FineTune, Fit, Prune, Quantize, Recipe, Verify
from converters.report import Report

__all__ = [
    "AccuracyDropError",
    "CalibrationError",
    "Card",
    "Conversion",
    "ConversionError",
    "Distill",
    "FineTune",
    "Fit",
    "Prune",
    "Quantize",
    "Recipe",
    "RecipeError",
    "Report",
    "Training",
    "TrainingError",
    "Verify",
    "annotate",
    "convert",
]
