"""From a command's options to a model's pipeline: which file, which engine, which task, which pictures it wants."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from edgeinfer.command import parse_head
from edgeinfer.errors import InputError
from edgeinfer.model.specs import Task

if TYPE_CHECKING:
    from edgeinfer.pipeline import Pipeline
    from edgeinfer.postprocess.detect import DetectionOptions
    from edgeinfer.runtime.runtime import Runtime


def model_options(parser: argparse.ArgumentParser) -> None:
    """Add where and how a model runs: `--device`, `--fallback`, `--threads`, `--engine`."""
    parser.add_argument(
        "--device",
        action="append",
        help='where the model runs: "cpu" (default), "edgetpu", "edgetpu:usb:0", ...; of several models all, or given '
        "once for each in their order",
    )
    parser.add_argument(
        "--fallback",
        type=Path,
        action="append",
        metavar="FILE",
        help="with an Edge TPU: the file that was compiled, which runs on the CPU where the device fails",
    )
    parser.add_argument("--threads", type=int, help="threads of the engine (default: all cores)")
    parser.add_argument("--engine", help="litert, tflite-runtime or tensorflow (default: the best installed)")


def task_options(parser: argparse.ArgumentParser) -> None:
    """Add what the model does, where its file does not say it: `--task`, `--confidence`, `--iou`, `--head`."""
    tasks = [task for task in get_args(Task) if task != "tensors"]
    parser.add_argument("--task", choices=tasks, help="what the model does (default: what the file says)")
    parser.add_argument(
        "--confidence", type=float, metavar="X", help="detection: boxes that are less sure are left out"
    )
    parser.add_argument("--iou", type=float, metavar="X", help="detection: boxes of a class that overlap more are one")
    parser.add_argument(
        "--head",
        metavar="JSON",
        help='detection: how the outputs become boxes, e.g. \'{"kind": "yolo", "unit": "share"}\'',
    )


def open_runtime(options: argparse.Namespace, model: Path, *, place: int = 0, of: int = 1) -> Runtime:
    """Load a model as `model_options` say.

    Args:
        options: Of the command line.
        model: The file.
        place: Which of several models it is, from 0: devices and fallbacks are in their order. A model whose own
            device is "cpu" has no fallback.
        of: How many models there are.

    Raises:
        InputError: There are more fallbacks than models, or several devices that are not one for each.
        EdgeInferError: As `Runtime`.
    """
    from edgeinfer.runtime.runtime import Runtime

    devices: list[str | None] = options.device or [None]
    models = f"{of} model{'s' * (of > 1)}"
    if len(devices) not in (1, of):
        raise InputError(
            "`--device` is given once for all models, or once for each in their order.",
            received=f"{len(devices)} for {models}",
            expected="1" if of == 1 else f"1 or {of}",
        )
    # Where each model has a device of its own, one on the CPU needs no twin, and none must be lost on it.
    asking = [at for at in range(of) if len(devices) == 1 or devices[at] != "cpu"]
    fallbacks: list[Path] = options.fallback or []
    if len(fallbacks) > len(asking):
        raise InputError(
            "There is a `--fallback` too many: each belongs to one model on an Edge TPU, in their order.",
            received=f"{len(fallbacks)} for {models}"
            + (f", {len(asking)} of them on an Edge TPU" if len(asking) < of else ""),
        )
    return Runtime(
        model,
        device=devices[place if len(devices) == of else 0],
        threads=options.threads,
        engine=options.engine,
        fallback=dict(zip(asking, fallbacks, strict=False)).get(place),
    )


def device_facts(runtime: Runtime) -> dict[str, object]:
    """Return where a model runs, and of an accelerator what went wrong there so far."""
    if runtime.device == "cpu":
        return {"device": "cpu"}
    return {"device": runtime.device, "faults": runtime.faults.to_json()}


def say_twin(runtime: Runtime, frames: int) -> str:
    """Return how many of so many frames the CPU twin has answered, one line; "" where it has answered none."""
    if not runtime.on_fallback:
        return ""
    count = runtime.faults.fallback_frames
    return f"answered by the CPU twin ({runtime.device} failed): {count} of {frames} frames"


def chosen_task(options: argparse.Namespace, runtime: Runtime) -> Task:
    """Return the task that was named, else the file's own, else classification."""
    task: Task = options.task or runtime.metadata.task
    # Most files that say nothing are classifiers, and one that is not says what its outputs are.
    return "classification" if task == "tensors" else task


def open_pipeline(options: argparse.Namespace, runtime: Runtime, *, top_k: int = 5) -> Pipeline[Any]:
    """Return the model's pipeline, with what `task_options` and `command.picture_options` say in place of the file.

    Args:
        options: Of the command line.
        runtime: The loaded model.
        top_k: How many classes an answer has.

    Raises:
        InputError: An option does not fit the task, or its value is out of range.
        EdgeInferError: As the task's constructor (`edgeinfer.tasks`).
    """
    from edgeinfer import tasks

    task = chosen_task(options, runtime)
    detection = detection_options(options, task)
    normalization = tuple(options.normalization) if options.normalization else None
    if normalization is not None:
        _say_override(normalization, runtime)
    resize = None
    if options.resize or options.filter:
        from edgeinfer.model.specs import Resize

        own = runtime.input.resize
        resize = Resize(options.resize or own.mode, options.filter or own.filter, own.pad)
    labels = None
    if options.labels:
        from edgeinfer.model.labels import read_labels

        labels = read_labels(options.labels)
    shared: dict[str, Any] = {"normalization": normalization, "resize": resize}
    if task == "classification":
        return tasks.classifier(runtime, labels=labels, top_k=top_k, **shared)
    if task == "detection":
        return tasks.detector(runtime, labels=labels, options=detection, **shared)
    if task == "segmentation":
        return tasks.segmenter(runtime, labels=labels, **shared)
    if task == "pose":
        return tasks.poser(runtime, names=labels, **shared)
    return tasks.embedder(runtime, **shared)


def detection_options(options: argparse.Namespace, task: Task) -> DetectionOptions | None:
    """Return what was said of a detection; None where the model does something else.

    Raises:
        InputError: Something was said of one where the model does something else, or a value is out of range.
        MetadataError: The head has keys or values that are not known.
    """
    given: dict[str, Any] = {name: getattr(options, name) for name in ("confidence", "iou", "head")}
    given = {name: value for name, value in given.items() if value is not None}
    if "head" in given:
        given["head"] = parse_head(given["head"])
    if task != "detection":
        if given:
            raise InputError(
                f"`--{next(iter(given))}` is for detections.",
                received=f"a model of the task {task}",
                next_step="Say `--task detection` if it is one, or leave the option away.",
            )
        return None
    from edgeinfer.postprocess.detect import DetectionOptions

    return DetectionOptions(**given)


def _say_override(given: tuple[float, float], runtime: Runtime) -> None:
    """Warn where the command line contradicts what the file says of its normalization."""
    for own in (spec.normalization for spec in runtime.inputs):
        if own is None:
            continue
        pairs = zip(given, (own.mean, own.std), strict=True)
        if any(abs(one - other) > 1e-6 * abs(other) for one, other in pairs):  # the file holds float32
            import logging

            logging.getLogger(__name__).warning(
                "--normalization %g %g takes the place of the file's own, %g %g.", *given, own.mean, own.std
            )
