"""Claims: a process of its own for the model costs little of a frame, and no frame is copied on the way to it.

    EDGEINFER_TEST_DATA=... python benchmarks/edgetpu_isolation.py

Nothing here was measured on an Edge TPU. Two pairs, each in this process and in one of its own, one thread, blocks that
take turns; a frame is: write the picture into the input tensor, invoke, read the output.

* "stand-in": `tests/edgetpu_standin` through the engine's real delegate interface; what it computes is small and the
  same in both, so that the difference is what the second process costs: two messages, two changes of process, one more
  copy of the input and output, which the interpreter's own memory needs.
* "cpu": a public model on the CPU, for what this is of a frame with work in it.
"""

from __future__ import annotations

import importlib
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from record import test_data, versions, write_rows  # noqa: E402

from edgeinfer.runtime.edgetpu.process import IsolatedInterpreter  # noqa: E402
from edgeinfer.runtime.edgetpu.worker import Job  # noqa: E402
from edgeinfer.runtime.engines import Interpreter, find_engine, load_delegate, open_interpreter  # noqa: E402

BLOCKS, FRAMES, WARMUP = 40, 50, 5
SIDES = (96, 224, 320, 640)


def frame(interpreter: Interpreter) -> Callable[[], Any]:
    """Return what one frame is: picture in, invoke, answer out."""
    (given,), made = interpreter.get_input_details(), interpreter.get_output_details()
    picture = np.random.default_rng(0).integers(0, 256, given["shape"], dtype=np.uint8)
    into, out = interpreter.tensor(given["index"]), made[0]["index"]

    def run() -> Any:
        into()[...] = picture
        interpreter.invoke()
        return interpreter.get_tensor(out)

    return run


def compare(name: str, side: int, here: Interpreter, apart: Interpreter) -> list[dict[str, object]]:
    """Measure a pair in turns and return its two rows."""
    variants = {"this process": frame(here), "a process of its own": frame(apart)}
    if not np.array_equal(*(run() for run in variants.values())):
        raise SystemExit(f"{name}: the two do not answer alike")
    times: dict[str, list[int]] = {variant: [] for variant in variants}
    for _ in range(BLOCKS):
        for variant, run in variants.items():
            for number in range(FRAMES + WARMUP):
                start = time.perf_counter_ns()
                run()
                if number >= WARMUP:
                    times[variant].append(time.perf_counter_ns() - start)
    base = float(np.median(times["this process"]))
    engine = find_engine()
    return [
        {
            "model": name,
            "input": f"{side}x{side}x3 uint8",
            "runs in": variant,
            "engine": f"{engine.name} {engine.version}",
            "threads": 1,
            "frames": len(series),
            "median_us": f"{np.median(series) / 1e3:.1f}",
            "p95_us": f"{np.percentile(series, 95) / 1e3:.1f}",
            "added_us": f"{(np.median(series) - base) / 1e3:.1f}",
            "edge_tpu": "none: stand-in library" if name == "stand-in" else "none: CPU",
            "versions": versions(),
        }
        for variant, series in times.items()
    ]


def main() -> None:
    """Measure and write two rows for each pair."""
    standin = importlib.import_module("edgetpu_standin")
    engine = find_engine()
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as place, ExitStack() as stack:
        folder = Path(place)
        library = str(standin.build(folder))
        delegate = load_delegate(engine, library, {})
        for side in SIDES:
            pair = standin.edgetpu_pair(folder, shape=(1, side, side, 3), dtype="uint8")
            here = open_interpreter(engine, pair.compiled, delegate=delegate)
            apart = stack.enter_context(isolated(pair.compiled, Job("", engine.name, 1, library)))
            rows += compare("stand-in", side, here, apart)
        path = test_data() / "coral" / "mobilenet_v1_0.25_128_quant.tflite"
        apart = stack.enter_context(isolated(path, Job("", engine.name, 1)))
        rows += compare(path.stem, 128, open_interpreter(engine, path), apart)
    write_rows("edgetpu-isolation", rows)


def isolated(path: Path, job: Job) -> IsolatedInterpreter:
    """Return a model in a process of its own; what it costs to watch it is in the figures."""
    return IsolatedInterpreter(path, job, deadline_s=60.0, first_deadline_s=60.0)


if __name__ == "__main__":
    main()
