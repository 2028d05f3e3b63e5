"""Claim: `classifier` on a 1280x720 array costs at most 1.08 times the bare `invoke` of the same interpreter.

    EDGEINFER_TEST_DATA=... python benchmarks/classifier_overhead.py

MobileNetV2 1.0 224, uint8, one thread. Beside it the script that most people write (Pillow, float64, full sort), once
with the same four-pixel bilinear filter and once with Pillow's default. The variants take turns in short blocks, each
after two frames of warm-up, so that all see the same machine and none pays for the caches that another emptied.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from record import test_data, versions, write_rows

from edgeinfer import Runtime, classifier

BLOCKS, FRAMES, WARMUP = 40, 10, 2


def naive(runtime: Runtime, *, same_filter: bool) -> Callable[[NDArray[np.uint8]], int]:
    """Return the script that most people write, on an interpreter of its own."""
    from PIL import Image

    interpreter: Any = runtime.interpreter
    given, wanted = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    _, height, width, _ = given["shape"]

    def answer(frame: NDArray[np.uint8]) -> int:
        image = Image.fromarray(frame)
        if same_filter:
            steps = (frame.shape[1] / width, 0, 0, 0, frame.shape[0] / height, 0)
            small = image.transform((width, height), Image.Transform.AFFINE, steps, Image.Resampling.BILINEAR)
        else:
            small = image.resize((width, height))
        values = (np.asarray(small, dtype=np.float64) - 127.5) / 127.5
        scale, zero_point = given["quantization"]
        stored = np.clip(np.round(values / scale) + zero_point, 0, 255).astype(np.uint8)
        interpreter.set_tensor(given["index"], stored[None])
        interpreter.invoke()
        scale, zero_point = wanted["quantization"]
        scores = scale * (interpreter.get_tensor(wanted["index"])[0].astype(np.float64) - zero_point)
        return int(np.argsort(scores)[::-1][:5][0])

    return answer


def main() -> None:
    """Measure and write one row per variant."""
    path = test_data() / "coral" / "mobilenet_v2_1.0_224_quant.tflite"
    frame = np.random.default_rng(0).integers(0, 256, (720, 1280, 3), dtype=np.uint8)
    bare = Runtime(path, threads=1)
    classify = classifier(Runtime(path, threads=1))
    variants: dict[str, Callable[[], object]] = {
        "bare invoke": bare.invoke,
        "edgeinfer classifier": lambda: classify(frame),
    }
    same, default = (naive(Runtime(path, threads=1), same_filter=same) for same in (True, False))
    variants["naive Pillow + float64, same filter"] = lambda: same(frame)
    variants["naive Pillow + float64, Pillow's default filter"] = lambda: default(frame)
    times: dict[str, list[int]] = {name: [] for name in variants}
    for _ in range(BLOCKS):
        for name, call in variants.items():
            for number in range(FRAMES + WARMUP):
                start = time.perf_counter_ns()
                call()
                if number >= WARMUP:
                    times[name].append(time.perf_counter_ns() - start)
    base = float(np.median(times["bare invoke"]))
    rows = [
        {
            "variant": name,
            "model": path.name,
            "engine": f"{bare.engine.name} {bare.engine.version}",
            "threads": 1,
            "frames": BLOCKS * FRAMES,
            "median_ms": f"{np.median(series) / 1e6:.3f}",
            "p95_ms": f"{np.percentile(series, 95) / 1e6:.3f}",
            "ratio_to_bare_invoke": f"{np.median(series) / base:.3f}",
            "versions": versions(),
        }
        for name, series in times.items()
    ]
    write_rows("classifier-overhead", rows)
    print(classify.timing)


if __name__ == "__main__":
    main()
