"""Say of every pixel what it belongs to.

    python demos/segment.py bird.jpg --model deeplab.tflite --labels pascal_voc.txt

Without arguments it takes the model and picture of the shared test data (`EDGEINFER_TEST_DATA`).
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from edgeinfer import draw, read_image, read_labels, segmenter

DATA = Path(os.environ.get("EDGEINFER_TEST_DATA", "."))
OUTPUT = Path(__file__).parent / "output"


def main() -> None:
    """Segment the picture, and lay a colour over each class."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", nargs="?", type=Path, default=DATA / "coral/bird_segmentation.bmp")
    parser.add_argument("--model", type=Path, default=DATA / "coral/deeplabv3_mnv2_dm05_pascal_quant.tflite")
    parser.add_argument("--labels", type=Path, default=DATA / "coral/pascal_voc_segmentation_labels.txt")
    parser.add_argument("--output", type=Path, default=OUTPUT / "segment.png", help="where the drawn picture goes")
    options = parser.parse_args()

    image = read_image(options.picture)
    segment = segmenter(options.model, labels=read_labels(options.labels))
    mask = segment(image)

    from PIL import Image

    options.output.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(draw(image, mask)).save(options.output)
    said = ", ".join(f"{label} {share:.1%}" for label, share in mask.shares().items())
    print(f"{options.picture.name}: {said}; {sum(segment.latest_ms().values()):.1f} ms -> {options.output}")


if __name__ == "__main__":
    main()
