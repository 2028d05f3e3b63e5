"""Find the known pictures that are most like a new one.

    python demos/embed.py cat.jpg --model features.tflite --known "photos/*.jpg"

Without arguments it takes the model and pictures of the shared test data (`EDGEINFER_TEST_DATA`). There is no model for
features among them, so a classification model stands in: its 1001 probabilities are the embedding. That finds pictures
of the same kind; for faces, parts or places take a model that was trained to give features.
"""

from __future__ import annotations

import argparse
import glob
import os
from pathlib import Path
from time import perf_counter

import numpy as np

from edgeinfer import Classifications, Image, Index, draw, embedder, read_image

DATA = Path(os.environ.get("EDGEINFER_TEST_DATA", "."))
OUTPUT = Path(__file__).parent / "output"
SHOWN, CELL = 4, 288


def main() -> None:
    """Index the known pictures, search, and show the new one beside those that were found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", nargs="?", type=Path, default=DATA / "coral/cat.bmp")
    parser.add_argument("--model", type=Path, default=DATA / "coral/mobilenet_v1_0.25_128_quant.tflite")
    parser.add_argument("--known", default=str(DATA / "imagenet_sample/*.jpg"), help="which pictures to search, quoted")
    parser.add_argument("--output", type=Path, default=OUTPUT / "embed.png", help="where the drawn picture goes")
    options = parser.parse_args()

    embed = embedder(options.model)
    known = sorted(glob.glob(options.known))  # noqa: PTH207 - the pattern may be absolute
    index = Index(embed.runtime)
    for path in known:
        index.add(path, embed(path))
    embedding = embed(options.picture)
    start = perf_counter()
    found = index.search(embedding, SHOWN)
    search_ms = 1000 * (perf_counter() - start)

    cells = [_cell(options.picture, "looked for", 1.0)]
    cells += [_cell(Path(one.label), Path(one.label).stem, one.similarity) for one in found]

    from PIL import Image as PillowImage

    options.output.parent.mkdir(parents=True, exist_ok=True)
    PillowImage.fromarray(np.concatenate(cells, axis=1)).save(options.output)
    said = ", ".join(f"{Path(one.label).stem} {one.similarity:.2f}" for one in found)
    print(
        f"{options.picture.name}: {said}; embedding {sum(embed.latest_ms().values()):.1f} ms, search in {len(known)} "
        f"{search_ms:.2f} ms -> {options.output}"
    )


def _cell(path: Path, name: str, similarity: float) -> Image:
    """Return a square picture with its name: (288, 288, 3) uint8."""
    from PIL import Image as PillowImage
    from PIL import ImageOps

    square = np.asarray(ImageOps.fit(PillowImage.fromarray(read_image(path)), (CELL, CELL)))
    caption = Classifications(np.zeros(1, np.int64), np.array([similarity], np.float32), (name,))
    return draw(square, caption)


if __name__ == "__main__":
    main()
