"""Name what is in a picture.

    python demos/classify.py parrot.jpg --model mobilenet_v2.tflite --labels imagenet_labels.txt

Without arguments it takes the model and picture of the shared test data (`EDGEINFER_TEST_DATA`).
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from edgeinfer import classifier, draw, read_image, read_labels

DATA = Path(os.environ.get("EDGEINFER_TEST_DATA", "."))
OUTPUT = Path(__file__).parent / "output"


def main() -> None:
    """Name it, and write it into the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", nargs="?", type=Path, default=DATA / "coral/parrot.jpg")
    parser.add_argument("--model", type=Path, default=DATA / "coral/mobilenet_v2_1.0_224_quant.tflite")
    parser.add_argument("--labels", type=Path, default=DATA / "coral/imagenet_labels.txt")
    parser.add_argument("--output", type=Path, default=OUTPUT / "classify.png", help="where the drawn picture goes")
    options = parser.parse_args()

    image = read_image(options.picture)
    classify = classifier(options.model, labels=read_labels(options.labels), top_k=3)
    found = classify(image)

    from PIL import Image

    options.output.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(draw(image, found)).save(options.output)
    said = ", ".join(f"{one.label} {one.confidence:.1%}" for one in found)
    print(f"{options.picture.name}: {said}; {sum(classify.latest_ms().values()):.1f} ms -> {options.output}")


if __name__ == "__main__":
    main()
