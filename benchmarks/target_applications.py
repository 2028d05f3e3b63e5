"""Claim: networks of `keras.applications`, quantized in full integers, run on every target, or a layer is named.

    EDGEINFER_DEVICE_PYTHON=... python benchmarks/target_applications.py [--models MobileNetV2 ...] [--size 96]

Eleven networks with random weights (see `applications.py` for how they get statistics that are not degenerate) times
every target. A row says how many ops would run where, what was replaced, and in which engine the file was loaded and
run here: LiteRT in this environment, tflite-runtime in the device's; the files for edgetpu ran in LiteRT only. No Edge
TPU, no telephone and no Raspberry Pi took part: for an Edge TPU the row is the prediction, and the file that runs is
the uncompiled one. Targets that take one
file share its conversion. Every finished row is written at once, and rows that stand in the file are not made again.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from applications import answered, card, disturb, error, on_device, own_input, pictures, settle
from numpy.typing import NDArray
from record import read_rows, versions, write_rows

from converters import Conversion, Quantize, Recipe, convert
from converters.graph.flat import flat_model
from converters.target_check import check_file
from converters.targets import TARGETS, Target, target
from edgeinfer.errors import EdgeInferError

NAME = "target-applications"
SEED = 0
CALIBRATE, SETTLE, JUDGE = 16, 8, 8  # pictures
# Normalization that the caller does; None where the network's own first layers do it.
MODELS: dict[str, tuple[float, float] | None] = {
    "MobileNet": (127.5, 127.5),
    "MobileNetV2": (127.5, 127.5),
    "MobileNetV3Small": None,
    "EfficientNetB0": None,
    "EfficientNetV2B0": None,
    "ResNet50": (127.5, 127.5),
    "DenseNet121": (127.5, 127.5),
    "NASNetMobile": (127.5, 127.5),
    "Xception": (127.5, 127.5),
    "InceptionV3": (127.5, 127.5),
    "ConvNeXtTiny": None,
}
# Whoever comes first converts for all that take the same file; of the processors the one with the lowest ceilings.
MAKERS = {
    "edgetpu": ("edgetpu",),
    "android": ("android", "android-gpu"),
    "raspberrypi-tflite": ("cpu", "raspberrypi", "raspberrypi32", "raspberrypi-tflite"),
}


def main() -> None:
    """Run what has no row yet, and write each row as it comes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--models", nargs="*", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--size", type=int, default=96, help="of the pictures, pixels")
    arguments = parser.parse_args()
    device_python = os.environ.get("EDGEINFER_DEVICE_PYTHON")
    if not device_python:
        raise SystemExit("EDGEINFER_DEVICE_PYTHON names no interpreter of the device's environment.")
    rows: list[dict[str, Any]] = list(read_rows(NAME))
    for name in arguments.models:
        done = {row["target"] for row in rows if row["model"] == name and row["input"] == str(arguments.size)}
        missing = {maker: names for maker, names in MAKERS.items() if not done >= set(names)}
        if not missing:
            continue
        model, judged = network(name, arguments.size)
        for maker, names in missing.items():
            with tempfile.TemporaryDirectory(prefix="edgeinfer-") as folder:
                made = measure(model, MODELS[name], judged, maker, names, Path(folder), device_python)
            rows += [{"model": name, "input": str(arguments.size), **row} for row in made if row["target"] not in done]
            write_rows(NAME, rows)


def network(name: str, size: int) -> tuple[Any, NDArray[np.float32]]:
    """Return a network with seeded weights, and pictures as it takes them."""
    import keras

    keras.backend.clear_session()
    model = flat_model(getattr(keras.applications, name)(input_shape=(size, size, 3), weights=None))
    disturb(model, np.random.default_rng(SEED))
    settle(model, own_input(pictures(SETTLE, size, SEED), MODELS[name]))
    return model, own_input(pictures(JUDGE, size, SEED + 2), MODELS[name])


def measure(
    model: Any,
    normalization: tuple[float, float] | None,
    judged: NDArray[np.float32],
    maker: str,
    names: tuple[str, ...],
    folder: Path,
    device_python: str,
) -> list[dict[str, Any]]:
    """Convert once, and return a row for each target that takes the file."""
    started = time.perf_counter()
    recipe = Recipe((Quantize("int8", samples=CALIBRATE),), target=maker, seed=SEED)
    try:
        made = convert(model, pictures(CALIBRATE, judged.shape[1], SEED + 1), recipe=recipe, card=card(normalization))
    except EdgeInferError as refusal:
        said = f"{refusal.message} {refusal.received}"
        row = {"outcome": "refused", "why": said, "seconds": f"{time.perf_counter() - started:.0f}"}
        return [{"target": name, **row, "versions": versions()} for name in names]
    seconds = time.perf_counter() - started
    truth = np.asarray(model(judged))
    made.save(folder / "model.tflite")
    here = answered(made, judged)
    there = on_device(folder, "model.tflite", judged, device_python)
    rows = []
    for name in names:
        # Who has only tflite-runtime is judged by it, the others by LiteRT.
        engine, answers = there if target(name).engines == ("tflite-runtime",) else here
        row = verdict(made, target(name))
        row |= {"engine that ran it": engine, "error": f"{error(answers, truth):.3f}", "seconds": f"{seconds:.0f}"}
        rows.append({"target": name, **row, "versions": versions()})
    return rows


def verdict(made: Conversion, machine: Target) -> dict[str, Any]:
    """Return what the check says of a file."""
    found = check_file(made.tflite, machine, run=False)
    kinds = sorted({one.op for one in found.verdicts if one.runs_on == "cpu"}) if machine.accelerator else []
    return {
        "outcome": "runs" if found.good else "refused",
        "ops": len(found.verdicts),
        **{place: found.counts.get(place, 0) for place in ("edgetpu", "gpu", "cpu")},
        "left to the processor": " ".join(kinds),
        "replaced": len(made.report.replaced),
        "bytes": len(made.tflite),
        "why": "" if found.good else found.reasons(),
    }


def _complete() -> None:
    """Every target is in one group."""
    grouped = {name for names in MAKERS.values() for name in names}
    missing = [one.name for one in TARGETS if one.name not in grouped]
    if missing:
        raise SystemExit(f"These targets are in no group: {', '.join(missing)}")


if __name__ == "__main__":
    _complete()
    main()
