"""Find the joints of a body.

    python demos/pose.py squat.jpg --model movenet.tflite

Without arguments it takes the model and picture of the shared test data (`EDGEINFER_TEST_DATA`).
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from edgeinfer import draw, poser, read_image

DATA = Path(os.environ.get("EDGEINFER_TEST_DATA", "."))
OUTPUT = Path(__file__).parent / "output"


def main() -> None:
    """Find the points, and draw the limbs between them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", nargs="?", type=Path, default=DATA / "coral/squat.bmp")
    parser.add_argument("--model", type=Path, default=DATA / "coral/movenet_single_pose_lightning_ptq.tflite")
    parser.add_argument("--confidence", type=float, default=0.2, help="points that are less sure are left out")
    parser.add_argument("--output", type=Path, default=OUTPUT / "pose.png", help="where the drawn picture goes")
    options = parser.parse_args()

    image = read_image(options.picture)
    pose = poser(options.model)
    found = pose(image)

    from PIL import Image

    options.output.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(draw(image, found, point_confidence=options.confidence)).save(options.output)
    seen = int((found.confidence >= options.confidence).sum())
    said = f"{seen} of {found.confidence.size} points seen"
    print(f"{options.picture.name}: {said}; {sum(pose.latest_ms().values()):.1f} ms -> {options.output}")


if __name__ == "__main__":
    main()
