"""Claim: detection in tiles, and of larger frames, grows no faster than n log n.

    python benchmarks/tiles_growth.py [--accuracy]

Two series with the shared SSD MobileNet v1: 1 to 100 tiles of a 3840x2160 frame (`tiles`), and one call on frames of
320x180 to 3840x2160 (`pixels`). A third one shows what merging alone takes of that: ten boxes a tile (`boxes`). Times
are the processor's, with one thread: they do not grow when other programs run. A step is measured against the one
before: `worse_than_nlogn` is how many times more it grew than n log n did. Values up to 1 hold the claim, and the
program ends with 1 where one of the first two series is above `--limit`.

With `--accuracy`: mAP of 2 x 2 tiles on the 128 shared pictures, by the way in which boxes are merged.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from frames import camera_frame
from numpy.typing import NDArray
from record import test_data, versions, write_rows

from edgeinfer import DetectionOptions, Detections, detector, read_image, read_labels
from edgeinfer.annotations.classes import match_labels
from edgeinfer.annotations.formats import open_data
from edgeinfer.annotations.truth import DetectionData
from edgeinfer.metrics.average_precision import Found, Matches, Wanted, average_precision, box_iou, match, pool
from edgeinfer.preprocess.geometry import Box, Size
from edgeinfer.tiling import Tiles, merge_tiles, tiled

GRIDS = ((1, 1), (2, 1), (2, 2), (4, 2), (4, 4), (8, 4), (8, 8), (10, 10))
FRAMES = ((320, 180), (640, 360), (1280, 720), (1920, 1080), (3840, 2160))
UHD = FRAMES[-1]
BOXES_A_TILE = 10


def found_in(region: Box, rng: np.random.Generator) -> Detections:
    """Return small boxes of one class that may touch the region's borders."""
    left, top, right, bottom = region
    size = np.array([right - left, bottom - top])
    corner = rng.uniform(0, 0.9, (BOXES_A_TILE, 2)) * size + (left, top)
    far = np.minimum(corner + rng.uniform(0.05, 0.2, (BOXES_A_TILE, 2)) * size, (right, bottom))
    sure = np.sort(rng.uniform(0.3, 1, BOXES_A_TILE).astype(np.float32))[::-1]
    return Detections(np.concatenate([corner, far], axis=1).astype(np.float32), sure, np.zeros(BOXES_A_TILE, np.int64))


def merging(columns: int, rows: int) -> Callable[[], object]:
    """Return a call that merges what was found in so many tiles and in the whole."""
    rng = np.random.default_rng(columns * rows)
    regions = [*Tiles(columns=columns, rows=rows).regions(UHD), (0, 0, *UHD)]
    found = [(found_in(region, rng), region) for region in regions]
    return partial(merge_tiles, found, UHD)


def medians(calls: dict[int, Callable[[], object]], rounds: int) -> dict[int, tuple[float, float]]:
    """Time all calls in turn, after one of each as warm-up; median and p95, milliseconds of the processor."""
    times: dict[int, list[int]] = {count: [] for count in calls}
    for turn in range(rounds + 1):
        for count, call in calls.items():
            start = time.process_time_ns()
            call()
            if turn:
                times[count].append(time.process_time_ns() - start)
    return {
        count: (float(np.median(taken)) / 1e6, float(np.percentile(taken, 95)) / 1e6) for count, taken in times.items()
    }


def rows_of(series: str, measured: dict[int, tuple[float, float]]) -> list[dict[str, object]]:
    """Return one row a count, each against the one before."""
    rows: list[dict[str, object]] = []
    before = 0
    for count, (median, p95) in measured.items():
        worse = 0.0
        if before:
            allowed = count * math.log2(count + 1) / (before * math.log2(before + 1))
            worse = median / measured[before][0] / allowed
        rows.append(
            {
                "series": series,
                "count": count,
                "median_ms": f"{median:.3f}",
                "p95_ms": f"{p95:.3f}",
                "worse_than_nlogn": f"{worse:.2f}",
                "versions": versions(),
            }
        )
        before = count
    return rows


def growth(data: Path, rounds: int) -> list[dict[str, object]]:
    """Measure the three series."""
    pipeline = detector(data / "detection" / "ssd_mobilenet_v1_coco_quant_detect.tflite", threads=1)
    frame = camera_frame(data, UHD)
    in_tiles: dict[int, Callable[[], object]] = {}
    for columns, down in GRIDS:
        look = tiled(pipeline, Tiles(columns=columns, rows=down, whole=False))
        in_tiles[columns * down] = partial(look, frame)
    frames: dict[int, Callable[[], object]] = {
        width * height: partial(pipeline, camera_frame(data, (width, height))) for width, height in FRAMES
    }
    merged = {(columns * down + 1) * BOXES_A_TILE: merging(columns, down) for columns, down in GRIDS[1:]}
    rows = rows_of("tiles", medians(in_tiles, rounds))
    rows += rows_of("pixels", medians(frames, 10 * rounds))
    return rows + rows_of("boxes", medians(merged, 10 * rounds))


def accuracy(data: Path) -> list[dict[str, object]]:
    """Measure mAP with and without tiles, on the boxes of one run."""
    pipeline = detector(
        data / "detection" / "ssd_mobilenet_v1_coco_quant_detect.tflite",
        labels=read_labels(data / "coral" / "coco_labels.txt"),
        options=DetectionOptions(confidence=0.05),
        threads=1,
    )
    pictures = open_data(data / "coco128", task="detection")
    if not isinstance(pictures, DetectionData):
        raise SystemExit("The shared COCO pictures are no detection data.")
    kinds = (
        "the whole picture",
        "2 x 2 tiles and the whole, by IoU alone",
        "2 x 2 tiles and the whole, cut boxes apart",
    )
    matches: dict[str, list[Matches]] = {kind: [] for kind in kinds}
    numbers: NDArray[np.int64] | None = None
    for source, truth in zip(pictures.sources, pictures.truth, strict=True):
        image = read_image(source)
        size: Size = (image.shape[1], image.shape[0])
        whole: Box = (0, 0, *size)
        regions = [*Tiles(columns=2, rows=2).regions(size), whole]
        found = [(pipeline(image, region=region), region) for region in regions]
        if numbers is None:
            numbers = match_labels(pictures, found[-1][0].labels)
        # A box is cut only at a border of its region, so boxes that come from the whole picture are all whole.
        uncut = [(one, whole) for one, _ in found]
        results = (found[-1][0], merge_tiles(uncut, size), merge_tiles(found, size))
        for kind, result in zip(kinds, results, strict=True):
            similarity = box_iou(result.xyxy, truth.xyxy, truth.crowd)
            wanted = Wanted(numbers[truth.class_id], truth.crowd, truth.crowd)
            matches[kind].append(match(similarity, Found(result.class_id, result.confidence), wanted))
    rows: list[dict[str, object]] = []
    for kind, compared in matches.items():
        precision = average_precision(pool(compared))[0]
        rows.append(
            {
                "boxes": kind,
                "pictures": len(compared),
                "map50": f"{100 * precision[:, 0].mean():.1f}",
                "map50_95": f"{100 * precision.mean():.1f}",
                "versions": versions(),
            }
        )
    return rows


def main() -> None:
    """Measure, write the rows, and say whether the claim holds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--limit", type=float, default=1.0)
    parser.add_argument("--accuracy", action="store_true")
    options = parser.parse_args()
    if options.accuracy:
        write_rows("tiles-accuracy", accuracy(test_data()))
        return
    rows = growth(test_data(), options.rounds)
    write_rows("tiles-growth", rows)
    claimed = [row for row in rows if row["series"] != "boxes"]
    worst = max(claimed, key=lambda row: float(str(row["worse_than_nlogn"])))
    print(f"The steepest step: {worst['series']} to {worst['count']}, {worst['worse_than_nlogn']} of n log n.")
    if float(str(worst["worse_than_nlogn"])) > options.limit:
        sys.exit(1)


if __name__ == "__main__":
    main()
