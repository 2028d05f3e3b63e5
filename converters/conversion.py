"""What comes out of a conversion: the file, what it says of itself, and what it cost."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from converters.edgetpu.compiler import COMPILED_SUFFIX
from converters.recipe import Recipe
from converters.report import Report
from edgeinfer.errors import InputError
from edgeinfer.files import write_together, write_whole
from edgeinfer.model.metadata import ModelMetadata

if TYPE_CHECKING:
    from converters.edgetpu.compiler import Compilation

__all__ = ["Conversion", "check_name"]


@dataclass(frozen=True, slots=True)
class Conversion:
    """The result.

    Attributes:
        tflite: The file's bytes, metadata included. For an Edge TPU it is what the compiler takes, and what runs where
            there is no chip.
        metadata: What the file says of itself.
        recipe: What made it.
        report: What it cost.
        compiled: The same model compiled for an Edge TPU, where the compiler is installed; else None.
    """

    tflite: bytes
    metadata: ModelMetadata
    recipe: Recipe
    report: Report
    compiled: Compilation | None = field(default=None, repr=False)

    def save(self, path: str | Path) -> tuple[Path, ...]:
        """Write the file, whole or not at all, and the compiled one beside it where there is one: all or none.

        A compiled file of that name from an earlier conversion stays where nothing was compiled now; it is another
        model, and a warning in the log says so.

        Returns:
            What was written: `NAME.tflite`, and where it was compiled `NAME_edgetpu.tflite` with the compiler's log and
            a JSON file that holds log and prediction.

        Raises:
            InputError: The name says that the file is compiled.
            OutputError: It cannot be written; what stood there before is untouched.
        """
        place = Path(path)
        check_name(place)
        beside = place.with_name(f"{place.stem}{COMPILED_SUFFIX}{place.suffix}")
        if self.compiled is None:
            write_whole(place, self.tflite)
            if beside.exists():
                import logging

                logging.getLogger(__name__).warning(
                    "`%s` is of an earlier conversion, and no twin of `%s`: compile it again, or remove it.",
                    beside.name,
                    place.name,
                )
            return (place,)
        files = {place: self.tflite, **self.compiled.files(beside)}
        write_together(files)
        return tuple(files)

    def __repr__(self) -> str:
        return f"Conversion({self.metadata.name}, {len(self.tflite)} bytes, {self.report.scheme})"


def check_name(path: Path) -> None:
    """Refuse a name that says of a file that was not compiled that it was.

    Raises:
        InputError: It ends with `_edgetpu`.
    """
    if path.stem.endswith(COMPILED_SUFFIX):
        plain = path.with_name(f"{path.stem.removesuffix(COMPILED_SUFFIX) or 'model'}{path.suffix}")
        raise InputError(
            f"The ending `{COMPILED_SUFFIX}` is for files that the Edge TPU compiler has written.",
            received=f"`{path.name}`",
            expected=f"e.g. `{plain.name}`: with `--target edgetpu` the compiled file then stands beside it, where the "
            "compiler is installed",
            next_step=f"-o {plain}",
        )
