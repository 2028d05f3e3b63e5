"""Claim: level with MediaPipe Tasks per picture, at a fraction of its import, start and memory; the same accuracy.

    EDGEINFER_TEST_DATA=... python benchmarks/mediapipe_peer.py --mediapipe .venv/mediapipe/bin/python

Both answer in processes of their own, on the same files and the same decoded 1280x720 picture, one core each (both are
pinned to the same one, so that neither gets a second thread). The processes live side by side and take turns in short
blocks. Start-up is the time from the call of a fresh interpreter to its first answer, in turns too. Memory is the peak
resident set of such a process. The accuracy is top-1 on the 400 shared photos, whose labels count without background.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from frames import camera_frame
from record import test_data, versions, write_rows

from edgeinfer import open_dataset, read_image

ROOT = Path(__file__).resolve().parents[1]
BLOCKS, FRAMES, STARTS = 20, 10, 15
TASKS = ("classifier", "detector")


class Worker:
    """A worker process, pinned to one core."""

    def __init__(self, python: str, who: str, task: str, model: Path, picture: Path) -> None:
        command = [python, str(ROOT / "benchmarks" / "mediapipe_worker.py"), who, task, str(model), str(picture)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "GLOG_minloglevel": "3"}
        self.started = time.perf_counter()
        self.process = subprocess.Popen(
            ["taskset", "-c", "0", *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )
        self.ready = self.read()
        self.start_ms = (time.perf_counter() - self.started) * 1e3

    def read(self) -> dict[str, Any]:
        """Return the next line that the worker says."""
        stream = self.process.stdout
        line = stream.readline() if stream else ""
        if not line:
            raise SystemExit(f"A worker ended: {self.process.args!r}")
        found: dict[str, Any] = json.loads(line)
        return found

    def ask(self, **asked: object) -> dict[str, Any]:
        """Say a line and return the answer."""
        if self.process.stdin:
            self.process.stdin.write(json.dumps(asked) + "\n")
            self.process.stdin.flush()
        return self.read()

    def end(self) -> None:
        """Let it end."""
        self.process.communicate()


def files(data: Path, folder: Path) -> dict[str, Path]:
    """Return the model of each task: the public classifier as it is, the public detector with its metadata written."""
    from converters.metadata import annotate
    from edgeinfer import read_labels
    from edgeinfer.model.metadata import Normalization

    detection = folder / "ssd.tflite"
    published = (data / "detection" / "ssd_mobilenet_v1_coco_quant_detect.tflite").read_bytes()
    labels = read_labels(data / "detection" / "COCO_labels.txt")
    detection.write_bytes(
        annotate(published, task="detection", labels=labels, normalization=Normalization(127.5, 127.5))
    )
    return {"classifier": data / "coral" / "mobilenet_v2_1.0_224_quant.tflite", "detector": detection}


def import_ms(python: str, statement: str) -> float:
    """Return how long a statement takes in a fresh interpreter, without the interpreter's own start."""
    timed = f"import time; start = time.perf_counter(); {statement}; print((time.perf_counter() - start) * 1e3)"
    command = ["taskset", "-c", "0", python, "-c", timed]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return float(subprocess.run(command, check=True, env=environment, capture_output=True).stdout.split()[-1])


def measure(pythons: dict[str, str], task: str, model: Path, picture: Path) -> Iterator[dict[str, object]]:
    """Yield one row per figure of a task."""
    workers = {who: Worker(python, who, task, model, picture) for who, python in pythons.items()}
    times: dict[str, list[int]] = {who: [] for who in workers}
    for block in range(BLOCKS + 1):
        for who, worker in workers.items():
            found = worker.ask(frames=FRAMES)["times"]
            if block:  # the first warms up
                times[who] += found
    for worker in workers.values():
        worker.end()
    starts: dict[str, list[float]] = {who: [] for who in workers}
    peaks: dict[str, list[float]] = {who: [] for who in workers}
    for _ in range(STARTS):
        for who, python in pythons.items():
            fresh = Worker(python, who, task, model, picture)
            starts[who].append(fresh.start_ms)
            peaks[who].append(fresh.ask(frames=FRAMES)["peak_kib"] / 1024)
            fresh.end()
    ms = {who: [one / 1e6 for one in series] for who, series in times.items()}
    for what, unit, series in (
        ("per picture", "ms", ms),
        ("start to first answer", "ms", starts),
        ("peak memory", "MiB", peaks),
    ):
        yield row(task, what, unit, series)


def row(task: str, what: str, unit: str, series: dict[str, list[float]]) -> dict[str, object]:
    """Return one row: both medians and p95, and their ratio."""
    ours, theirs = (statistics.median(series[who]) for who in ("edgeinfer", "mediapipe"))
    return {
        "task": task,
        "figure": what,
        "unit": unit,
        "edgeinfer_median": f"{ours:.3f}",
        "edgeinfer_p95": f"{np.percentile(series['edgeinfer'], 95):.3f}",
        "mediapipe_median": f"{theirs:.3f}",
        "mediapipe_p95": f"{np.percentile(series['mediapipe'], 95):.3f}",
        "ratio": f"{ours / theirs:.3f}",
        "samples": len(series["edgeinfer"]),
    }


def accuracy(pythons: dict[str, str], data: Path, model: Path, folder: Path, picture: Path) -> dict[str, object]:
    """Return the row of top-1 on the shared photos, both on the same decoded pixels."""
    photos = open_dataset(data / "imagenet_sample")
    packed = folder / "photos.npz"
    pixels: dict[str, Any] = {f"{number:04d}": read_image(source) for number, source in enumerate(photos)}
    np.savez(packed, **pixels)
    truth = photos.truth
    if truth is None:
        raise SystemExit("The photos have no labels.")
    shares = {}
    for who, python in pythons.items():
        worker = Worker(python, who, "classifier", model, picture)
        found = np.array(worker.ask(photos=str(packed))["first"])
        worker.end()
        shares[who] = 100 * float((found == truth + 1).mean())
    return {
        "task": "classifier",
        "figure": "top-1",
        "unit": "%",
        "edgeinfer_median": f"{shares['edgeinfer']:.2f}",
        "mediapipe_median": f"{shares['mediapipe']:.2f}",
        "ratio": f"{shares['edgeinfer'] / shares['mediapipe']:.3f}",
        "samples": len(truth),
    }


def main() -> None:
    """Measure both and write one row per figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--mediapipe", default=str(ROOT / ".venv" / "mediapipe" / "bin" / "python"))
    options = parser.parse_args()
    data = test_data()
    pythons = {"edgeinfer": sys.executable, "mediapipe": options.mediapipe}
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        models = files(data, folder)
        picture = folder / "frame.npy"
        np.save(picture, camera_frame(data))
        imports: dict[str, list[float]] = {who: [] for who in pythons}
        statements = {
            "edgeinfer": "from edgeinfer import classifier, detector",
            "mediapipe": "import mediapipe; from mediapipe.tasks.python import vision",
        }
        for _ in range(STARTS):
            for who, python in pythons.items():
                imports[who].append(import_ms(python, statements[who]))
        rows.append(row("both", "import, NumPy included", "ms", imports))
        for task in TASKS:
            rows += measure(pythons, task, models[task], picture)
        rows.append(accuracy(pythons, data, models["classifier"], folder, picture))
    peer = json.loads(
        subprocess.run(
            [options.mediapipe, "-c", "import json, mediapipe; print(json.dumps(mediapipe.__version__))"],
            check=True,
            capture_output=True,
        ).stdout
    )
    for one in rows:
        one |= {"threads": "one core", "mediapipe": peer, "versions": versions()}
    write_rows("mediapipe-peer", rows)


if __name__ == "__main__":
    main()
