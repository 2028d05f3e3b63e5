"""`edgeinfer-convert check FILE.tflite --target T`: where each op of a file would run, and why."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from converters.target_check import check_file
from converters.target_file import target_of_word
from converters.targets import TARGETS
from edgeinfer.command import Parser, talk_options
from edgeinfer.errors import naming
from edgeinfer.files import read_bytes

__all__ = ["check_parser", "run_check"]


def check_parser() -> argparse.ArgumentParser:
    """Return the parser of `check`."""
    names = ", ".join(one.name for one in TARGETS)
    parser = Parser(
        prog="edgeinfer-convert check",
        description="Say of each op of a TFLite file where it would run on a target, and why.",
        epilog="Example: edgeinfer-convert check birds.tflite --target edgetpu. A target of your own is a JSON file: "
        '{"name": "camera-board", "engines": ["tflite-runtime"], "op_versions": {"RESIZE_BILINEAR": 0}}; all its '
        "settings: `converters.targets.Target`. How a verdict is known stands behind it: tried on the engine, seen in "
        "compiled files, documented and tried by nobody here, or estimated. Exit codes: 0 the target takes the file, 2 "
        "wrong usage or input, 4 damaged, 5 the target refuses it, or its accelerator would get no op.",
    )
    parser.add_argument("model", type=Path, help="a .tflite file")
    parser.add_argument("--target", required=True, metavar="T", help=f"{names}, or a JSON file")
    talk_options(parser)
    return parser


def run_check(options: argparse.Namespace) -> tuple[str, int]:
    """Check a file; returns what to print, and the exit code: 0, or 5 where the target refuses the file."""
    machine = target_of_word(options.target)
    data = read_bytes(options.model)
    with naming(options.model):
        found = check_file(data, machine, path=options.model, word=options.target)
    if options.json:
        return json.dumps(found.to_json()), found.exit_code
    verdict = "takes it" if found.good else "does not take it"
    return f"{options.model.name} for {machine.name}: the target {verdict}.\n\n{found}", found.exit_code
