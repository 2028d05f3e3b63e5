"""`Pipeline`: preprocessing, model and post-processing as one call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter_ns
from typing import Any, Generic, TypeGuard, TypeVar

import numpy as np
from numpy.typing import NDArray

from edgeinfer.errors import InputError
from edgeinfer.model.metadata import InputSpec
from edgeinfer.preprocess.geometry import Box, View, cut
from edgeinfer.preprocess.image import Image, read_image
from edgeinfer.runtime.own_input import stored_input, takes_whole_numbers
from edgeinfer.runtime.runtime import Row, Runtime, Tensors
from edgeinfer.timing import Stopwatch, Timing

Result = TypeVar("Result")
Preprocess = Callable[[Image, NDArray[Any]], View]
Postprocess = Callable[[Tensors, View], Result]


class Pipeline(Generic[Result]):
    """A model with what stands before and behind it: a picture in, a result out.

    Args:
        runtime: The loaded model; it has one input.
        pre: Writes a picture into the input tensor and returns where it lies there, e.g. `letterbox(runtime.input)`.
        post: Makes a result of the output tensors and that place.

    Example:
        runtime = Runtime("depth.tflite")
        measure = Pipeline(runtime, pre=letterbox(runtime.input), post=lambda outputs, view: outputs["depth"].min())
        print(measure("hall.jpg"), measure.timing)
    """

    def __init__(self, runtime: Runtime, *, pre: Preprocess, post: Postprocess[Result]) -> None:
        self.runtime = runtime
        self._spec: InputSpec = runtime.input
        # What a picture never is: floats, or for a model of tokens whole numbers.
        self._own_kinds = "fiu" if takes_whole_numbers(self._spec) else "f"
        self._pre = pre
        self._post = post
        self._stopwatch = Stopwatch()

    def __call__(self, source: str | Path | bytes | NDArray[Any], *, region: Box | None = None) -> Result:
        """Answer for one picture, or one array of the model's own input.

        Args:
            source: A path or an encoded picture's bytes; a uint8 array (height, width, 3) RGB or (height, width) grey;
                or a float array of the model's input shape (whole numbers for a model of tokens), with or without the
                batch: the model's own input as it was trained, which no preprocessing touches.
            region: The part of the picture to look at: (left, top, right, bottom), pixels, the right and lower end
                excluded. What comes back is in pixels of the whole picture. None is the whole.

        Raises:
            InputFileError: There is no such file.
            InputError: It is no picture, or an array of the wrong shape, dtype or range; the region does not lie in the
                picture, or there is no picture for it to lie in.
        """
        runtime = self.runtime
        runtime.set_batch(1)
        start = perf_counter_ns()
        if self._is_own(source):
            read = perf_counter_ns()
            if region is not None:
                raise InputError("A region is a part of a picture.", received=f"the model's own input and {region}")
            runtime.set_input(source)
            view = _whole(self._spec)
        else:
            image = read_image(source)
            read = perf_counter_ns()
            if region is None:
                view = self._place(image)
            else:
                view = self._place(cut(image, region)).within((image.shape[1], image.shape[0]), region)
        pre = perf_counter_ns()
        runtime.invoke()
        invoke = perf_counter_ns()
        result = self._answer(view, runtime.tensors)
        self._stopwatch.add((start, read, pre, invoke, perf_counter_ns()))
        return result

    def batch(self, sources: Sequence[str | Path | bytes | NDArray[Any]]) -> list[Result]:
        """Answer for several pictures, in one run of the model where the file allows it.

        A file allows it where the first axis of its inputs and outputs is open (`runtime.metadata.open_batch`); files
        of this project's converter do not, because a fixed batch of 1 is what accelerators want, and are run once for
        each. The answers are the same either way.

        Args:
            sources: Each as in a call.

        Raises:
            As a call, and:
            DeviceError: The engine has no memory for that many.
        """
        runtime = self.runtime
        if len(sources) < 2 or not runtime.metadata.open_batch:
            return [self(source) for source in sources]
        start = perf_counter_ns()
        arrays: list[NDArray[Any]] = [one if self._is_own(one) else read_image(one) for one in sources]
        read = perf_counter_ns()
        runtime.set_batch(len(sources))
        views = [self._place_row(row, array) for row, array in enumerate(arrays)]
        pre = perf_counter_ns()
        runtime.invoke()
        invoke = perf_counter_ns()
        results = [self._answer(view, Row(runtime.tensors, row)) for row, view in enumerate(views)]
        end = perf_counter_ns()
        read, pre, invoke, end = ((mark - start) // len(sources) for mark in (read, pre, invoke, end))
        for _ in sources:  # each frame took its share
            self._stopwatch.add((0, read, pre, invoke, end))
        return results

    def _is_own(self, source: Any) -> TypeGuard[NDArray[Any]]:
        return isinstance(source, np.ndarray) and source.dtype.kind in self._own_kinds

    def _place_row(self, row: int, array: NDArray[Any]) -> View:
        """Write one sample of a batch; a function of its own, so that its views are gone when an error leaves it."""
        try:
            return self._fill(array, self.runtime.input_view()[row : row + 1])
        except Exception as error:
            _let_go(error)
            raise

    def _fill(self, array: NDArray[Any], tensor: NDArray[Any]) -> View:
        if not self._is_own(array):
            return self._pre(array, tensor)
        tensor[...] = stored_input(array, self._spec)
        return _whole(self._spec)

    def _place(self, image: Image) -> View:
        try:
            return self._pre(image, self.runtime.input_view())
        except Exception as error:
            _let_go(error)
            raise

    def _answer(self, view: View, outputs: Tensors) -> Result:
        try:
            return self._post(outputs, view)
        except Exception as error:
            _let_go(error)
            raise

    @property
    def timing(self) -> Timing:
        """Median and percentiles of the stages, over the latest 1000 frames."""
        return self._stopwatch.timing()

    def __repr__(self) -> str:
        """Return the model and what stands before and behind it."""
        return f"Pipeline({self.runtime!r}, pre={_called(self._pre)}, post={_called(self._post)})"

    def latest_ms(self) -> dict[str, float]:
        """Return the stages of the latest frame: "read", "pre", "invoke", "post", in milliseconds."""
        return self._stopwatch.latest_ms()


def _let_go(error: Exception) -> None:
    """Empty the frames of a traceback that hold a view of the interpreter's memory.

    An error that somebody keeps would block the interpreter for as long: "there is at least 1 reference to internal
    data".
    """
    from traceback import clear_frames

    clear_frames(error.__traceback__)


def _called(step: Callable[..., Any]) -> str:
    """Return a function's name, that of the function which made it, or an object's class."""
    name: str = getattr(step, "__qualname__", type(step).__qualname__)
    return name.split(".<locals>")[0]


def _whole(spec: InputSpec) -> View:
    size = spec.size if spec.is_image else (1, 1)
    return View(image_size=size, tensor_size=size, scale=(1.0, 1.0), offset=(0.0, 0.0))
