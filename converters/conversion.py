"""What comes out of a conversion: the file, what it says of itself, and what it cost."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from converters.recipe import Recipe
from converters.report import Report
from edgeinfer.files import write_whole
from edgeinfer.model.metadata import ModelMetadata


@dataclass(frozen=True, slots=True)
class Conversion:
    """The result.

    Attributes:
        tflite: The file's bytes, metadata included.
        metadata: What the file says of itself.
        recipe: What made it.
        report: What it cost.
    """

    tflite: bytes
    metadata: ModelMetadata
    recipe: Recipe
    report: Report

    def save(self, path: str | Path) -> None:
        """Write the file, whole or not at all.

        Raises:
            OutputError: It cannot be written; what stood there before is untouched.
        """
        write_whole(path, self.tflite)

    def __repr__(self) -> str:
        return f"Conversion({self.metadata.name}, {len(self.tflite)} bytes, {self.report.scheme})"
