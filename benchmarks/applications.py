"""Claim: seven networks of `keras.applications` lose half of their multiplications and run in int8 in both engines.

    EDGEINFER_DEVICE_PYTHON=... python benchmarks/applications.py [--models MobileNetV2 ...] [--size 224]

The weights are random, so this says nothing of accuracy: only whether pruning, conversion and both engines cope with
these networks, what pruning saves, and whether int8 answers follow the float ones. Normalization layers get statistics
measured on seeded pictures and then disturbed, and the last layer is scaled until the classes differ from picture to
picture; otherwise whole layers would be 0 or 1, and exact by luck. The same is done to the pruned network in place of
the training. Every finished row is written at once, and rows that stand in the file are not run again.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from record import read_rows, versions, write_rows

from converters import Card, Conversion, Prune, Quantize, Recipe, convert
from converters.account import interleaved
from converters.graph.channels import ChannelGroup
from converters.graph.cost import Costs, costs
from converters.graph.flat import flat_model
from converters.prune.channel import prune_channels
from edgeinfer.runtime.runtime import Runtime

NAME = "applications"
SEED = 0
SHARE = 0.5
CALIBRATE, SETTLE, JUDGE = 16, 8, 16  # pictures
LOGITS = 4.0  # standard deviation of a class from picture to picture
# Normalization that the caller does; None where the network's own first layers do it.
MODELS: dict[str, tuple[float, float] | None] = {
    "MobileNetV2": (127.5, 127.5),
    "MobileNetV3Small": None,
    "ResNet50": (127.5, 127.5),
    "EfficientNetB0": None,
    "DenseNet121": (127.5, 127.5),
    "NASNetMobile": (127.5, 127.5),
    "ConvNeXtTiny": None,
}
ANSWER = """
import sys
import numpy as np
from edgeinfer.runtime.runtime import Runtime
model, inputs, outputs = sys.argv[1:]
runtime = Runtime(model, threads=1)
np.save(outputs, np.concatenate([next(iter(runtime(one).values())).copy() for one in np.load(inputs)]))
print(runtime.engine.name, runtime.engine.version)
"""


def main() -> None:
    """Run what has no row yet, and write each row as it comes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--models", nargs="*", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--size", type=int, default=224, help="of the pictures, pixels")
    parser.add_argument("--keep", type=Path, help="folder for the int8 files")
    arguments = parser.parse_args()
    device_python = os.environ.get("EDGEINFER_DEVICE_PYTHON")
    if not device_python:
        raise SystemExit("EDGEINFER_DEVICE_PYTHON names no interpreter of the device's environment.")
    rows = read_rows(NAME)
    for name in arguments.models:
        if not any(row["model"] == name and row["input"] == str(arguments.size) for row in rows):
            with tempfile.TemporaryDirectory(prefix="edgeinfer-") as folder:
                rows.append(measure(name, arguments.size, arguments.keep or Path(folder), device_python))
            write_rows(NAME, rows)


def measure(name: str, size: int, folder: Path, device_python: str) -> dict[str, Any]:
    """Prune and convert one network, and return its row."""
    import keras

    started = time.perf_counter()
    keras.backend.clear_session()
    own = MODELS[name]
    known = own_input(pictures(SETTLE, size, SEED), own)
    original = flat_model(getattr(keras.applications, name)(input_shape=(size, size, 3), weights=None))
    disturb(original, np.random.default_rng(SEED))
    settle(original, known)
    began = time.perf_counter()
    pruned = prune_channels(original, Prune(macs=SHARE))
    pruning = time.perf_counter() - began
    settle(pruned.model, known)
    before, after = costs(original), costs(pruned.model)
    frozen = [group for group in pruned.groups if group.frozen]
    whole = int8(original, size, own)
    half = int8(pruned.model, size, own)
    latencies = interleaved([whole.tflite, half.tflite])
    judged = own_input(pictures(JUDGE, size, SEED + 2), own)
    truth, truth_whole = np.asarray(pruned.model(judged)), np.asarray(original(judged))
    here, answers = answered(half, judged)
    _, answers_whole = answered(whole, judged)
    for file, conversion in ((f"{name}-whole.tflite", whole), (f"{name}-half.tflite", half)):
        conversion.save(folder / file)
    there, answers_there = on_device(folder, f"{name}-half.tflite", judged, device_python)
    row: dict[str, Any] = {
        "model": name,
        "input": size,
        "macs": before.macs,
        "macs pruned": after.macs,
        "macs %": f"{100 * after.macs / before.macs:.1f}",
        "parameters %": f"{100 * after.parameters / before.parameters:.1f}",
        "groups": len(pruned.groups),
        "frozen": len(frozen),
        "frozen macs %": f"{100 * made_by(frozen, before) / before.macs:.1f}",
        "frozen because": "; ".join(reasons(frozen)),
        "int8 bytes": len(whole.tflite),
        "int8 bytes pruned": len(half.tflite),
        "engines": f"{here}, {there}",
        "samples": JUDGE,
        "agreement %": f"{100 * agreement(answers, truth):.0f}",
        "largest difference": f"{np.abs(answers - truth).max():.3f}",
        "error": f"{error(answers, truth):.3f}",
        "error whole": f"{error(answers_whole, truth_whole):.3f}",
        "agreement device %": f"{100 * agreement(answers_there, truth):.0f}",
        "largest difference device": f"{np.abs(answers_there - truth).max():.3f}",
        "error device": f"{error(answers_there, truth):.3f}",
        "int8 p50 ms": f"{latencies[0].p50:.2f}",
        "int8 pruned p50 ms": f"{latencies[1].p50:.2f}",
        "latency ratio": f"{latencies[1].p50 / latencies[0].p50:.3f}",
        "threads": 1,
        "pruning seconds": f"{pruning:.0f}",
        "seconds": f"{time.perf_counter() - started:.0f}",
        "versions": versions(),
    }
    print(*pruned.notes[:2], sep="\n", flush=True)
    return row


def pictures(count: int, size: int, seed: int) -> NDArray[np.uint8]:
    """Return patches of colour with some noise: (count, size, size, 3). Pure noise would look alike in all of them."""
    from PIL import Image

    rng = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        cells = int(rng.integers(2, 12))
        coarse = rng.normal(rng.uniform(64, 192, 3), rng.uniform(20, 70), (cells, cells, 3))
        picture = Image.fromarray(coarse.clip(0, 255).astype(np.uint8)).resize((size, size), Image.Resampling.BILINEAR)
        made.append(np.asarray(picture) + rng.normal(0, rng.uniform(2, 12), (size, size, 3)))
    return np.stack(made).clip(0, 255).astype(np.uint8)


def own_input(pixels: NDArray[np.uint8], normalization: tuple[float, float] | None) -> NDArray[np.float32]:
    """Return pictures as the Keras model takes them."""
    mean, std = normalization or (0.0, 1.0)
    values: NDArray[np.float32] = ((pixels - np.float32(mean)) / np.float32(std)).astype(np.float32)
    return values


def disturb(model: Any, rng: np.random.Generator) -> None:
    """Give every vector of weights values around those that Keras begins with. Kernels are random already."""
    import keras

    keras.utils.set_random_seed(SEED)
    for layer in model.layers:
        for weight in layer.weights:
            if type(layer).__name__ == "Normalization":
                continue
            shape = tuple(weight.shape)
            if type(layer).__name__ == "LayerScale":
                weight.assign(rng.uniform(0.1, 0.4, shape))  # Keras begins with 1e-6: blocks that do nothing
            elif weight.name == "gamma":
                weight.assign(rng.uniform(0.4, 0.8, shape))
            elif weight.name == "beta":
                weight.assign(rng.normal(0.5, 0.2, shape))
            elif weight.name == "bias":
                weight.assign(rng.normal(0, 0.2, shape))
            elif len(shape) > 1:
                spread = 1 / np.sqrt(np.prod(shape[:-1]) if "Depthwise" not in type(layer).__name__ else shape[0] ** 2)
                weight.assign(rng.normal(0, spread, shape))


def settle(model: Any, inputs: NDArray[np.float32]) -> None:
    """Measure what BatchNormalization layers should know of the data, disturb it, and scale the last layer."""
    import keras

    rng = np.random.default_rng(SEED + 1)
    norms = [layer for layer in model.layers if type(layer).__name__ == "BatchNormalization"]
    usual = [(layer, layer.momentum) for layer in norms]
    rates = [(layer, layer.rate) for layer in model.layers if type(layer).__name__ == "Dropout"]
    if norms:
        for layer, _ in usual:
            layer.momentum = 0.0
        for layer, _ in rates:
            layer.rate = 0.0
        model(inputs, training=True)
        for layer, rate in rates:
            layer.rate = rate
    for layer, momentum in usual:
        layer.momentum = momentum
        mean, variance = np.asarray(layer.moving_mean), np.asarray(layer.moving_variance)
        layer.moving_mean.assign(mean + 0.1 * np.sqrt(variance) * rng.normal(size=mean.shape))
        layer.moving_variance.assign(variance * rng.uniform(0.8, 1.25, mean.shape))
    last = [layer for layer in model.layers if getattr(layer, "kernel", None) is not None][-1]
    features = np.asarray(keras.Model(model.input, last.input)(inputs)).reshape(len(inputs), -1)
    logits = features @ np.asarray(last.kernel).reshape(features.shape[1], -1)
    factor = LOGITS / logits.std(axis=0).mean()
    last.kernel.assign(np.asarray(last.kernel) * factor)
    last.bias.assign(-factor * logits.mean(axis=0))


def card(normalization: tuple[float, float] | None) -> Card:
    """Return the card of a network with this normalization."""
    return Card(normalization=normalization or (0, 1))


def int8(model: Any, size: int, normalization: tuple[float, float] | None) -> Conversion:
    """Convert to full int8 for both engines."""
    return convert(
        model,
        pictures(CALIBRATE, size, SEED + 1),
        recipe=Recipe((Quantize("int8", samples=CALIBRATE),), target="raspberrypi-tflite", seed=SEED),
        card=card(normalization),
    )


def answered(conversion: Conversion, inputs: NDArray[np.float32]) -> tuple[str, NDArray[np.float32]]:
    """Run a file in this environment's engine; returns its name and the outputs."""
    runtime = Runtime(conversion.tflite, threads=1)
    outputs = np.concatenate([next(iter(runtime(one).values())).copy() for one in inputs])
    return f"{runtime.engine.name} {runtime.engine.version}", outputs


def on_device(folder: Path, file: str, inputs: NDArray[np.float32], python: str) -> tuple[str, NDArray[np.float32]]:
    """Run a file in the device's engine; returns its name and the outputs."""
    np.save(folder / "inputs.npy", inputs)
    paths = [str(folder / one) for one in (file, "inputs.npy", "outputs.npy")]
    said = subprocess.run([python, "-c", ANSWER, *paths], check=True, capture_output=True, text=True).stdout.strip()
    return said, np.load(folder / "outputs.npy")


def agreement(answers: NDArray[np.float32], truth: NDArray[np.float32]) -> float:
    """Return the share of samples with the same largest output."""
    return float((answers.argmax(-1) == truth.argmax(-1)).mean())


def error(answers: NDArray[np.float32], truth: NDArray[np.float32]) -> float:
    """Return the root mean square of the difference over that of the true outputs; strangers differ by 1 and more."""
    return float(np.sqrt(((answers - truth) ** 2).mean() / (truth**2).mean()))


def made_by(groups: Sequence[ChannelGroup], whole: Costs) -> int:
    """Return the multiplications of the layers that make the channels of these groups."""
    makers = {maker for group in groups for maker in group.producers}
    return sum(layer.macs for layer in whole.layers if layer.name in makers)


def reasons(groups: Sequence[ChannelGroup]) -> list[str]:
    """Return why groups stay whole, without the names of layers, each with the number of groups."""
    counted = Counter(re.sub(r"(layer|operation) `[^`]*` ", "", group.frozen.split(", ")[0]) for group in groups)
    return [f"{count}: {reason.strip()}" for reason, count in counted.most_common()]


if __name__ == "__main__":
    main()
