"""Claim: a file that was trained for int8 agrees with its own simulation.

    EDGEINFER_TEST_DATA=... python benchmarks/simulation.py FOLDER

FOLDER is the work folder of a conversion with `Quantize(epochs=...)` of the CIFAR-10 ResNet-8, with the file in it as
`result.tflite`; the case "QAT, from quarter" of `benchmarks/compression.py` leaves one. The simulation has LiteRT's
rounding (XNNPACK); the answer is the first of the largest outputs on both sides, on the 5000 pictures of test5k.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from record import test_data, versions, write_rows

from converters.backend import require_keras
from converters.load import read_keras
from converters.quantize.simulate import simulate
from edgeinfer.dataset import open_dataset
from edgeinfer.intervals import share_interval
from edgeinfer.preprocess.image import read_image
from edgeinfer.runtime.runtime import Runtime


def main() -> None:
    """Answer with both and write one row."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder
    require_keras()
    path = next(folder.glob("*-ready-for-int8.keras"))
    record = json.loads(path.with_suffix(".json").read_text())
    ranges = tuple((str(name), float(low), float(high)) for name, low, high in record["ranges"])
    simulated = simulate(read_keras(path, "keras"), ranges, kernels="xnnpack")
    pictures = np.stack([read_image(one) for one in open_dataset(test_data() / "cifar10_jpeg" / "test5k.npz")])
    runtime = Runtime(folder / "result.tflite", engine="litert", threads=1)
    spec = runtime.outputs[0]
    rows = []
    for picture in pictures:
        runtime.set_input(picture[None].astype(np.float32))
        runtime.invoke()
        rows.append(runtime.raw_output(0)[0])
    file = np.stack(rows)
    floats = simulated.predict(pictures.astype(np.float32), batch_size=250, verbose=0)
    stored = np.clip(np.rint(floats / spec.scale) + spec.zero_point, -128, 127).astype(np.int8)
    same = int((file.argmax(axis=1) == stored.argmax(axis=1)).sum())
    low, high = share_interval(same, len(file))
    row: dict[str, object] = {
        "case": folder.name,
        "samples": len(file),
        "agreement %": f"{100 * same / len(file):.2f}",
        "low %": f"{100 * low:.2f}",
        "high %": f"{100 * high:.2f}",
        "identical rows %": f"{100 * float((file == stored).all(axis=1).mean()):.2f}",
        "engine": f"{runtime.engine.name} {runtime.engine.version}",
        "threads": 1,
        "versions": versions(),
    }
    write_rows("simulation", [row])


if __name__ == "__main__":
    main()
