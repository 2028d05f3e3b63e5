"""The one error tree of both packages.

Every class is also the builtin that it resembles, so `except ValueError` works for those who do not know us::

    EdgeInferError(Exception)
    ├─ ModelError(ValueError)
    │  ├─ DamagedModelError          exit 4  not a TFLite model, damaged, or unsafe to load
    │  ├─ UnsupportedOpError         exit 5  an op, or a version of it, that the engine or target cannot run
    │  ├─ WrongTaskError             exit 2  the file does something else than was asked
    │  └─ MetadataError              exit 2  the file does not say what is needed, or contradicts itself
    ├─ InputError(ValueError)        exit 2  image, tensor or data of wrong shape, dtype or range
    │  └─ InputFileError(FileNotFoundError)   a file that is not there or cannot be read
    ├─ DeviceError(RuntimeError)     exit 3  engine or device fails or is not attached
    ├─ MissingDependencyError(ImportError)    exit 3  a package is not installed
    ├─ OutputError(OSError)          exit 3  a result cannot be written
    ├─ DownloadError(OSError)        exit 3  a public file cannot be fetched
    └─ converters.ConversionError(ValueError) exit 3
       ├─ RecipeError                exit 2
       ├─ CalibrationError           exit 2
       ├─ TrainingError              exit 3
       └─ AccuracyDropError          exit 1
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path


class EdgeInferError(Exception):
    """Say what is wrong, what was received, what is expected and what to do next.

    Args:
        message: What is wrong, one sentence.
        received: The value that was received.
        expected: The values that are allowed.
        next_step: What the reader should do or type.

    The parts stay apart as attributes, so that a program can read them; `str(error)` joins them.
    """

    exit_code = 3

    def __init__(self, message: str, *, received: str = "", expected: str = "", next_step: str = "") -> None:
        self.message = message
        self.received = received
        self.expected = expected
        self.next_step = next_step
        super().__init__(message)

    def __str__(self) -> str:
        """Return the message with its parts, one a line."""
        lines = [self.message]
        if self.received:
            lines.append(f"  Received: {self.received}")
        if self.expected:
            lines.append(f"  Expected: {self.expected}")
        if self.next_step:
            lines.append(f"  Next: {self.next_step}")
        return "\n".join(lines)

    def named(self, what: str) -> EdgeInferError:
        """Return the same error with what it is about in front of its message, e.g. which sample of a data set."""
        return _rebuild(type(self), f"{what}: {self.message}", self.received, self.expected, self.next_step)

    def to_json(self) -> dict[str, str]:
        """Return the error's kind and parts, as `--json` prints them."""
        return {
            "type": type(self).__name__,
            "message": self.message,
            "received": self.received,
            "expected": self.expected,
            "next": self.next_step,
        }

    def __reduce__(self) -> tuple[object, ...]:
        """Keep the keyword parts when the error crosses a process border."""
        return _rebuild, (type(self), self.message, self.received, self.expected, self.next_step)


def _rebuild(kind: type[EdgeInferError], message: str, received: str, expected: str, next_step: str) -> EdgeInferError:
    return kind(message, received=received, expected=expected, next_step=next_step)


class ModelError(EdgeInferError, ValueError):
    """Something is wrong with the model file."""

    exit_code = 2


class DamagedModelError(ModelError):
    """The file is not a TFLite model, is damaged, or would be unsafe to load."""

    exit_code = 4


class UnsupportedOpError(ModelError):
    """The model has an op, or a version of an op, that the engine or target cannot run."""

    exit_code = 5


class WrongTaskError(ModelError):
    """The model does something else than was asked of it."""


class MetadataError(ModelError):
    """The file does not say what is needed, or contradicts itself."""


class InputError(EdgeInferError, ValueError):
    """An image, a tensor or a data set has a wrong shape, dtype or range."""

    exit_code = 2


class InputFileError(InputError, FileNotFoundError):
    """A file is not there or cannot be read."""


class DeviceError(EdgeInferError, RuntimeError):
    """The engine or the device fails, or is not attached."""

    exit_code = 3


class MissingDependencyError(EdgeInferError, ImportError):
    """A package is missing; the message holds the line to type."""

    exit_code = 3


class OutputError(EdgeInferError, OSError):
    """A result cannot be written: the disk is full, or the place does not take it."""

    exit_code = 3


class DownloadError(EdgeInferError, OSError):
    """A public file cannot be fetched: no network, a proxy in the way, or the server refuses."""

    exit_code = 3


@contextmanager
def naming(path: Path | None) -> Iterator[None]:
    """Put a model file's name in front of what is wrong with it, where the code inside knows bytes only.

    Args:
        path: The file; None (a model that came as bytes) leaves errors as they are.
    """
    try:
        yield
    except ModelError as error:
        if path is None or f"`{path.name}`" in error.message:
            raise
        raise error.named(f"`{path.name}`") from error


def close_name(name: str, names: Iterable[str]) -> str:
    """Return a question that names what was probably meant, or "".

    Example:
        >>> close_name("litret", ["litert", "tflite-runtime"])
        'Did you mean `litert`?'
    """
    from difflib import get_close_matches  # only a mistake needs it

    close = get_close_matches(name.casefold(), list(names), n=1)
    return f"Did you mean `{close[0]}`?" if close else ""
