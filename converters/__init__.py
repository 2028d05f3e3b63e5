"""Turn a trained Keras model into a quantized, checked and labelled TFLite file."""

from converters.card import Card, Training
from converters.conversion import Conversion
from converters.convert import convert
from converters.errors import AccuracyDropError, CalibrationError, ConversionError, RecipeError, TrainingError
from converters.metadata import annotate
from converters.recipe import Distill, FineTune, Fit, Prune, Quantize, Recipe, Verify
from converters.report import Report
from converters.targets import Target
from edgeinfer.model.heads import AnchorGrid, DetectionHead

__all__ = [
    "AccuracyDropError",
    "AnchorGrid",
    "CalibrationError",
    "Card",
    "Conversion",
    "ConversionError",
    "DetectionHead",
    "Distill",
    "FineTune",
    "Fit",
    "Prune",
    "Quantize",
    "Recipe",
    "RecipeError",
    "Report",
    "Target",
    "Training",
    "TrainingError",
    "Verify",
    "annotate",
    "convert",
]
