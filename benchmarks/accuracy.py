"""Claim: what int8 costs two public models, in both engines.

    EDGEINFER_TEST_DATA=... python benchmarks/accuracy.py --device-python .venv/device/bin/python

ResNet-8 of MLPerf Tiny: calibrated with 200 pictures of the training set, judged on the 5000 of test5k. MobileNetV2
1.0 224: the first 100 of the photos after a seeded shuffle calibrate, the other 300 judge. The float reference is the
same model as a float32 file, in the same engine as the int8 one.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from record import test_data, versions, write_rows

from converters import Card, Quantize, Recipe, convert
from edgeinfer.dataset import open_dataset

SEED = 0


def main() -> None:
    """Convert both models, evaluate float and int8 in both engines, write one row each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--device-python", required=True, help="interpreter of the device's environment")
    device_python = parser.parse_args().device_python
    data = test_data()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = resnet(data, folder, device_python) + mobilenet(data, folder, device_python)
    write_rows("accuracy", rows)


def resnet(data: Path, folder: Path, device_python: str) -> list[dict[str, object]]:
    """ResNet-8 on CIFAR-10, floats of 0..255."""
    return measure(
        data / "mlperf_tiny" / "ic" / "pretrainedResnet.h5",
        data / "cifar10_jpeg" / "train40k.npz",
        data / "cifar10_jpeg" / "test5k.npz",
        Recipe((Quantize("int8", samples=200),), target="raspberrypi-tflite", seed=SEED),
        Card(normalization=(0, 1), labels=open_dataset(data / "cifar10_jpeg" / "test5k.npz").classes),
        [folder, device_python],
    )


def mobilenet(data: Path, folder: Path, device_python: str) -> list[dict[str, object]]:
    """MobileNetV2 on the photos; the model counts a background class in front."""
    photos = data / "imagenet_sample"
    with (photos / "labels.csv").open(newline="") as table:
        listed = [row for row in list(csv.reader(table))[1:] if (photos / row[0]).exists()]
    order = np.random.default_rng(SEED).permutation(len(listed))
    for part, numbers in (("calibrate", order[:100]), ("judge", order[100:])):
        (folder / part).mkdir()
        with (folder / part / "labels.csv").open("w", newline="") as table:
            writer = csv.writer(table)
            writer.writerow(["file", "class"])
            for number in numbers:
                writer.writerow(listed[number])
                (folder / part / listed[number][0]).symlink_to(photos / listed[number][0])
    return measure(
        data / "keras_imagenet" / "mobilenet_v2_1.0_224_from_tflite.h5",
        folder / "calibrate",
        folder / "judge",
        Recipe((Quantize("int8", samples=100),), target="raspberrypi-tflite", seed=SEED),
        Card(
            normalization=(127.5, 127.5),
            labels=(data / "coral" / "imagenet_labels.txt").read_text(encoding="utf-8").splitlines(),
        ),
        [folder, device_python, "--class-offset", "1"],
    )


def measure(
    model: Path, calibration: Path, validation: Path, recipe: Recipe, card: Card, rest: list[Any]
) -> list[dict[str, object]]:
    """Convert to int8 and to float32, and evaluate both files in both engines."""
    folder, device_python, *extra = rest
    files = {}
    for scheme, steps in (("float32", (Quantize("float32"),)), ("int8", recipe.steps)):
        result = convert(
            model,
            calibration if scheme == "int8" else None,
            recipe=Recipe(steps, target=recipe.target, seed=recipe.seed),
            card=card,
        )
        files[scheme] = folder / f"{model.stem}-{scheme}.tflite"
        result.save(files[scheme])
    rows: list[dict[str, object]] = []
    for python in (sys.executable, device_python):
        floats, installed = 0.0, versions(python)
        code = "from edgeinfer.runtime.engines import find_engine as f; print(f().name, f().version)"
        engine = subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout.strip()
        for scheme, path in files.items():
            command = [python, "-m", "edgeinfer", "evaluate", str(path), str(validation), "--json", "--threads", "1"]
            said = json.loads(subprocess.run([*command, *extra], check=True, capture_output=True).stdout)
            top1 = said["metrics"]["top1"]
            floats = top1 if scheme == "float32" else floats
            rows.append(
                {
                    "model": model.name,
                    "scheme": scheme,
                    "engine": engine,
                    "samples": said["samples"],
                    "top1": f"{top1:.4f}",
                    "interval95": " to ".join(f"{value:.4f}" for value in said["interval95"]["top1"]),
                    "drop_points": f"{100 * (floats - top1):.2f}",
                    "bytes": path.stat().st_size,
                    "invoke_p50_ms": f"{said['timing_ms']['invoke']['p50']:.3f}",
                    "invoke_p95_ms": f"{said['timing_ms']['invoke']['p95']:.3f}",
                    "threads": 1,
                    "versions": installed,
                }
            )
    return rows


if __name__ == "__main__":
    main()
