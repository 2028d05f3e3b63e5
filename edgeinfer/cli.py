"""`edgeinfer run | inspect | bench | evaluate | camera | models | doctor`: parses, calls, prints."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeinfer import __version__
from edgeinfer.command import Parser, picture_options, run_command, talk_options
from edgeinfer.errors import EdgeInferError, InputError, OutputError, naming
from edgeinfer.model_options import (
    chosen_task,
    device_facts,
    model_options,
    open_pipeline,
    open_runtime,
    say_twin,
    task_options,
)

if TYPE_CHECKING:
    from edgeinfer.runtime.runtime import Runtime

# With fewer pictures than this OpenCV is not loaded. A choice: what it gains a picture depends on size and machine.
_MANY_PICTURES = 4
# For `evaluate`: a mean average precision needs the unsure boxes too, unlike a person who looks at them.
_LEAST_CONFIDENCE = 0.001
_METRICS = {
    "top1": "top-1",
    "top5": "top-5",
    "map50": "mAP50",
    "map50_95": "mAP50-95",
    "miou": "mean IoU",
    "pixel_accuracy": "pixels",
    "oks": "mean OKS",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)

    def run() -> int:
        options = build_parser(words[0] if words else "").parse_args(words)
        code: int = options.handler(options)
        return code

    return run_command(run, words)


def build_parser(command: str = "") -> argparse.ArgumentParser:
    """Return the parser with all sub-commands, or with this one alone: each costs as much as a small model's run."""
    parser = Parser(
        prog="edgeinfer",
        description="Run, look at and measure TFLite models on this machine.",
        epilog="Exit codes: 0 good, 2 wrong usage or input, 3 engine or package missing, 4 model damaged, "
        "5 op not supported, 130 interrupted.",
    )
    parser.add_argument("--version", action="version", version=f"edgeinfer {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND", parser_class=Parser)

    for add in [_COMMANDS[command]] if command in _COMMANDS else _COMMANDS.values():
        add(commands)
    return parser


def _adding(name: str, fill: Callable[[Parser], None], summary: str, example: str) -> tuple[str, Callable[[Any], None]]:
    def add(commands: Any) -> None:
        parser: Parser = commands.add_parser(
            name,
            help=summary,
            description=f"{summary[0].upper()}{summary[1:]}.",
            epilog=f"Example: edgeinfer {example}",
        )
        parser.fill = fill

    return name, add


def _add_camera(commands: Any) -> None:
    from edgeinfer.camera_command import add_camera

    add_camera(commands)


def _add_models(commands: Any) -> None:
    from edgeinfer.zoo.command import add_models

    add_models(commands)


def _run_options(parser: Parser) -> None:
    parser.add_argument("model", type=Path)
    parser.add_argument("pictures", nargs="+", type=Path, metavar="picture")
    parser.add_argument("--top", type=int, default=5, metavar="K", help="classes per picture (default 5)")
    parser.add_argument(
        "--draw", type=Path, metavar="DIR", help="draws what was found into copies of the pictures there"
    )
    model_options(parser)
    task_options(parser)
    picture_options(parser)
    _end(parser, _run)


def _inspect_options(parser: Parser) -> None:
    parser.add_argument("model", type=Path)
    _end(parser, _inspect)


def _bench_options(parser: Parser) -> None:
    parser.add_argument("model", type=Path)
    parser.add_argument("--runs", type=int, default=200, help="measured runs (default 200)")
    parser.add_argument("--warmup", type=int, default=10, help="runs before them (default 10)")
    model_options(parser)
    _end(parser, _bench)


def _evaluate_options(parser: Parser) -> None:
    parser.add_argument("model", type=Path)
    parser.add_argument(
        "data",
        type=Path,
        help="classes: class folders, a folder with labels.csv, or an .npz (x, y or jpeg, offset, label); boxes: a "
        "COCO JSON or a YOLO folder; masks: a folder with images/ and masks/; key points: a COCO JSON",
    )
    parser.add_argument("--images", type=Path, metavar="DIR", help="a COCO JSON's pictures (default: its own folder)")
    parser.add_argument(
        "--class-offset",
        type=int,
        metavar="N",
        help="added to classes given as numbers: 1 where the model has a background class in front (default: 0, "
        "refused where it is doubtful)",
    )
    model_options(parser)
    task_options(parser)
    picture_options(parser)
    _end(parser, _evaluate)


def _end(parser: Parser, handler: Callable[[argparse.Namespace], int]) -> None:
    talk_options(parser)
    parser.set_defaults(handler=handler)


def _run(options: argparse.Namespace) -> int:
    from contextlib import nullcontext

    from edgeinfer.preprocess.libraries import opencv_left_out

    few = len(options.pictures) < _MANY_PICTURES and not options.draw
    with opencv_left_out() if few else nullcontext(), open_runtime(options, options.model) as runtime:
        return _answer(options, runtime)


def _answer(options: argparse.Namespace, runtime: Runtime) -> int:
    from edgeinfer.answers import task_of, to_json, to_text

    if options.draw and chosen_task(options, runtime) == "embedding":
        raise InputError(
            "Features cannot be drawn into a picture.", received="--draw", next_step="Leave `--draw` away."
        )
    answer = open_pipeline(options, runtime, top_k=options.top)
    model: dict[str, object] = {}
    if options.json:
        import json

        model = {
            "path": str(options.model),
            "sha256": runtime.sha256,
            "engine": f"{runtime.engine.name} {runtime.engine.version}",
        }
    worst = 0
    for picture, place in zip(options.pictures, _drawn_names(options.pictures, options.draw), strict=True):
        try:
            found = answer(picture)
            drawn = _save_drawn(picture, found, place) if place else None
        except EdgeInferError as error:
            # One bad picture must not cost the answers for the others.
            worst = worst or error.exit_code
            if options.debug:
                import traceback

                traceback.print_exception(error)
            if options.json:
                print(json.dumps({"image": str(picture), "error": error.to_json()}), flush=True)
            else:
                print(f"{picture}: {type(error).__name__}: {error}", file=sys.stderr)
            continue
        if options.json:
            line: dict[str, object] = {
                "image": str(picture),
                "task": task_of(found),
                "results": to_json(found),
                "timing_ms": answer.latest_ms(),
                "model": {**model, **device_facts(runtime)},
                **({"drawn": str(drawn)} if drawn else {}),
            }
            print(json.dumps(line), flush=True)
        else:
            print(f"{picture}  {to_text(found)}" + (f"  -> {drawn}" if drawn else ""), flush=True)
    return worst


def _save_drawn(picture: Path, found: Any, place: Path) -> Path:
    from edgeinfer.drawing import draw
    from edgeinfer.preprocess.encode import write_image
    from edgeinfer.preprocess.image import read_image

    write_image(place, draw(read_image(picture), found))
    return place


def _drawn_names(pictures: Sequence[Path], folder: Path | None) -> list[Path | None]:
    """Return where each picture is drawn to; those of one name count up, so that none lies on another.

    Raises:
        InputError: There is a file of the folder's name, or a copy would replace a picture that was given.
        OutputError: The folder cannot be made.
    """
    if folder is None:
        return [None] * len(pictures)
    if folder.exists() and not folder.is_dir():
        raise InputError(
            "`--draw` needs a folder.", received=f"the file `{folder}`", expected="a folder, or a new name"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"The folder `{folder}` cannot be made.", received=error.strerror or str(error)) from error
    own = {picture.resolve() for picture in pictures}
    places: list[Path] = []
    for picture in pictures:
        names = (f"{picture.stem}{f'-{number}' if number > 1 else ''}.png" for number in count(1))
        place = next(folder / name for name in names if folder / name not in places)
        if place.resolve() in own:
            raise InputError(
                "The drawn copy would take the place of a picture that was given.",
                received=f"`{place}`",
                next_step="Name another folder for `--draw`.",
            )
        places.append(place)
    return [*places]


def _inspect(options: argparse.Namespace) -> int:
    import json

    from edgeinfer.files import read_bytes
    from edgeinfer.model.summary import summarize

    with naming(options.model):
        summary = summarize(read_bytes(options.model))
    print(json.dumps(summary.to_json()) if options.json else f"{options.model}\n{summary}")
    return 0


def _bench(options: argparse.Namespace) -> int:
    import json

    from edgeinfer.bench import bench
    from edgeinfer.progress import terminal_progress

    with open_runtime(options, options.model) as runtime:
        result = bench(
            runtime,
            runs=options.runs,
            warmup=options.warmup,
            twin=options.fallback[0] if options.fallback else None,
            progress=terminal_progress(quiet=options.quiet or options.json),
        )
    if options.json:
        print(json.dumps({**result.to_json(), **device_facts(runtime)}))
        return 0
    times = result.latency
    memory = f"{result.rss_bytes / 2**20:.0f} MiB" if result.rss_bytes else "not reported"
    print(
        f"{result.model} on {'' if result.device == 'cpu' else f'{result.device}, '}{result.machine['processor']}, "
        f"{result.engine}, {result.threads} threads\n"
        f"  latency  p50 {times.p50:.3f}  p90 {times.p90:.3f}  p95 {times.p95:.3f}  p99 {times.p99:.3f} ms, "
        f"{result.runs} runs after {result.warmup}\n"
        f"  first    {result.first_ms:.3f} ms   load {result.load_ms:.1f} ms   process memory {memory}"
    )
    if runtime.faults.failures:
        print(f"  faults   {runtime.faults.failures}, the latest: {runtime.faults.latest}")
    return 0


def _evaluate(options: argparse.Namespace) -> int:
    import json

    from edgeinfer.annotations.formats import open_data
    from edgeinfer.evaluate import evaluate
    from edgeinfer.model.labels import read_labels
    from edgeinfer.progress import terminal_progress

    with open_runtime(options, options.model) as runtime:
        task = chosen_task(options, runtime)
        if options.confidence is None and task == "detection":
            options.confidence = _LEAST_CONFIDENCE
        result = evaluate(
            open_pipeline(options, runtime),
            open_data(options.data, task=task, images=options.images),
            # The other tasks' answers carry their names, a detector's without that of a background.
            labels=read_labels(options.labels) if options.labels and task == "classification" else None,
            class_offset=options.class_offset,
            progress=terminal_progress(quiet=options.quiet or options.json),
        )
    by_twin = say_twin(runtime, result.samples)
    if by_twin:
        sys.stderr.write(f"{options.model}: {by_twin}\n")
    said: dict[str, Any] = result.to_json()
    if options.json:
        print(json.dumps({**said, **device_facts(runtime)}))
        return 0
    figures: dict[str, tuple[float, Any]] = {
        name: (value, said["interval95"].get(name)) for name, value in said["metrics"].items()
    }
    width = max(len(_METRICS.get(name, name)) for name in figures)
    for place, (name, (value, interval)) in enumerate(figures.items()):
        between = f"  (95 % interval {interval[0]:.2%} to {interval[1]:.2%})" if interval else ""
        counted = f", {result.samples} samples" if place == 0 else ""
        print(f"{_METRICS.get(name, name):<{width}}  {value:.2%}{between}{counted}")
    print(f"{'time':<{width}}  {result.timing}")
    if by_twin:
        print(by_twin)
    return 0


def _doctor(options: argparse.Namespace) -> int:
    import json

    from edgeinfer.doctor import examine

    checks = examine()
    if options.json:
        rows = [{"name": one.name, "ok": one.ok, "found": one.found, "cure": one.cure} for one in checks]
        print(json.dumps({"checks": rows}))
    else:
        for one in checks:
            print(f"{'ok ' if one.ok else 'NO '} {one.name:<14} {one.found}")
            if one.cure:
                print(f"    {'':<14} {one.cure}")
    return 0 if all(one.ok for one in checks) else 3


_COMMANDS: dict[str, Callable[[Any], None]] = dict(
    [
        _adding("run", _run_options, "say what is in pictures", "run ssd.tflite street.jpg --draw found/"),
        _adding("inspect", _inspect_options, "show tensors, ops and metadata", "inspect birds.tflite"),
        _adding("bench", _bench_options, "measure latency", "bench birds.tflite --threads 4"),
        _adding("evaluate", _evaluate_options, "measure accuracy on labelled data", "evaluate m.tflite photos/"),
        ("camera", _add_camera),
        ("models", _add_models),
        _adding("doctor", lambda parser: _end(parser, _doctor), "what is missing on this machine", "doctor --json"),
    ]
)


if __name__ == "__main__":
    sys.exit(main())
