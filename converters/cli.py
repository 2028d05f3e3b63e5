"""`edgeinfer-convert MODEL ... | annotate | check`: parses, calls the public functions, prints."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from converters.card import Card, Training
from converters.check_command import check_parser, run_check
from converters.conversion import Conversion, check_name
from converters.convert import convert
from converters.errors import AccuracyDropError
from converters.metadata import annotate, assign_roles
from converters.recipe import Ending, Quantize, Recipe, Step, Verify
from converters.report import Report
from converters.roles import check_answerable
from converters.target_file import target_of_word
from converters.targets import TARGETS, Io, Scheme
from edgeinfer import __version__
from edgeinfer.command import Parser, picture_options, run_command, talk_options
from edgeinfer.errors import InputError, MetadataError, naming
from edgeinfer.files import read_bytes, write_whole
from edgeinfer.model.heads import DetectionHead
from edgeinfer.model.metadata import Normalization, Resize, Role, Task, read, read_labels
from edgeinfer.progress import terminal_progress

_RECIPE_FLAGS = ("scheme", "io", "samples", "ending", "top_k", "max_drop", "no_verify", "target", "seed")
_HEAD = """'{"kind": "yolo", "channels": "first"}'"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)

    def run() -> int:
        # argparse cannot have both a sub-command and a model in the first place.
        if words[:1] == ["annotate"]:
            return _annotate(annotate_parser().parse_args(words[1:]))
        if words[:1] == ["check"]:
            said, code = run_check(check_parser().parse_args(words[1:]))
            print(said)
            return code
        return _convert(convert_parser().parse_args(words))

    return run_command(run, words)


def convert_parser() -> argparse.ArgumentParser:
    """Return the parser of the conversion."""
    parser = Parser(
        prog="edgeinfer-convert",
        usage="edgeinfer-convert MODEL --calibration DATA [options] -o OUT.tflite\n"
        "       edgeinfer-convert annotate MODEL.tflite [options]\n"
        "       edgeinfer-convert check MODEL.tflite --target TARGET",
        description="Turn a trained Keras model into a quantized, checked and labelled TFLite file.",
        epilog="Example: edgeinfer-convert birds.keras --calibration photos/ --validation labelled/ --labels "
        "birds.txt -o birds.tflite. DATA is a folder of pictures, class folders, a folder with labels.csv, an .npz "
        "(x, y or jpeg, offset, label) or an .npy; uint8 is pixels, floats are the model's own input. A recipe file: "
        '{"fit": {"augment": ["flip", "shift"]}, "steps": [{"step": "prune", "macs": 0.5}, {"step": "distill", '
        '"epochs": 10}, {"step": "quantize", "scheme": "int8"}, {"step": "verify", "max_drop": 0.01}]}; all its '
        "settings: `converters.steps`. Exit codes: 0 good, 1 a gate failed, 2 wrong usage or input, 3 conversion "
        "failed or a package is missing, 4 model damaged or unsafe, 5 op not supported, 130 interrupted.",
    )
    parser.add_argument("--version", action="version", version=f"edgeinfer {__version__}")
    parser.add_argument("model", type=Path, help=".keras, .h5 or a SavedModel folder")
    parser.add_argument("-o", "--output", type=Path, required=True, help="the .tflite file to write")
    data = parser.add_argument_group("data")
    data.add_argument("--calibration", type=Path, metavar="DATA", help="samples like those that the device will see")
    data.add_argument("--validation", type=Path, metavar="DATA", help="labelled samples that judge the result")
    data.add_argument("--train", type=Path, metavar="DATA", help="labelled samples for the recipe's training steps")
    data.add_argument("--test", type=Path, metavar="DATA", help="labelled samples that only the report sees")
    data.add_argument("--teacher", type=Path, metavar="FILE", help="whom Distill asks (default: the unpruned model)")
    data.add_argument("--work", type=Path, metavar="DIR", help="keeps finished training steps, to go on from")
    data.add_argument("--class-offset", type=int, metavar="N", help="added to classes given as numbers")
    recipe = parser.add_argument_group("recipe")
    recipe.add_argument("--recipe", type=Path, help="a recipe file; replaces the other options of this group")
    names = ", ".join(one.name for one in TARGETS)
    recipe.add_argument("--target", help=f"{names}, or a JSON file (default cpu)")
    recipe.add_argument("--scheme", choices=get_args(Scheme), help="default int8")
    recipe.add_argument("--io", choices=get_args(Io), help="tensors at both ends (default: the target's)")
    recipe.add_argument("--ending", choices=get_args(Ending), help="put into the graph behind the model")
    recipe.add_argument("--top-k", type=int, metavar="K", help="classes that --ending top-k answers with (default 5)")
    recipe.add_argument("--samples", type=int, help="calibration samples (default 200)")
    recipe.add_argument("--max-drop", type=float, metavar="X", help="accuracy that may be lost, 0..1 (default 0.01)")
    recipe.add_argument("--seed", type=int, help="chooses the calibration samples (default 0)")
    recipe.add_argument("--no-verify", action="store_true", help="do not compare with the float model")
    card = parser.add_argument_group("what the file says of itself")
    _task_options(card)
    picture_options(card)
    talk_options(parser)
    return parser


def annotate_parser() -> argparse.ArgumentParser:
    """Return the parser of `annotate`."""
    parser = Parser(
        prog="edgeinfer-convert annotate",
        description="Write into a TFLite file what it should say of itself; the model stays as it is.",
        epilog="Example: edgeinfer-convert annotate m.tflite --labels birds.txt --normalization 127.5 127.5; "
        "edgeinfer-convert annotate ssd.tflite --task detection --labels coco.txt; "
        f"edgeinfer-convert annotate yolo.tflite --head {_HEAD} --labels coco.txt. A head's settings: "
        "`edgeinfer.model.heads.DetectionHead`.",
    )
    parser.add_argument("model", type=Path, help="a .tflite file")
    parser.add_argument("-o", "--output", type=Path, help="default: the file itself")
    _task_options(parser)
    picture_options(parser)
    talk_options(parser)
    return parser


def _task_options(parser: argparse._ActionsContainer) -> None:
    parser.add_argument("--task", choices=get_args(Task), help="default: what the model's output looks like")
    parser.add_argument("--head", type=_head, metavar="JSON", help=f"of a detection, e.g. {_HEAD}")
    parser.add_argument("--roles", type=_roles, metavar="ROLES", help="of the outputs, in order, e.g. boxes,scores")


def _head(text: str) -> DetectionHead:
    try:
        said = json.loads(text)
        if not isinstance(said, dict):
            raise argparse.ArgumentTypeError(f"expected an object such as {_HEAD}, received {text}")
        return DetectionHead.from_json(said)
    except json.JSONDecodeError as error:
        raise argparse.ArgumentTypeError(f"no JSON ({error}): expected an object such as {_HEAD}") from error
    except MetadataError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _roles(text: str) -> tuple[Role, ...]:
    roles = tuple(one.strip() for one in text.split(","))
    for role in roles:
        if role not in get_args(Role):
            known = ", ".join(one for one in get_args(Role) if one)
            raise argparse.ArgumentTypeError(f"the role `{role}` is not known: expected {known}")
    return roles  # type: ignore[return-value]


def _convert(options: argparse.Namespace) -> int:
    # TensorFlow imports functions that it has written to the temporary folder, and would leave their bytecode there.
    sys.dont_write_bytecode = True
    recipe = _recipe(options)
    card = Card(
        task=options.task,
        labels=read_labels(options.labels) if options.labels else (),
        normalization=tuple(options.normalization) if options.normalization else None,
        resize=options.resize or "stretch",
        filter=options.filter or "bilinear",
        head=options.head,
        roles=options.roles or (),
    )
    _check_output(options.output, options.model)
    try:
        result = convert(
            options.model,
            options.calibration,
            recipe=recipe,
            card=card,
            training=Training(
                train=options.train,
                validation=options.validation,
                test=options.test,
                teacher=options.teacher,
                class_offset=options.class_offset,
            ),
            work=options.work,
            progress=terminal_progress(quiet=options.quiet or options.json),
        )
    except AccuracyDropError as error:
        if not isinstance(error.report, Report):
            raise
        # Hours may stand behind a file that fails its gate, and what was measured is the reason: keep both, by a name
        # that nobody takes for the result.
        failed = options.output.with_name(f"{options.output.stem}.failed{options.output.suffix}")
        if isinstance(error.conversion, Conversion):
            error.conversion.save(failed)
        if options.json:
            print(json.dumps({"error": error.to_json(), "output": str(failed), **error.report.to_json()}))
        else:
            print(f"{error.report}\n\n{type(error).__name__}: {error}\nKept as {failed}", file=sys.stderr)
        return error.exit_code
    written = result.save(options.output)
    report = result.report.named(options.output)
    if options.json:
        print(json.dumps({"output": str(options.output), "written": list(map(str, written)), **report.to_json()}))
    else:
        print(f"{report}\n\nWrote {', '.join(map(str, written))}")
    return 0


def _recipe(options: argparse.Namespace) -> Recipe:
    if options.recipe is not None:
        # By identity: `--max-drop 0` equals False, and was given.
        both = [name for name in _RECIPE_FLAGS if not any(getattr(options, name) is one for one in (None, False))]
        if both:
            raise InputError(
                "A recipe file and options that a recipe holds exclude each other.",
                received=", ".join(f"--{name.replace('_', '-')}" for name in both),
                next_step="Change the recipe file, or leave --recipe away.",
            )
        return Recipe.load(options.recipe)
    if options.no_verify and options.max_drop is not None:
        raise InputError(
            "Without a check there is no drop to measure.",
            received="--no-verify, --max-drop",
            next_step="Leave one of them away.",
        )
    given = {name: getattr(options, name) for name in ("scheme", "io", "samples", "ending", "top_k")}
    steps: list[Step] = [Quantize(**{name: value for name, value in given.items() if value is not None})]
    if not options.no_verify:
        steps.append(Verify() if options.max_drop is None else Verify(max_drop=options.max_drop))
    return Recipe(tuple(steps), target=target_of_word(options.target or "cpu"), seed=options.seed or 0)


def _check_output(path: Path, model: Path) -> None:
    check_name(path)
    if path.exists() and model.exists() and path.samefile(model):
        raise InputError(
            "The output would stand in the place of the trained model.",
            received=f"`{path}`",
            next_step="Name another file, e.g. `birds.tflite`.",
        )
    # Minutes of work must not end at a folder that is not there.
    if path.is_dir() or not path.parent.is_dir():
        raise InputError(
            "The output cannot be written there.",
            received=f"`{path}`",
            expected="a file in a folder that exists",
            next_step=f"mkdir -p {path.parent}" if not path.is_dir() else "Name a file, e.g. `birds.tflite`.",
        )


def _annotate(options: argparse.Namespace) -> int:
    settings = ("task", "head", "roles", "labels", "normalization", "resize", "filter")
    if all(getattr(options, name) is None for name in settings) and options.output is None:
        raise InputError(
            "There is nothing to write into the file.",
            received="no option",
            expected=" or ".join(f"--{name}" for name in settings),
        )
    data = read_bytes(options.model)
    with naming(options.model):
        changed = annotate(
            assign_roles(data, options.roles) if options.roles else data,
            task=options.task,
            labels=read_labels(options.labels) if options.labels else None,
            normalization=Normalization(*options.normalization) if options.normalization else None,
            head=options.head,
        )
        if options.resize or options.filter:
            # After the rest, because labels that do not fit are in the way of reading what the file says now.
            own = next((spec.resize for spec in read(changed).inputs if spec.is_image), Resize())
            changed = annotate(
                changed, resize=Resize(options.resize or own.mode, options.filter or own.filter, own.pad)
            )
        if options.task or options.roles or options.head:
            check_answerable(read(changed))
    output = options.output or options.model
    write_whole(output, changed)
    if options.json:
        print(json.dumps({"output": str(output), "bytes": len(changed)}))
    else:
        print(f"Wrote {output}, {len(changed)} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
