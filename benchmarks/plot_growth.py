"""Draw the growth rows of this machine as one picture, each curve beside the n log n that starts where it does.

    python benchmarks/detection_growth.py && python benchmarks/tiles_growth.py && python benchmarks/plot_growth.py

Both axes are logarithmic, so whatever grows faster than n log n climbs through its guide (dashed). Needs Matplotlib.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from itertools import pairwise

from record import RESULTS, read_rows

Curve = tuple[str, list[tuple[int, float]]]  # name, (n, milliseconds)
WIDTH_INCHES, HEIGHT_INCHES, DOTS_PER_INCH = 12.0, 4.0, 90


def curves() -> dict[str, list[Curve]]:
    """Return the curves that have been measured on this machine, by what n counts."""
    groups: dict[str, list[Curve]] = {"candidates": [], "tiles": [], "pixels": []}
    for row in read_rows("detection-growth"):
        name = f"{row['suppression']}, {row['scene']}"
        _append(groups["candidates"], name, int(row["candidates"]), float(row["median_ms"]))
    for row in read_rows("tiles-growth"):
        if row["series"] in groups:
            _append(groups[row["series"]], "SSD MobileNet v1", int(row["count"]), float(row["median_ms"]))
    return {name: group for name, group in groups.items() if group}


def _append(group: list[Curve], name: str, count: int, milliseconds: float) -> None:
    for known, points in group:
        if known == name:
            points.append((count, milliseconds))
            return
    group.append((name, [(count, milliseconds)]))


def guide(points: Sequence[tuple[int, float]]) -> list[float]:
    """Return n log n, scaled to begin with the curve."""
    first, start = points[0]
    return [start * (count * math.log2(count + 1)) / (first * math.log2(first + 1)) for count, _ in points]


def steepest(points: Sequence[tuple[int, float]]) -> float:
    """Return how many times more a step of the curve grew than n log n did, at most; 1 or less holds the claim."""
    steps = (guide([one, other])[1] for one, other in pairwise(points))
    return max(time / allowed for (_, time), allowed in zip(points[1:], steps, strict=True))


def main() -> None:
    """Draw `results/growth.png`, and end with 1 where a step grows faster than n log n."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    groups = curves()
    if not groups:
        raise SystemExit("No growth rows of this machine: run detection_growth.py and tiles_growth.py first.")
    figure, axes = pyplot.subplots(1, len(groups), figsize=(WIDTH_INCHES, HEIGHT_INCHES), squeeze=False)
    for axis, (what, group) in zip(axes[0], groups.items(), strict=True):
        for name, points in group:
            counts, times = [count for count, _ in points], [value for _, value in points]
            (line,) = axis.loglog(counts, times, marker="o", markersize=3, label=name)
            axis.loglog(counts, guide(points), linestyle="--", linewidth=0.8, color=line.get_color(), alpha=0.6)
        top = max(value for _, points in group for _, value in points)
        low = min(value for _, points in group for _, value in points)
        axis.set_ylim(low / 5, top * 20)  # the guides leave the picture where a curve stays far below them
        axis.set(xlabel=what, ylabel="ms", title=f"time by {what}")
        axis.grid(visible=True, which="major", linewidth=0.3)
        axis.legend(fontsize=7, loc="upper left" if len(group) > 1 else "lower right")
    figure.tight_layout()
    path = RESULTS / "growth.png"
    figure.savefig(path, dpi=DOTS_PER_INCH)
    print(f"{path.name}: {path.stat().st_size} bytes")
    worst = max((steepest(points), what, name) for what, group in groups.items() for name, points in group)
    print(f"The steepest step: {worst[0]:.2f} of n log n, {worst[1]}, {worst[2]}.")
    if worst[0] > 1.0:
        sys.exit(1)


if __name__ == "__main__":
    main()
