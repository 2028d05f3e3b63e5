"""Claim: what a public SSD finds on the 128 shared COCO pictures, and that the figures are those of COCO's program.

    EDGEINFER_TEST_DATA=... python benchmarks/ssd_map.py --device-python .venv/device/bin/python

One row a filter and engine. `coco_map50` and `coco_map50_95` are what pycocotools says of the very same boxes. The
label file has a class in front that the model does not count, so its first line is left out.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import subprocess
import sys
from typing import Any

import numpy as np
from record import test_data, versions, write_rows

from edgeinfer import DetectionOptions, Resize, detector, read_labels
from edgeinfer.annotations.classes import match_labels
from edgeinfer.annotations.formats import open_data
from edgeinfer.annotations.truth import DetectionData
from edgeinfer.evaluate import evaluate
from edgeinfer.model.specs import Filter

FILTERS: tuple[Filter, ...] = ("bilinear", "bilinear-antialias")
LEAST = DetectionOptions(confidence=0.001)


def main() -> None:
    """Measure both filters in both engines, compare with COCO's program, write one row each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--device-python", help="interpreter of the device's environment; without it only this one")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps([measure(name) for name in FILTERS]))
        return
    data, labels = opened()
    rows = []
    for python in (sys.executable, options.device_python):
        if python is None:
            continue
        done = subprocess.run([python, __file__, "--child"], check=True, stdout=subprocess.PIPE, text=True)
        for measured in json.loads(done.stdout):
            answers = [np.array(one, np.float64).reshape(-1, 6) for one in measured.pop("answers")]
            map50, map50_95 = coco_figures(data, match_labels(data, labels), answers)
            shares = {"map50": measured["map50"], "map50_95": measured["map50_95"]}
            others = {"coco_map50": map50, "coco_map50_95": map50_95}
            row = {key: f"{value:.6f}" for key, value in {**shares, **others}.items()}
            rows.append({**measured, **row, "versions": versions(python)})
    write_rows("ssd-map", rows)


def opened() -> tuple[DetectionData, tuple[str, ...]]:
    """Return the pictures and the names of the model's classes."""
    data = open_data(test_data() / "coco128", task="detection")
    if not isinstance(data, DetectionData):
        raise SystemExit("The shared pictures have no boxes.")
    return data, read_labels(test_data() / "detection" / "COCO_labels.txt")[1:]


def measure(name: Filter) -> dict[str, Any]:
    """Return one row, with the boxes of every picture in it: x, y, x, y, confidence, class."""
    data, labels = opened()
    path = test_data() / "detection" / "ssd_mobilenet_v1_coco_quant_detect.tflite"
    detect = detector(path, labels=labels, options=LEAST, resize=Resize("stretch", name))
    result = evaluate(detect, data)
    found = [detect(source) for source in data.sources]
    answers = [
        np.column_stack([one.xyxy.astype(np.float64), one.confidence.astype(np.float64), one.class_id]).tolist()
        for one in found
    ]
    low, high = result.map50_interval
    return {
        "filter": name,
        "engine": detect.runtime.engine.name,
        "pictures": result.samples,
        "classes": len(result.class_map50_95),
        "boxes": sum(len(one) for one in answers),
        "map50": result.map50,
        "map50_95": result.map50_95,
        "map50_interval": f"{low:.3f} to {high:.3f}",
        "invoke_p50_ms": f"{result.timing.invoke.p50:.1f}",
        "answers": answers,
    }


def coco_figures(data: DetectionData, numbers: Any, answers: list[Any]) -> tuple[float, float]:
    """Return mAP50 and mAP50-95 of COCO's own program.

    Args:
        data: Pictures and boxes.
        numbers: (classes,) the model's number of each class of the data.
        answers: One a picture, (n, 6): x, y, x, y, confidence, the model's class.
    """
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def row(picture: int, class_id: float, box: Any) -> dict[str, Any]:
        size = [float(box[0]), float(box[1]), float(box[2] - box[0]), float(box[3] - box[1])]
        area = size[2] * size[3]
        return {"image_id": picture, "category_id": int(class_id) + 1, "bbox": size, "area": area, "iscrowd": 0}

    def index(rows: list[dict[str, Any]]) -> Any:
        coco = COCO()
        coco.dataset = {
            "images": [{"id": number} for number in range(1, len(data) + 1)],
            "categories": [{"id": int(number) + 1, "name": str(number)} for number in numbers],
            "annotations": [{"id": number, **one} for number, one in enumerate(rows, start=1)],
        }
        coco.createIndex()
        return coco

    truths, found = [], []
    for picture, (truth, answer) in enumerate(zip(data.truth, answers, strict=True), start=1):
        boxes = zip(numbers[truth.class_id], truth.xyxy, strict=True)
        truths += [row(picture, class_id, box) for class_id, box in boxes]
        found += [{**row(picture, one[5], one), "score": float(one[4])} for one in answer]
    with contextlib.redirect_stdout(io.StringIO()):
        run = COCOeval(index(truths), index(found), "bbox")
        run.evaluate()
        run.accumulate()
        run.summarize()
    return float(run.stats[1]), float(run.stats[0])


if __name__ == "__main__":
    main()
