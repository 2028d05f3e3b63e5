"""`edgeinfer camera`: models on live frames, to a window, a page, a file, a pipe or a broker."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from copy import copy
from itertools import count
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from edgeinfer.command import INTERRUPTED, Parser, picture_options, talk_options
from edgeinfer.errors import DeviceError, EdgeInferError, InputError, MissingDependencyError
from edgeinfer.model_options import (
    chosen_task,
    device_facts,
    model_options,
    open_pipeline,
    open_runtime,
    task_options,
)
from edgeinfer.stop_signals import StopSignals

if TYPE_CHECKING:
    from edgeinfer.camera_talk import Summary
    from edgeinfer.outputs.output import Output
    from edgeinfer.outputs.recording import Recording
    from edgeinfer.pipeline import Pipeline
    from edgeinfer.sources.camera import Camera

_BIND = "127.0.0.1:8080"
_EXAMPLES = """\
examples:
  edgeinfer camera ssd.tflite                              the first camera, in a window or on a page
  edgeinfer camera ssd.tflite --size 1280 720 --fps 30     ask the camera for this
  edgeinfer camera ssd.tflite --bind 0.0.0.0:8080 --token 3-long-words
                                                           a page that others on the network may see
  edgeinfer camera ssd.tflite pose.tflite --source street.mp4 --save answers.mp4
                                                           two models, every frame of a video, drawn into a new one
  edgeinfer camera ssd.tflite --source rtsp://10.0.0.7/stream --jsonl | grep person
  edgeinfer camera ssd.tflite --mqtt mqtt://broker/door --max-temp 75
  edgeinfer camera ssd.tflite --frames 300 --json          how fast is it here

Ctrl-C ends it in good order, with exit code 130; so does SIGTERM, with 0. A second Ctrl-C ends it at once.
"""


def add_camera(commands: Any) -> None:
    """Add `camera` to the sub-commands of `edgeinfer`."""
    parser: Parser = commands.add_parser(
        "camera",
        usage="edgeinfer camera MODEL [MODEL ...] [--source S] [options]",  # all of them are thirty
        help="run models on a camera, a stream, a video or a folder",
        description="Run models on live frames. What is shown is never old: frames that nobody has\n"
        "time for are dropped and counted.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.fill = _add_options


def _add_options(parser: Parser) -> None:
    parser.add_argument("models", nargs="+", type=Path, metavar="model", help="one .tflite file, or several")
    source = parser.add_argument_group("source")
    source.add_argument(
        "--source",
        default="0",
        metavar="S",
        help="a camera's number or name, a video file, a folder of pictures, a pattern, or a URL (default 0)",
    )
    source.add_argument("--size", type=int, nargs=2, metavar=("W", "H"), help="what to ask a camera for")
    source.add_argument(
        "--fps", type=float, metavar="N", help="frames a second: what to ask a camera for, or a file's pace"
    )
    source.add_argument(
        "--realtime",
        action=argparse.BooleanOptionalAction,
        help="a file at its own pace, dropping what is late (default: with a window or page), or every frame of it",
    )
    source.add_argument(
        "--first-frame", type=float, default=10.0, metavar="S", help="seconds that a camera may take (default 10)"
    )
    source.add_argument("--repeat", action="store_true", help="begin a file again at its end")
    outputs = parser.add_argument_group("outputs", "By default a window where there is a screen, else the page.")
    outputs.add_argument("--window", action="store_true", help="on this machine's screen; q or Esc ends")
    outputs.add_argument("--bind", metavar="ADDRESS:PORT", help=f"a web page there (by default {_BIND})")
    outputs.add_argument(
        "--token", metavar="T", help="what viewers of the page must know (default: the variable EDGEINFER_TOKEN)"
    )
    outputs.add_argument(
        "--save", type=Path, metavar="FILE", help="a video, .mp4 or .avi, with the answers drawn into it"
    )
    outputs.add_argument("--jsonl", action="store_true", help="one JSON object a frame, on standard output")
    outputs.add_argument("--mqtt", metavar="URL", help="messages to a broker: mqtt://user:password@host/topic")
    limits = parser.add_argument_group("limits")
    limits.add_argument("--frames", type=int, metavar="N", help="end after so many answered frames")
    limits.add_argument("--max-fps", type=float, metavar="N", help="answer no more frames a second")
    limits.add_argument("--max-temp", type=float, metavar="C", help="answer fewer while the processor is hotter")
    parser.add_argument("--top", type=int, default=5, metavar="K", help="classes per answer (default 5)")
    model_options(parser)
    task_options(parser)
    picture_options(parser)
    talk_options(parser)
    parser.set_defaults(handler=_camera)


def _camera(options: argparse.Namespace) -> int:
    _check(options)
    with StopSignals(to_reader=options.jsonl) as signals:
        # The models first: what is wrong with them is known before a port is taken, a broker told, a camera opened.
        with ExitStack() as stack:
            models = _open_models(options, stack)
            _say_if_nobody_knows_how_hot(options)
            outputs = _open_outputs(options, stack)
            camera = stack.enter_context(_open_camera(options))
            if options.save is not None:
                outputs.append(stack.enter_context(_open_recording(options, camera)))
            summary = _follow(options, signals, camera, models=models, outputs=outputs)
        text = json.dumps(summary.to_json()) if options.json else str(summary)
        # JSON lines have standard output to themselves, but for the object that ends them.
        stream = sys.stderr if options.jsonl and not options.json else sys.stdout
        stream.write(f"{text}\n")
        stream.flush()
    if summary.ended == "interrupted":
        return INTERRUPTED
    return summary.errors[0].exit_code if summary.errors else 0


def _check(options: argparse.Namespace) -> None:
    """Refuse what can be seen to be wrong before a model is loaded."""
    if options.frames is not None and options.frames < 1:
        raise InputError("`--frames` is no number of frames.", received=str(options.frames), expected="1 or more")
    for name in ("max_fps", "max_temp"):
        value = getattr(options, name)
        if value is not None and not 0 < value < float("inf"):
            raise InputError(f"`--{name.replace('_', '-')}` is no positive number.", received=str(value))
    if options.save is not None and os.path.realpath(options.save) == os.path.realpath(options.source):
        raise InputError(
            "The recording would take the place of the video that is read.",
            received=f"`{options.save}`",
            next_step="Name another file for `--save`.",
        )
    for name in ("task", "labels", "head"):
        if getattr(options, name) is not None and len(options.models) > 1:
            raise InputError(
                f"`--{name}` belongs to one model.",
                received=f"{len(options.models)} models",
                next_step="Write it into each file once: `edgeinfer-convert annotate m.tflite`, on a workstation.",
            )


def _open_models(options: argparse.Namespace, stack: ExitStack) -> dict[str, Pipeline[Any]]:
    models: dict[str, Pipeline[Any]] = {}
    for place, path in enumerate(options.models):
        runtime = stack.enter_context(open_runtime(options, path, place=place, of=len(options.models)))
        own = options
        if len(options.models) > 1 and chosen_task(options, runtime) != "detection":
            # Thresholds are for those of them that are detectors.
            own = copy(options)
            own.confidence = own.iou = None
        pipeline = open_pipeline(own, runtime, top_k=options.top)
        if not runtime.input.is_image:
            raise InputError(
                f"`{path.name}` takes no pictures.",
                received=f"input `{runtime.input.name}` of shape {runtime.input.shape}",
                expected="a model of pictures",
            )
        name = next(name for name in _names(path.stem) if name not in models)
        models[name] = pipeline
    return models


def _names(stem: str) -> Iterator[str]:
    yield stem
    for number in count(2):
        yield f"{stem}-{number}"


def _say_if_nobody_knows_how_hot(options: argparse.Namespace) -> None:
    if options.max_temp is None:
        return
    from edgeinfer.health import read_health

    if read_health().temperature_c is None:
        sys.stderr.write("This machine does not say how hot it is: `--max-temp` changes nothing.\n")


def _is_watched(options: argparse.Namespace) -> bool:
    """Say whether somebody looks on: then a video is shown at its own pace, and not as fast as it goes."""
    silent = options.save is not None or options.jsonl or options.mqtt is not None
    return bool(options.window or _wants_page(options) or not silent)


def _wants_page(options: argparse.Namespace) -> bool:
    return options.bind is not None or options.token is not None


def _token(options: argparse.Namespace) -> str | None:
    """Return the page's token; a command line can be read by every user of the machine, the environment cannot."""
    return options.token or os.environ.get("EDGEINFER_TOKEN") or None


def _open_outputs(options: argparse.Namespace, stack: ExitStack) -> list[Output]:
    """Open all but the recording, the quick ones in front: a line must not wait for a window."""
    outputs: list[Output] = []
    window = None
    wants_page = _wants_page(options)
    if options.window or (_is_watched(options) and not wants_page):
        from edgeinfer.outputs.window import Window

        try:
            window = Window()
        except (DeviceError, MissingDependencyError):  # no screen, or an OpenCV without windows
            if options.window:
                raise
            wants_page = True
    if wants_page:
        from edgeinfer.preview.page import Page

        outputs.append(stack.enter_context(Page(options.bind or _BIND, token=_token(options))))
    if options.mqtt is not None:
        from edgeinfer.outputs.mqtt import Mqtt

        outputs.append(stack.enter_context(Mqtt(options.mqtt)))
    if options.jsonl:
        from edgeinfer.outputs.lines import Lines

        outputs.insert(0, Lines())
    if window is not None:
        outputs.append(stack.enter_context(window))
    return outputs


def _open_camera(options: argparse.Namespace) -> Camera:
    from edgeinfer.sources.camera import Camera

    watched = options.fps is not None or _is_watched(options)
    return Camera(
        options.source,
        size=None if options.size is None else tuple(options.size),
        fps=options.fps,
        realtime=watched if options.realtime is None else options.realtime,
        repeat=options.repeat,
        first_frame_s=options.first_frame,
    )


def _open_recording(options: argparse.Namespace, camera: Camera) -> Recording:
    from edgeinfer.outputs.recording import Recording

    if camera.live:
        return Recording(options.save)
    return Recording(options.save, every_frame=True, fps=camera.fps)


def _follow(
    options: argparse.Namespace,
    signals: StopSignals,
    camera: Camera,
    *,
    models: dict[str, Pipeline[Any]],
    outputs: list[Output],
) -> Summary:
    """Hand answered frames to the outputs until the end, and return how it went."""
    from edgeinfer.camera_talk import StatusLine, Summary, say_page
    from edgeinfer.live.live import Live
    from edgeinfer.outputs.fan import Fan

    ended, frames, begin, now = "source", 0, 0.0, 0.0
    with ExitStack() as stack:
        fan = stack.enter_context(Fan(outputs))
        live = stack.enter_context(Live(camera, models, max_fps=options.max_fps, max_temp_c=options.max_temp))
        for output in outputs:
            if hasattr(output, "follow"):
                output.follow(live.status)  # so that it says when the camera is gone
            if hasattr(output, "url") and not options.quiet:
                say_page(output.url, _token(options))
        line = None
        if sys.stderr.isatty() and not (options.quiet or options.jsonl or os.environ.get("CI")):
            line = stack.enter_context(StatusLine(live.status, lambda: fan.trouble))
        signals.stop = live.stop
        try:
            for shown in live:
                now = monotonic()
                begin = begin or now
                frames += 1
                if line is not None:
                    line.take(shown)
                if not fan.write(shown):
                    ended = "output"
                elif frames == options.frames:
                    ended = "frames"
                if ended != "source":
                    live.stop()
        except EdgeInferError:
            if ended == "source" and not signals.received:
                raise  # else it is of a frame that nobody waits for any more
        signals.settle()
        if signals.received:
            ended = "interrupted" if signals.received == signal.SIGINT else "terminated"
        return Summary(
            ended,
            frames,
            now - begin,
            status=live.status(),
            models=[_facts(options, name, model) for name, model in models.items()],
            errors=fan.errors,
        )


def _facts(options: argparse.Namespace, name: str, model: Pipeline[Any]) -> dict[str, object]:
    runtime, timing = model.runtime, model.timing.to_json()
    return {
        "name": name,
        "task": chosen_task(options, runtime),
        "path": str(runtime.path),
        "sha256": runtime.sha256,
        "engine": f"{runtime.engine.name} {runtime.engine.version}",
        **device_facts(runtime),
        "threads": runtime.threads,
        "timing_ms": {stage: timing[stage] for stage in ("pre", "invoke", "post")},
    }
