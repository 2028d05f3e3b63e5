"""Claim: `edgeinfer-convert` takes at most 1.5 times the time and 1.3 times the peak memory of the bare converter.

    EDGEINFER_TEST_DATA=... python benchmarks/convert_cost.py

Both load MobileNetV2 from the same `.h5`, read the same 100 photos, resize them with the same filter and write an int8
file; process start included. Peak memory is the sum of PSS over the process tree, sampled every 20 ms. The two take
turns.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
from record import test_data, versions, write_rows

SAMPLES = 100


def bare(model: Path, photos: Path, output: Path) -> None:
    """Convert with TensorFlow's converter alone, as a short script would."""
    import keras
    import tensorflow as tf
    from PIL import Image

    class Depthwise(keras.layers.DepthwiseConv2D):  # type: ignore[misc]
        """Reads the config that Keras 2 wrote."""

        @classmethod
        def from_config(cls, config: dict[str, object]) -> object:
            """Leave out the key that Keras 3 does not know."""
            config.pop("groups", None)
            return cls(**config)

    loaded = keras.models.load_model(model, compile=False, custom_objects={"DepthwiseConv2D": Depthwise})
    height, width = loaded.input_shape[1:3]

    def samples() -> object:
        for path in sorted(photos.glob("*.jpg"))[:SAMPLES]:
            image = Image.open(path).convert("RGB")
            steps = (image.width / width, 0, 0, 0, image.height / height, 0)
            small = image.transform((width, height), Image.Transform.AFFINE, steps, Image.Resampling.BILINEAR)
            yield [((np.asarray(small, dtype=np.float32) - 127.5) / 127.5)[None]]

    converter = tf.lite.TFLiteConverter.from_keras_model(loaded)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = samples
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    output.write_bytes(converter.convert())


def measure(command: list[str]) -> tuple[float, float]:
    """Run a command; return seconds and the peak of the tree's PSS in MiB."""
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    start = time.perf_counter()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    peak = 0
    watched = psutil.Process(process.pid)
    while process.poll() is None:
        total = 0
        try:
            for one in [watched, *watched.children(recursive=True)]:
                total += one.memory_full_info().pss
        except psutil.NoSuchProcess:
            pass
        peak = max(peak, total)
        time.sleep(0.02)
    if process.returncode != 0:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return time.perf_counter() - start, peak / 2**20


def main() -> None:
    """Measure both in turn and write one row each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--bare", nargs=3, type=Path, metavar=("MODEL", "PHOTOS", "OUTPUT"), help="for the child")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    if options.bare:
        bare(*options.bare)
        return
    data = test_data()
    model = data / "keras_imagenet" / "mobilenet_v2_1.0_224_from_tflite.h5"
    with tempfile.TemporaryDirectory() as name:
        photos = Path(name) / "photos"
        photos.mkdir()
        for path in sorted((data / "imagenet_sample").glob("*.jpg"))[:SAMPLES]:
            (photos / path.name).symlink_to(path)
        commands = {
            "bare converter": [sys.executable, __file__, "--bare", str(model), str(photos), f"{name}/bare.tflite"],
            "edgeinfer-convert": [
                *(sys.executable, "-m", "converters.cli", str(model), "--calibration", str(photos)),
                *("--normalization", "127.5", "127.5", "--samples", str(SAMPLES), "--no-verify"),
                *("-o", f"{name}/ours.tflite"),
            ],
        }
        measured: dict[str, list[tuple[float, float]]] = {key: [] for key in commands}
        for _ in range(options.rounds):
            for key, command in commands.items():
                measured[key].append(measure(command))
    medians = {key: np.median(np.array(series), axis=0) for key, series in measured.items()}
    base = medians["bare converter"]
    rows = [
        {
            "command": key,
            "rounds": options.rounds,
            "seconds_median": f"{medians[key][0]:.2f}",
            "seconds_all": " ".join(f"{seconds:.2f}" for seconds, _ in series),
            "peak_mib_median": f"{medians[key][1]:.0f}",
            "time_ratio": f"{medians[key][0] / base[0]:.3f}",
            "memory_ratio": f"{medians[key][1] / base[1]:.3f}",
            "versions": versions(),
        }
        for key, series in measured.items()
    ]
    write_rows("convert-cost", rows)


if __name__ == "__main__":
    main()
