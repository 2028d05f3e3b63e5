"""`edgeinfer run | inspect | bench | evaluate | doctor`: parses, calls the public functions, prints."""

from __future__ import annotations

import argparse
import json
import logging
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeinfer import __version__
from edgeinfer.command import Parser, picture_options, run_command, talk_options
from edgeinfer.errors import EdgeInferError, naming
from edgeinfer.model.metadata import Resize

if TYPE_CHECKING:
    from edgeinfer.pipeline import Pipeline
    from edgeinfer.results import Classifications
    from edgeinfer.runtime.runtime import Runtime


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)

    def run() -> int:
        options = build_parser().parse_args(words)
        code: int = options.handler(options)
        return code

    return run_command(run, words)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser with all sub-commands."""
    parser = Parser(
        prog="edgeinfer",
        description="Run, look at and measure TFLite models on this machine.",
        epilog="Exit codes: 0 good, 2 wrong usage or input, 3 engine or package missing, 4 model damaged, "
        "5 op not supported, 130 interrupted.",
    )
    parser.add_argument("--version", action="version", version=f"edgeinfer {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND", parser_class=Parser)

    run = _command(commands, "run", _run, "name what is in pictures", "edgeinfer run birds.tflite parrot.jpg")
    run.add_argument("model", type=Path)
    run.add_argument("pictures", nargs="+", type=Path, metavar="picture")
    run.add_argument("--top", type=int, default=5, metavar="K", help="classes per picture (default 5)")
    _model_options(run)
    picture_options(run)

    inspect = _command(
        commands, "inspect", _inspect, "show tensors, ops and metadata", "edgeinfer inspect birds.tflite"
    )
    inspect.add_argument("model", type=Path)

    bench = _command(commands, "bench", _bench, "measure latency", "edgeinfer bench birds.tflite --threads 4")
    bench.add_argument("model", type=Path)
    bench.add_argument("--runs", type=int, default=200, help="measured runs (default 200)")
    bench.add_argument("--warmup", type=int, default=10, help="runs before them (default 10)")
    _model_options(bench)

    evaluate = _command(
        commands, "evaluate", _evaluate, "measure accuracy on labelled data", "edgeinfer evaluate birds.tflite photos/"
    )
    evaluate.add_argument("model", type=Path)
    evaluate.add_argument(
        "data", type=Path, help="class folders, a folder with labels.csv, or an .npz (x, y or jpeg, offset, label)"
    )
    evaluate.add_argument(
        "--class-offset",
        type=int,
        metavar="N",
        help="added to classes given as numbers: 1 where the model has a background class in front (default: 0, "
        "refused where it is doubtful)",
    )
    _model_options(evaluate)
    picture_options(evaluate)

    _command(commands, "doctor", _doctor, "what is missing on this machine", "edgeinfer doctor --json")
    return parser


def _command(commands: Any, name: str, handler: Any, summary: str, example: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.", epilog=f"Example: {example}"
    )
    talk_options(parser)
    parser.set_defaults(handler=handler)
    return parser


def _model_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", help='where the model runs (default "cpu")')
    parser.add_argument("--threads", type=int, help="threads of the engine (default: all cores)")
    parser.add_argument("--engine", help="litert, tflite-runtime or tensorflow (default: the best installed)")


def _runtime(options: argparse.Namespace) -> Runtime:
    from edgeinfer.runtime.runtime import Runtime

    return Runtime(options.model, device=options.device, threads=options.threads, engine=options.engine)


def _classifier(options: argparse.Namespace, top_k: int) -> Pipeline[Classifications]:
    from edgeinfer.model.metadata import read_labels
    from edgeinfer.pipeline import classifier

    runtime = _runtime(options)
    normalization = tuple(options.normalization) if options.normalization else None
    if normalization is not None:
        _say_override(normalization, runtime)
    resize = None
    if options.resize or options.filter:
        own = runtime.input.resize
        resize = Resize(options.resize or own.mode, options.filter or own.filter, own.pad)
    return classifier(
        runtime,
        labels=read_labels(options.labels) if options.labels else None,
        normalization=normalization,
        resize=resize,
        top_k=top_k,
    )


def _say_override(given: tuple[float, float], runtime: Runtime) -> None:
    """Warn where the command line contradicts what the file says of its normalization."""
    for own in (spec.normalization for spec in runtime.inputs):
        if own is None:
            continue
        pairs = zip(given, (own.mean, own.std), strict=True)
        if any(abs(one - other) > 1e-6 * abs(other) for one, other in pairs):  # the file holds float32
            logging.getLogger(__name__).warning(
                "--normalization %g %g takes the place of the file's own, %g %g.", *given, own.mean, own.std
            )


def _run(options: argparse.Namespace) -> int:
    classify = _classifier(options, options.top)
    runtime = classify.runtime
    model = {
        "path": str(options.model),
        "sha256": runtime.sha256,
        "engine": f"{runtime.engine.name} {runtime.engine.version}",
        "device": runtime.device,
    }
    worst = 0
    for picture in options.pictures:
        try:
            found = classify(picture)
        except EdgeInferError as error:
            # One bad picture must not cost the answers for the others.
            worst = worst or error.exit_code
            if options.debug:
                traceback.print_exception(error)
            if options.json:
                print(json.dumps({"image": str(picture), "error": error.to_json()}), flush=True)
            else:
                print(f"{picture}: {type(error).__name__}: {error}", file=sys.stderr)
            continue
        if options.json:
            line = {
                "image": str(picture),
                "task": "classification",
                "results": [
                    {"class_id": row.class_id, "label": row.label, "confidence": row.confidence} for row in found
                ],
                "timing_ms": classify.latest_ms(),
                "model": model,
            }
            print(json.dumps(line), flush=True)
        else:
            # What would be printed as 0.000 says nothing, but an answer has one class at least.
            shown = [row for place, row in enumerate(found) if place == 0 or row.confidence >= 0.0005]
            print(f"{picture}  " + "  ".join(f"{_quoted(row.label)} {row.confidence:.3f}" for row in shown), flush=True)
    return worst


def _quoted(label: str) -> str:
    """Return a label so that it is seen where it ends: in quotes where it holds a comma, quotes or two blanks."""
    return json.dumps(label, ensure_ascii=False) if any(mark in label for mark in (",", '"', "  ")) else label


def _inspect(options: argparse.Namespace) -> int:
    from edgeinfer.files import read_bytes
    from edgeinfer.model.summary import summarize

    with naming(options.model):
        summary = summarize(read_bytes(options.model))
    print(json.dumps(summary.to_json()) if options.json else f"{options.model}\n{summary}")
    return 0


def _bench(options: argparse.Namespace) -> int:
    from edgeinfer.bench import bench
    from edgeinfer.progress import terminal_progress

    result = bench(
        _runtime(options),
        runs=options.runs,
        warmup=options.warmup,
        progress=terminal_progress(quiet=options.quiet or options.json),
    )
    if options.json:
        print(json.dumps(result.to_json()))
        return 0
    times = result.latency
    memory = f"{result.rss_bytes / 2**20:.0f} MiB" if result.rss_bytes else "not reported"
    print(
        f"{result.model} on {result.machine['processor']}, {result.engine}, {result.threads} threads\n"
        f"  latency  p50 {times.p50:.3f}  p90 {times.p90:.3f}  p95 {times.p95:.3f}  p99 {times.p99:.3f} ms, "
        f"{result.runs} runs after {result.warmup}\n"
        f"  first    {result.first_ms:.3f} ms   load {result.load_ms:.1f} ms   process memory {memory}"
    )
    return 0


def _evaluate(options: argparse.Namespace) -> int:
    from edgeinfer.dataset import open_dataset
    from edgeinfer.evaluate import evaluate
    from edgeinfer.model.metadata import read_labels
    from edgeinfer.progress import terminal_progress

    result = evaluate(
        _classifier(options, 5),
        open_dataset(options.data),
        labels=read_labels(options.labels) if options.labels else None,
        class_offset=options.class_offset,
        progress=terminal_progress(quiet=options.quiet or options.json),
    )
    if options.json:
        print(json.dumps(result.to_json()))
        return 0
    low, high = result.top1_interval
    print(f"top-1  {result.top1:.2%}  (95 % interval {low:.2%} to {high:.2%}), {result.samples} samples")
    if result.top5 is not None and result.top5_interval is not None:
        low, high = result.top5_interval
        print(f"top-5  {result.top5:.2%}  (95 % interval {low:.2%} to {high:.2%})")
    print(f"time   {result.timing}")
    return 0


def _doctor(options: argparse.Namespace) -> int:
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


if __name__ == "__main__":
    sys.exit(main())
