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
from pathlib import Path

import numpy as np
from contact_sheet import contact_sheet

from converters import Card, Quantize, Recipe, Report, Training, Verify, convert
from edgeinfer import Dataset, open_dataset, read_image

OUTPUT = Path(__file__).parent.resolve() / "output"
SHOWN = 12


def main() -> None:
    """Convert, verify, answer on the device, print one table and draw one picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", type=Path, help="a .keras or .h5 file (default: train one on digits)")
    parser.add_argument("--calibration", type=Path, help="pictures like those that the device will see")
    parser.add_argument("--validation", type=Path, help="labelled pictures")
    parser.add_argument("--labels", type=Path, help="one label a line")
    parser.add_argument("--normalization", type=float, nargs=2, metavar=("MEAN", "STD"))
    parser.add_argument("--device-python", default=sys.executable, help="interpreter of the device's environment")
    options = parser.parse_args()
    if options.model and not (options.calibration and options.validation):
        parser.error("--model needs --calibration and --validation")
    OUTPUT.mkdir(exist_ok=True)

    if options.model:
        model, calibration, validation = options.model, options.calibration, options.validation
        labels = options.labels.read_text(encoding="utf-8").splitlines() if options.labels else ()
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
        labels = [str(digit) for digit in range(10)]

    result = convert(
        model,
        calibration,
        recipe=Recipe((Quantize("int8", samples=200), Verify(max_drop=0.02)), target="raspberrypi"),
        card=Card(labels=labels, normalization=options.normalization),
        training=Training(validation=validation),
    )
    tflite = OUTPUT / f"{model.stem}.tflite"
    result.save(tflite)

    device = json.loads(on_device(options.device_python, "evaluate", tflite, validation))
    print_table(result.report, device)
    pictures = save_pictures(open_dataset(validation))
    answers = [json.loads(line) for line in on_device(options.device_python, "run", tflite, *pictures).splitlines()]
    sheet = contact_sheet(pictures, [answer["results"][0] for answer in answers], OUTPUT / "answers.png")
    print(f"\nWrote {tflite} and {sheet}. Try: edgeinfer run {tflite} {pictures[0]}")


def on_device(python: str, command: str, *arguments: Path) -> str:
    """Return what `edgeinfer COMMAND ... --json` says in the device's environment."""
    line = [python, "-m", "edgeinfer", command, *map(str, arguments), "--threads", "1", "--json"]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"On the device: {done.stdout}{done.stderr}")
    return done.stdout


def print_table(report: Report, device: dict[str, dict[str, dict[str, float]]]) -> None:
    """Print the report and, below it, the same file in the device's environment."""
    print(f"\n{report}")
    low, high = device["interval95"]["top1"]
    invoke = device["timing_ms"]["invoke"]
    print(
        f"In the device's environment: {device['metrics']['top1']:.2%} ({low:.2%} to {high:.2%}) of "
        f"{device['samples']} right, {invoke['p50']:.3f} / {invoke['p95']:.3f} ms, 1 thread, on this machine."
    )


def save_pictures(data: Dataset) -> list[Path]:
    """Write twelve samples of the validation data as PNG files and return their paths."""
    from PIL import Image

    paths = []
    for number, index in enumerate(np.linspace(0, len(data) - 1, SHOWN).astype(int)):
        path = OUTPUT / f"picture-{number:02}.png"
        Image.fromarray(read_image(data.sources[int(index)])).save(path)
        paths.append(path)
    return paths


if __name__ == "__main__":
    main()
