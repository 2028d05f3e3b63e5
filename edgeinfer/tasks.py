"""The constructors: from a model file to the `Pipeline` that does its task.

Each loads the file, asks it what it does, and puts the preprocessing in front and the task's post-processing behind.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeinfer.errors import InputError, MetadataError, WrongTaskError
from edgeinfer.model.metadata import InputSpec, Normalization, Resize, Task
from edgeinfer.pipeline import Pipeline, Preprocess
from edgeinfer.preprocess.geometry import View
from edgeinfer.preprocess.image import Image
from edgeinfer.preprocess.tensor import Preprocessor
from edgeinfer.runtime.runtime import Runtime

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgeinfer.postprocess.detect import DetectionOptions
    from edgeinfer.results import Classifications, Detections, Embedding, Keypoints, Mask

# Each task's constructor imports its post-processing itself: a script pays for the task that it uses.
CONSTRUCTORS: dict[Task, str] = {
    "classification": "classifier",
    "detection": "detector",
    "segmentation": "segmenter",
    "pose": "poser",
    "embedding": "embedder",
}


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
        model: Path or bytes of a `.tflite` file, or a `Runtime` that holds one (its engine is then its own): for an
            Edge TPU with a CPU twin that takes over, `Runtime("m_edgetpu.tflite", device="edgetpu",
            fallback="m.tflite")`.
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
    from edgeinfer.postprocess.classify import classification_post, ranked_outputs

    with _opened(model, "classification", device, threads) as runtime:
        if ranked_outputs(runtime.metadata) is None:
            _check_class_output(runtime)
        post = classification_post(runtime.metadata, labels=labels, top_k=top_k)
        return Pipeline(runtime, pre=_pictures(runtime.input, resize, normalization), post=post)


def detector(
    model: str | Path | bytes | Runtime,
    *,
    labels: Sequence[str] | None = None,
    normalization: tuple[float, float] | None = None,
    resize: Resize | None = None,
    options: DetectionOptions | None = None,
    device: str | None = None,
    threads: int | None = None,
) -> Pipeline[Detections]:
    """Return a pipeline that finds objects: boxes in pixels of the picture, with class and confidence.

    Args:
        model: As in `classifier`: SSD and EfficientDet-Lite with their post-processing in the graph, YOLO heads,
            boxes coded against anchors, heat maps of centres; see `edgeinfer.model.heads.DetectionHead`.
        labels: Names of the classes; None takes the file's.
        normalization: (mean, std) in pixel units; None takes the file's.
        resize: None takes the file's, else stretch with "bilinear".
        options: Thresholds, suppression of overlapping boxes, and the head where the file does not show it; None is
            `DetectionOptions()`.
        device: As in `Runtime`.
        threads: As in `Runtime`.

    Raises:
        WrongTaskError: The file does something else, or its outputs are no known head.
        MetadataError: The file does not say how to normalize or how its boxes are meant, or the labels do not fit.
        ModelError: The file cannot be loaded (see `Runtime`).

    Example:
        detect = detector("ssd.tflite", labels=read_labels("coco.txt"))
        for found in detect("street.jpg"):
            print(found.label, found.confidence, found.xyxy)
    """
    from edgeinfer.postprocess.detect import detection_post

    with _opened(model, "detection", device, threads) as runtime:
        post = detection_post(runtime.metadata, labels=labels, options=options)
        return Pipeline(runtime, pre=_pictures(runtime.input, resize, normalization), post=post)


def segmenter(
    model: str | Path | bytes | Runtime,
    *,
    labels: Sequence[str] | None = None,
    normalization: tuple[float, float] | None = None,
    resize: Resize | None = None,
    device: str | None = None,
    threads: int | None = None,
) -> Pipeline[Mask]:
    """Return a pipeline that says of each pixel of the picture what it belongs to.

    Args:
        model: As in `classifier`; its output is a map of class scores, or of classes (argmax in the graph).
        labels: Names of the classes; None takes the file's.
        normalization: (mean, std) in pixel units; None takes the file's.
        resize: None takes the file's, else stretch with "bilinear".
        device: As in `Runtime`.
        threads: As in `Runtime`.

    Raises:
        WrongTaskError: The file does something else, or its output is no map.
        MetadataError: The file does not say how to normalize, or the labels do not fit.
        ModelError: The file cannot be loaded (see `Runtime`).

    Example:
        segment = segmenter("deeplab.tflite")
        print(segment("bird.jpg").shares())
    """
    from edgeinfer.postprocess.segment import segmentation_post

    with _opened(model, "segmentation", device, threads) as runtime:
        post = segmentation_post(runtime.metadata, labels=labels)
        return Pipeline(runtime, pre=_pictures(runtime.input, resize, normalization), post=post)


def poser(
    model: str | Path | bytes | Runtime,
    *,
    names: Sequence[str] | None = None,
    normalization: tuple[float, float] | None = None,
    resize: Resize | None = None,
    device: str | None = None,
    threads: int | None = None,
) -> Pipeline[Keypoints]:
    """Return a pipeline that finds the key points of bodies, in pixels of the picture.

    Args:
        model: As in `classifier`; MoveNet's answer, or heat maps with offsets (PoseNet).
        names: Of the points; None takes the file's, else COCO's for 17 points.
        normalization: (mean, std) in pixel units; None takes the file's.
        resize: None takes the file's, else stretch with "bilinear".
        device: As in `Runtime`.
        threads: As in `Runtime`.

    Raises:
        WrongTaskError: The file does something else, or its outputs are no key points.
        MetadataError: The file does not say how to normalize, or the names do not fit.
        ModelError: The file cannot be loaded (see `Runtime`).

    Example:
        pose = poser("movenet.tflite")
        print(pose("squat.jpg").xy)
    """
    from edgeinfer.postprocess.pose import pose_post

    with _opened(model, "pose", device, threads) as runtime:
        post = pose_post(runtime.metadata, names=names)
        return Pipeline(runtime, pre=_pictures(runtime.input, resize, normalization), post=post)


def embedder(
    model: str | Path | bytes | Runtime,
    *,
    normalization: tuple[float, float] | None = None,
    resize: Resize | None = None,
    device: str | None = None,
    threads: int | None = None,
) -> Pipeline[Embedding]:
    """Return a pipeline that gives a picture's features, to be compared with those of others.

    Args:
        model: As in `classifier`; its only output is one row of features. A classification model does too: its class
            scores are features, poorer ones.
        normalization: (mean, std) in pixel units; None takes the file's.
        resize: None takes the file's, else stretch with "bilinear".
        device: As in `Runtime`.
        threads: As in `Runtime`.

    Raises:
        WrongTaskError: The file does something else, or its output is no row.
        MetadataError: The file does not say how to normalize.
        ModelError: The file cannot be loaded (see `Runtime`).

    Example:
        embed = embedder("features.tflite")
        print(embed("one.jpg").similarity(embed("other.jpg")))
    """
    from edgeinfer.postprocess.embed import embedding_post

    with _opened(model, "embedding", device, threads) as runtime:
        post = embedding_post(runtime.metadata)
        return Pipeline(runtime, pre=_pictures(runtime.input, resize, normalization), post=post)


def load(
    model: str | Path | bytes | Runtime,
    *,
    device: str | None = None,
    threads: int | None = None,
    fallback: str | Path | bytes | None = None,
) -> Pipeline[Any]:
    """Return the pipeline that fits what the file says it does.

    Args:
        model: Path or bytes of a `.tflite` file, or a `Runtime`.
        device: As in `Runtime`.
        threads: As in `Runtime`.
        fallback: As in `Runtime`, which has its own where one is handed over.

    Raises:
        WrongTaskError: The file does not say what it does; use the task's constructor, or `Pipeline` with a
            post-processing of your own.
        ModelError: As in `classifier`.
    """
    with _runtime(model, device, threads, fallback) as runtime:
        task = runtime.metadata.task
        if task not in CONSTRUCTORS:
            raise WrongTaskError(
                f"`{_name(runtime)}` does not say what it does.",
                received=f'task "{task}"; {_outputs(runtime)}',
                expected=f"a task: {', '.join(CONSTRUCTORS)}",
                next_step="Use the constructor of its task "
                f"({', '.join(f'`{one}`' for one in CONSTRUCTORS.values())}), or `Pipeline` with a "
                "post-processing of your own; or write the task into the file with `edgeinfer-convert annotate`.",
            )
        pipeline: Pipeline[Any] = globals()[CONSTRUCTORS[task]](runtime)
        return pipeline


@contextmanager
def _runtime(
    model: str | Path | bytes | Runtime, device: str | None, threads: int | None, fallback: str | Path | bytes | None
) -> Iterator[Runtime]:
    """Load the model; one that was loaded here is closed where what follows fails.

    An error that somebody keeps holds on to the calls that it came through, and so to the device.
    """
    if isinstance(model, Runtime):
        yield model
        return
    runtime = Runtime(model, device=device, threads=threads, fallback=fallback)
    try:
        yield runtime
    except BaseException:
        runtime.close()
        raise


@contextmanager
def _opened(
    model: str | Path | bytes | Runtime, task: Task, device: str | None, threads: int | None
) -> Iterator[Runtime]:
    """Load the model, and refuse one that says it does something else; as `_runtime` where what follows fails."""
    with _runtime(model, device, threads, None) as runtime:
        _check_task(runtime, task)
        yield runtime


def _check_task(runtime: Runtime, task: Task) -> None:
    said = runtime.metadata.task
    # "tensors" says nothing, and a row of class scores is a row of features, too.
    if said in (task, "tensors") or (task, said) == ("embedding", "classification"):
        return
    raise WrongTaskError(
        f"`{_name(runtime)}` says {said}: use `{CONSTRUCTORS[said]}`.",
        received=f"`{CONSTRUCTORS[task]}` for a {said} model; {_outputs(runtime)}",
        expected=f"a {task} model",
        next_step=f"`{CONSTRUCTORS[said]}(...)`, or `load(...)`, which chooses by what the file says. If the file is "
        f"wrong: `edgeinfer-convert annotate m.tflite --task {task}`.",
    )


def _pictures(spec: InputSpec, resize: Resize | None, normalization: tuple[float, float] | None) -> Preprocess:
    """Return what puts pictures into the input; a model of features gets one that refuses them."""
    if spec.is_image:
        pair = None if normalization is None else Normalization(*normalization)
        return Preprocessor(spec, resize=resize, normalization=pair)
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


def _check_class_output(runtime: Runtime) -> None:
    outputs = runtime.outputs
    # The task is not asked: a file without metadata says "tensors", and the caller has said what it is.
    if len(runtime.inputs) == 1 and len(outputs) == 1 and all(size == 1 for size in outputs[0].shape[:-1]):
        return
    inputs = ", ".join(f"input `{one.name}` {one.shape}" for one in runtime.inputs)
    raise WrongTaskError(
        f"`{_name(runtime)}` is no classification model.",
        received=f"{inputs}, {_outputs(runtime)}",
        expected="one input and one output of shape (1, classes)",
        next_step="Use `Pipeline(Runtime(...), pre=..., post=...)` with a post-processing of your own.",
    )


def _outputs(runtime: Runtime) -> str:
    return ", ".join(f"output `{spec.name}` {spec.shape} {spec.dtype}" for spec in runtime.outputs)


def _name(runtime: Runtime) -> str:
    return runtime.path.name if runtime.path else "the model"
