"""Find small objects: tile by tile and in the whole picture, beside the whole picture alone.

    python demos/tiles.py harbour.jpg --model ssd.tflite --labels coco_labels.txt --columns 3 --rows 2

Without arguments it takes the model and picture of the shared test data (`EDGEINFER_TEST_DATA`).
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from time import perf_counter

import numpy as np

from edgeinfer import DetectionOptions, Tiles, detector, draw, read_image, read_labels, tiled

DATA = Path(os.environ.get("EDGEINFER_TEST_DATA", "."))
OUTPUT = Path(__file__).parent / "output"


def main() -> None:
    """Find them both ways, and draw one below the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", nargs="?", type=Path, default=DATA / "coco128/images/train2017/000000000544.jpg")
    parser.add_argument("--model", type=Path, default=DATA / "detection/ssd_mobilenet_v1_coco_quant_detect.tflite")
    parser.add_argument("--labels", type=Path, default=DATA / "coral/coco_labels.txt")
    parser.add_argument("--columns", type=int, default=3)
    parser.add_argument("--rows", type=int, default=2)
    parser.add_argument("--confidence", type=float, default=0.4, help="boxes that are less sure are left out")
    parser.add_argument("--output", type=Path, default=OUTPUT / "tiles.png", help="where the drawn picture goes")
    options = parser.parse_args()

    image = read_image(options.picture)
    detect = detector(
        options.model, labels=read_labels(options.labels), options=DetectionOptions(confidence=options.confidence)
    )
    find = tiled(detect, Tiles(columns=options.columns, rows=options.rows))
    alone = detect(image)
    alone_ms = sum(detect.latest_ms().values())
    start = perf_counter()
    found = find(image)
    tiled_ms = 1000 * (perf_counter() - start)

    from PIL import Image

    options.output.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate([draw(image, alone), draw(image, found)])).save(options.output)
    print(
        f"{options.picture.name}: {len(alone)} objects in {alone_ms:.1f} ms, with tiles {len(found)} in "
        f"{tiled_ms:.1f} ms -> {options.output}"
    )


if __name__ == "__main__":
    main()
