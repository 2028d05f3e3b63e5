"""Find the objects in a picture, and the place of each.

    python demos/detect.py street.jpg --model ssd.tflite --labels coco_labels.txt --confidence 0.4

Without arguments it takes the model and picture of the shared test data (`EDGEINFER_TEST_DATA`).
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from edgeinfer import DetectionOptions, detector, draw, read_image, read_labels

DATA = Path(os.environ.get("EDGEINFER_TEST_DATA", "."))
OUTPUT = Path(__file__).parent / "output"


def main() -> None:
    """Find them, and draw a box around each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", nargs="?", type=Path, default=DATA / "coco128/images/train2017/000000000074.jpg")
    parser.add_argument("--model", type=Path, default=DATA / "detection/ssd_mobilenet_v1_coco_quant_detect.tflite")
    parser.add_argument("--labels", type=Path, default=DATA / "coral/coco_labels.txt")
    parser.add_argument("--confidence", type=float, default=0.4, help="boxes that are less sure are left out")
    parser.add_argument("--output", type=Path, default=OUTPUT / "detect.png", help="where the drawn picture goes")
    options = parser.parse_args()

    image = read_image(options.picture)
    detect = detector(
        options.model, labels=read_labels(options.labels), options=DetectionOptions(confidence=options.confidence)
    )
    found = detect(image)

    from PIL import Image

    options.output.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(draw(image, found)).save(options.output)
    said = ", ".join(f"{one.label} {one.confidence:.0%}" for one in found) or "nothing"
    print(f"{options.picture.name}: {said}; {sum(detect.latest_ms().values()):.1f} ms -> {options.output}")


if __name__ == "__main__":
    main()
