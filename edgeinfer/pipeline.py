"""`Pipeline`: preprocessing, model and post-processing as one call; and the constructors that make one from a file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter_ns
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from edgeinfer.errors import InputError, MetadataError, WrongTaskError
from edgeinfer.model.metadata import InputSpec, Normalization, OutputSpec, Resize
from edgeinfer.postprocess.classify import check_labels, classify
from edgeinfer.preprocess.geometry import View
from edgeinfer.preprocess.image import Image, read_image
from edgeinfer.preprocess.tensor import Preprocessor
from edgeinfer.results import Classifications
from edgeinfer.runtime.own_input import takes_whole_numbers
from edgeinfer.runtime.runtime import Runtime, Tensors
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

    def __call__(self, source: str | Path | bytes | NDArray[Any]) -> Result:
        """Answer for one picture, or one array of the model's own input.

        Args:
            source: A path or an encoded picture's bytes; a uint8 array (height, width, 3) RGB or (height, width) grey;
                or a float array of the model's input shape (whole numbers for a model of tokens), with or without the
                batch: the model's own input as it was trained, which no preprocessing touches.

        Raises:
            InputFileError: There is no such file.
            InputError: It is no picture, or an array of the wrong shape, dtype or range.
        """
        runtime = self.runtime
        start = perf_counter_ns()
        if isinstance(source, np.ndarray) and source.dtype.kind in self._own_kinds:
            read = perf_counter_ns()
            runtime.set_input(source)
            view = _whole(self._spec)
        else:
            image = read_image(source)
            read = perf_counter_ns()
            view = self._place(image)
        pre = perf_counter_ns()
        runtime.invoke()
        invoke = perf_counter_ns()
        result = self._post(runtime.tensors, view)
        self._stopwatch.add((start, read, pre, invoke, perf_counter_ns()))
        return result

    def _place(self, image: Image) -> View:
        try:
            return self._pre(image, self.runtime.input_view())
        except Exception as error:
            # The traceback holds the input view in its frames, and an error that somebody keeps would block the
            # interpreter for as long: "there is at least 1 reference to internal data".
            from traceback import clear_frames

            clear_frames(error.__traceback__)
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


def classifier(
    model: str | Path | bytes | Runtime,
    *,
    labels: Sequence[str] | None = None,
    normalization: tuple[float, float] | None = None,
    resize: Resize | None = None,
    top_k: int = 5,
    device: str | None = None,
    threads: int | None = None,
) -> Pipeline[Classifications]:
    """Return a pipeline that names what is in a picture.

    Args:
        model: Path or bytes of a `.tflite` file, or a `Runtime` that holds one (its engine is then its own).
        labels: Names of the classes; None takes the file's.
        normalization: (mean, std) in pixel units; None takes the file's.
        resize: How a picture becomes the model's size; None takes the file's, else stretch with "bilinear".
        top_k: How many classes an answer has.
        device: As in `Runtime`.
        threads: As in `Runtime`.

    Raises:
        WrongTaskError: The file is no classification model.
        MetadataError: The file does not say how to normalize, or the labels do not fit the output.
        ModelError: The file cannot be loaded (see `Runtime`).

    Example:
        classify = classifier("birds.tflite")
        print(classify("parrot.jpg").label)
    """
    runtime = model if isinstance(model, Runtime) else Runtime(model, device=device, threads=threads)
    spec = _class_output(runtime)
    if labels is not None:
        spec = replace(spec, labels=tuple(labels))
    check_labels(spec)
    if top_k < 1:
        raise InputError("`top_k` counts classes.", received=str(top_k), expected="1 or more")
    pre = _pictures(runtime.input, resize, Normalization(*normalization) if normalization else None)

    def post(outputs: Tensors, view: View) -> Classifications:  # noqa: ARG001 - classes have no place in the picture
        return classify(outputs.raw(), spec, top_k=top_k)

    return Pipeline(runtime, pre=pre, post=post)


def load(
    model: str | Path | bytes | Runtime, *, device: str | None = None, threads: int | None = None
) -> Pipeline[Any]:
    """Return the pipeline that fits what the file says it does.

    Args:
        model: Path or bytes of a `.tflite` file, or a `Runtime`.
        device: As in `Runtime`.
        threads: As in `Runtime`.

    Raises:
        WrongTaskError: The file does not say what it does; use `Pipeline` with a post-processing of your own.
        ModelError: As in `classifier`.
    """
    runtime = model if isinstance(model, Runtime) else Runtime(model, device=device, threads=threads)
    if runtime.metadata.task != "classification":
        raise WrongTaskError(
            f"`{_name(runtime)}` does not say what it does.",
            received=f'task "{runtime.metadata.task}"',
            expected='task "classification"',
            next_step="Use `classifier(...)` where its output is a row of classes, or `Pipeline` with a "
            "post-processing of your own; or write the task into the file with `edgeinfer-convert annotate`.",
        )
    return classifier(runtime)


def _pictures(spec: InputSpec, resize: Resize | None, normalization: Normalization | None) -> Preprocess:
    """Return what puts pictures into the input; a model of features gets one that refuses them."""
    if spec.is_image:
        return Preprocessor(spec, resize=resize, normalization=normalization)
    if resize is not None or normalization is not None:
        raise MetadataError(
            f"Input `{spec.name}` is not a picture, so there is nothing to resize or to normalize.",
            received=f"shape {spec.shape}",
            expected="neither `resize` nor `normalization`",
        )

    def refuse(image: Image, _tensor: NDArray[Any]) -> View:
        raise InputError(
            f"This model takes no pictures: input `{spec.name}` is the model's own.",
            received=f"a picture, shape {image.shape}",
            expected=f"float32 of shape {spec.shape}",
        )

    return refuse


def _class_output(runtime: Runtime) -> OutputSpec:
    outputs = runtime.outputs
    # The task is not asked: a file without metadata says "tensors", and the caller has said what it is.
    if len(runtime.inputs) == 1 and len(outputs) == 1 and all(size == 1 for size in outputs[0].shape[:-1]):
        return outputs[0]
    raise WrongTaskError(
        f"`{_name(runtime)}` is no classification model.",
        received=", ".join(
            [f"input `{one.name}` {one.shape}" for one in runtime.inputs]
            + [f"output `{spec.name}` {spec.shape}" for spec in outputs]
        ),
        expected="one input and one output of shape (1, classes)",
        next_step="Use `Pipeline(Runtime(...), pre=..., post=...)` with a post-processing of your own.",
    )


def _called(step: Callable[..., Any]) -> str:
    """Return a function's name, that of the function which made it, or an object's class."""
    name: str = getattr(step, "__qualname__", type(step).__qualname__)
    return name.split(".<locals>")[0]


def _name(runtime: Runtime) -> str:
    return runtime.path.name if runtime.path else "the model"


def _whole(spec: InputSpec) -> View:
    size = spec.size if spec.is_image else (1, 1)
    return View(image_size=size, tensor_size=size, scale=(1.0, 1.0), offset=(0.0, 0.0))
