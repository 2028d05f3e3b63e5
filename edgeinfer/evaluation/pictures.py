"""A pipeline over pictures: every answer of the right kind, every error with the picture's name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from numpy.typing import NDArray

from edgeinfer.dataset import sample_name
from edgeinfer.errors import InputError, WrongTaskError
from edgeinfer.pipeline import Pipeline
from edgeinfer.progress import Progress, ProgressReport

Result = TypeVar("Result")


def each(
    pipeline: Pipeline[Any],
    sources: Sequence[Any] | NDArray[Any],
    kind: type[Result],
    *,
    name: str,
    step: str = "evaluate",
    progress: ProgressReport | None = None,
) -> Iterator[Result]:
    """Yield the answer to each picture, in their order.

    Args:
        pipeline: Answers with `kind`.
        sources: What it takes, one a picture.
        kind: The result's class, e.g. `Detections`.
        name: Of the data.
        step: What the progress is called.
        progress: Called after each.

    Raises:
        InputError: A picture that cannot be read; the message names it.
        WrongTaskError: An answer of another kind.
    """
    for number in range(len(sources)):
        source = sources[number]
        try:
            found = pipeline(source)
        except InputError as error:
            raise error.named(f"`{sample_name(source, number)}` of {name}") from error
        if not isinstance(found, kind):
            raise WrongTaskError(
                f"The model does another task than `{name}` is for.",
                received=f"answers of the kind `{type(found).__name__}`",
                expected=f"`{kind.__name__}`",
            )
        yield found
        if progress:
            progress(Progress(step, number + 1, len(sources)))
