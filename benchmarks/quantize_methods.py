"""Claim: what equalization, bias correction and narrower ranges bring over plain post-training quantization.

    EDGEINFER_TEST_DATA=... python benchmarks/quantize_methods.py

ResNet-8 of MLPerf Tiny on the 5000 pictures of test5k, calibrated with 200 of train40k; MobileNet 0.25 128, whose
weights were once integers (easier than usual), calibrated with 200 of the 400 photos and judged on the other 200. Three
seeds choose the calibration samples. Every method makes a full int8 file that runs in LiteRT, one thread.

The methods are compared on the same samples. `gained` counts those that only this file answers right, and `lost` those
that only the plain file of the same seed does; `p` is the probability that chance parts them as unevenly (exact
two-sided sign test). `nearer` and `farther` count likewise where only one of the two files answers as the float model,
which needs no labels and sees more. `error` is the root mean square of output differences over that of the float
outputs. Each column of p holds some thirty comparisons, so one or two below 0.05 are what chance gives; the photos of
the seeds overlap.
"""

from __future__ import annotations

import argparse
import csv
import math
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from record import test_data, versions, write_rows

from converters.load import read_keras
from converters.quantize.bias import correct_bias
from converters.quantize.equalize import equalize, find_pairs
from converters.quantize.ptq import ConvertRequest
from converters.quantize.ranges import activation_ranges
from converters.quantize.standard import standard_model
from converters.steps import Ranges
from converters.tflite.process import ConverterProcess
from edgeinfer.dataset import open_dataset
from edgeinfer.preprocess.image import read_image
from edgeinfer.runtime.engines import find_engine, open_interpreter

SEEDS = (0, 1, 2)
SAMPLES = 200


@dataclass(frozen=True, slots=True)
class Case:
    """A model with what calibrates and what judges it."""

    name: str
    model: Any
    split: Callable[[int], tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]]


@dataclass(frozen=True, slots=True)
class Method:
    """What is done before the converter: to the model, and to the ranges."""

    name: str
    equalize: bool = False
    correct_bias: bool = False
    ranges: Ranges | None = None


METHODS = (
    Method("plain"),
    Method("equalize", equalize=True),
    Method("correct bias", correct_bias=True),
    Method("equalize, correct bias", equalize=True, correct_bias=True),
    Method("ranges minmax", ranges="minmax"),
    Method("ranges percentile", ranges="percentile"),
    Method("ranges mse", ranges="mse"),
)


def main() -> None:
    """Convert both models by every method and write one row per model, method and seed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    seeds = parser.parse_args().seeds
    data = test_data()
    rows: list[dict[str, object]] = []
    for case in (resnet(data), mobilenet(data)):
        for seed in seeds:
            rows += measure(case, seed)
    write_rows("quantize-methods", rows)


def resnet(data: Path) -> Case:
    """ResNet-8 on CIFAR-10; its input is 0..255."""
    train, test = (open_dataset(data / "cifar10_jpeg" / f"{one}.npz") for one in ("train40k", "test5k"))
    judged = np.stack([read_image(one) for one in test.sources]).astype(np.float32)

    def split(seed: int) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]:
        chosen = np.random.default_rng(seed).permutation(len(train))[:SAMPLES]
        calibration = np.stack([read_image(train.sources[one]) for one in chosen]).astype(np.float32)
        return calibration, judged, np.asarray(test.truth)

    model = read_keras(data / "mlperf_tiny" / "ic" / "pretrainedResnet.h5", "h5")
    return Case("ResNet-8", standard_model(model), split)


def mobilenet(data: Path) -> Case:
    """MobileNet 0.25 128 on the photos; its input is -1..1, and it counts a background class in front."""
    from PIL import Image

    photos = data / "imagenet_sample"
    with (photos / "labels.csv").open(newline="") as table:
        listed = [row for row in list(csv.reader(table))[1:] if (photos / row[0]).exists()]
    pictures = []
    for name, _ in (row[:2] for row in listed):
        with Image.open(photos / name) as image:
            small = image.convert("RGB").resize((128, 128), Image.Resampling.BILINEAR)
        pictures.append((np.asarray(small, dtype=np.float32) - 127.5) / 127.5)
    everything, truth = np.stack(pictures), np.array([int(row[1]) + 1 for row in listed])

    def split(seed: int) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]:
        order = np.random.default_rng(seed).permutation(len(listed))
        return everything[order[:SAMPLES]], everything[order[SAMPLES:]], truth[order[SAMPLES:]]

    model = read_keras(data / "keras_imagenet" / "mobilenet_v1_0.25_128_from_tflite.h5", "h5")
    return Case("MobileNet 0.25 128", standard_model(model), split)


def measure(case: Case, seed: int) -> list[dict[str, object]]:
    """Make and run the float file and one int8 file per method."""
    calibration, judged, truth = case.split(seed)
    # Pixels span the whole range on a device, whatever 200 pictures hold.
    calibration = calibration.copy()
    calibration[0].flat[0], calibration[0].flat[-1] = judged.min(), judged.max()
    rows: list[dict[str, object]] = []
    installed = versions()
    with tempfile.TemporaryDirectory() as name, ConverterProcess() as process:
        folder = Path(name)
        np.save(folder / "calibration.npy", calibration)
        floats = answers(convert(process, case.model, folder, ()), judged)
        plain: NDArray[np.int64] | None = None
        for method in METHODS:
            model = equalize(case.model) if method.equalize else case.model
            model = correct_bias(model, calibration) if method.correct_bias else model
            ranges = () if method.ranges is None else activation_ranges(model, calibration, method.ranges)
            tflite = convert(process, model, folder, ranges, (folder / "calibration.npy",))
            found = answers(tflite, judged)
            says, exact = found.argmax(axis=1), floats.argmax(axis=1)
            plain = says if plain is None else plain
            gained, lost = parted(says == truth, plain == truth)
            nearer, farther = parted(says == exact, plain == exact)
            rows.append(
                {
                    "model": case.name,
                    "method": method.name,
                    "seed": seed,
                    "calibration": len(calibration),
                    "samples": len(judged),
                    "top1_float": f"{(exact == truth).mean():.4f}",
                    "top1_int8": f"{(says == truth).mean():.4f}",
                    "gained": gained,
                    "lost": lost,
                    "p": f"{sign_test(gained, lost):.3f}",
                    "nearer": nearer,
                    "farther": farther,
                    "p_nearer": f"{sign_test(nearer, farther):.4f}",
                    "agreement": f"{(says == exact).mean():.4f}",
                    "error": f"{np.sqrt(np.square(found - floats).mean() / np.square(floats).mean()):.4f}",
                    "pairs": len(find_pairs(case.model)[0]),
                    "versions": installed,
                }
            )
            print({key: value for key, value in rows[-1].items() if key != "versions"}, flush=True)
    return rows


def parted(good: NDArray[np.bool_], good_before: NDArray[np.bool_]) -> tuple[int, int]:
    """Return how many samples became good, and how many are no longer."""
    return int((good & ~good_before).sum()), int((good_before & ~good).sum())


def sign_test(gained: int, lost: int) -> float:
    """Return the two-sided probability that equal chances part as unevenly as this.

    Source: McNemar 1947, exact form: the binomial distribution with p = 1/2.
    """
    count = gained + lost
    tail = sum(math.comb(count, one) for one in range(min(gained, lost) + 1))
    return min(1.0, 2 * tail / float(2**count))


def convert(
    process: ConverterProcess,
    model: Any,
    folder: Path,
    ranges: tuple[tuple[str, float, float], ...],
    calibration: Sequence[Path] = (),
) -> bytes:
    """Return the int8 file of a model, or its float file where nothing calibrates."""
    path = folder / "model.keras"
    model.save(path)
    process.load(path)
    request = ConvertRequest(
        folder / "model.tflite",
        scheme="int8" if calibration else "float32",
        io="int8" if calibration else "float32",
        calibration=tuple(calibration),
        ranges=ranges,
    )
    process.convert(request)
    return request.output.read_bytes()


def answers(tflite: bytes, samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return what a file says of every sample, in LiteRT: (n, classes) as floats."""
    interpreter = open_interpreter(find_engine("litert"), tflite)
    (given,), (answer,) = interpreter.get_input_details(), interpreter.get_output_details()
    made = []
    for one in samples:
        values = one[None]
        if given["dtype"] != np.float32:
            scale, zero_point = given["quantization"]
            values = np.clip(np.round(values / scale) + zero_point, -128, 127).astype(given["dtype"])
        interpreter.tensor(given["index"])()[...] = values
        interpreter.invoke()
        result = interpreter.get_tensor(answer["index"])[0]
        scale, zero_point = answer["quantization"]
        made.append(result if result.dtype == np.float32 else (result.astype(np.float32) - zero_point) * scale)
    return np.stack(made)


if __name__ == "__main__":
    main()
