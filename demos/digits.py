"""The main job in one sitting: a trained Keras model becomes a checked int8 file and answers on the device.

Trains a small network on scikit-learn's handwritten digits, or takes a model of yours:

    make demo
    make demo DEMO_FLAGS="--model birds.keras --calibration photos/ --validation labelled/"

The conversion runs here, on the workstation; the answers come from the device's environment, without TensorFlow.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from contact_sheet import Answer, chosen, contact_sheet, save_pictures
from on_device import on_device, print_table

from converters import Card, Quantize, Recipe, Training, Verify, convert
from edgeinfer import Dataset, open_dataset
from edgeinfer.command import run_command
from edgeinfer.dataset import match_classes
from edgeinfer.model.metadata import read, read_labels
from edgeinfer.postprocess.classify import class_count
from edgeinfer.progress import terminal_progress

OUTPUT = Path(__file__).parent.resolve() / "output"


def main() -> int:
    """Convert, verify, answer on the device, print one table and draw one picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", type=Path, help="a .keras or .h5 file (default: train one on digits)")
    parser.add_argument("--calibration", type=Path, help="pictures like those that the device will see")
    parser.add_argument("--validation", type=Path, help="labelled pictures")
    parser.add_argument("--labels", type=Path, help="one label a line")
    parser.add_argument("--class-offset", type=int, help="1 where the model has a background class first")
    parser.add_argument("--normalization", type=float, nargs=2, metavar=("MEAN", "STD"))
    parser.add_argument("--device-python", default=sys.executable, help="interpreter of the device's environment")
    options = parser.parse_args()
    if options.model and not (options.calibration and options.validation):
        parser.error("--model needs --calibration and --validation")
    OUTPUT.mkdir(exist_ok=True)

    if options.model:
        model, calibration, validation = options.model, options.calibration, options.validation
        labels = read_labels(options.labels) if options.labels else ()
    else:
        print("Training a small network on handwritten digits ...", flush=True)
        # In a process of its own, so that TensorFlow's talk can be kept back unless the training fails.
        script = Path(__file__).with_name("train_digits.py")
        done = subprocess.run([sys.executable, script, OUTPUT], capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(done.stderr)
        model, calibration, validation = (
            OUTPUT / name for name in ("digits.keras", "digits-calibration.npz", "digits-validation.npz")
        )
        labels = tuple("0123456789")

    result = convert(
        model,
        calibration,
        recipe=Recipe((Quantize("int8", samples=200), Verify(max_drop=0.02)), target="raspberrypi"),
        card=Card(labels=labels, normalization=options.normalization),
        training=Training(validation=validation, class_offset=options.class_offset),
        progress=terminal_progress(),
    )
    tflite = OUTPUT / f"{model.stem}.tflite"
    result.save(tflite)

    offset = () if options.class_offset is None else (f"--class-offset={options.class_offset}",)
    device = json.loads(on_device(options.device_python, "evaluate", tflite, validation, *offset))
    data = open_dataset(validation)
    pictures = save_pictures(data, OUTPUT)
    lines = [json.loads(line) for line in on_device(options.device_python, "run", tflite, *pictures).splitlines()]
    print_table(result.report, device, lines[0]["model"]["engine"])
    answers = compared(pictures, [line["results"][0] for line in lines], data, tflite, options.class_offset)
    sheet = contact_sheet(answers, OUTPUT / "answers.png")
    right = sum(answer.is_right for answer in answers)
    here = Path.cwd()
    shown = [path.relative_to(here) if path.is_relative_to(here) else path for path in (tflite, sheet, pictures[0])]
    command = Path(options.device_python).parent / "edgeinfer"
    print(f"\nWrote {shown[0]} and {shown[1]} ({right} of its {len(answers)} answers are right).")
    print(f"Try: {command} run {shown[0]} {shown[2]}")
    return 0


def compared(
    pictures: Sequence[Path], found: Sequence[dict[str, Any]], data: Dataset, tflite: Path, class_offset: int | None
) -> list[Answer]:
    """Return the device's answers beside the truth of the validation data."""
    spec = read(tflite).outputs[0]
    truth = match_classes(data, spec.labels, class_count(spec), class_offset=class_offset)[chosen(len(data))]
    return [
        Answer(
            picture=picture,
            label=row["label"],
            confidence=row["confidence"],
            truth=spec.labels[index] if spec.labels else str(index),
            is_right=row["class_id"] == index,
        )
        for picture, row, index in zip(pictures, found, truth.tolist(), strict=True)
    ]


if __name__ == "__main__":
    # The way of the command lines: an error is a sentence, and what engines announce on standard error is kept back.
    sys.exit(run_command(main, sys.argv[1:]))
