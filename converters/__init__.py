"""Turn a trained Keras model into a quantized, checked and labelled TFLite file."""

from converters.card import Card, Training
from converters.convert import Conversion, convert
from converters.errors import AccuracyDropError, CalibrationError, ConversionError, RecipeError
from converters.metadata import annotate
from converters.recipe import Quantize, Recipe, Verify
from converters.report import Report

__all__ = [
    "AccuracyDropError",
    "CalibrationError",
    "Card",
    "Conversion",
    "ConversionError",
    "Quantize",
    "Recipe",
    "RecipeError",
    "Report",
    "Training",
    "Verify",
    "annotate",
    "convert",
]
