"""A result in words and as JSON: what `edgeinfer run` prints."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgeinfer.model.specs import Task
from edgeinfer.results import Classifications, Detections, Embedding, Keypoints, Mask

# What would be printed as 0.000 says nothing.
_LEAST = 0.0005
_SHOWN = 5
_TASKS: dict[type, Task] = {
    Classifications: "classification",
    Detections: "detection",
    Mask: "segmentation",
    Keypoints: "pose",
    Embedding: "embedding",
}


def task_of(result: Any) -> Task:
    """Return the task that a result answers; "tensors" for anything but the library's own."""
    return _TASKS.get(type(result), "tensors")


def to_json(result: Any) -> list[dict[str, object]]:
    """Return the rows of `results` that `edgeinfer run --json` prints for one picture.

    Args:
        result: Of any task. A class becomes `{"class_id", "label", "confidence"}`; a box the same with `"xyxy"`; a mask
            `{"mask_png", "classes"}`, the PNG in base64, one class number a pixel; a body `{"keypoints": [[x, y,
            confidence], ...]}`; an embedding `{"embedding": [...]}`; any other array `{"values": [...]}`.
    """
    if isinstance(result, Classifications):
        return [{"class_id": one.class_id, "label": one.label, "confidence": one.confidence} for one in result]
    if isinstance(result, Detections):
        return [
            {"class_id": one.class_id, "label": one.label, "confidence": one.confidence, "xyxy": list(one.xyxy)}
            for one in result
        ]
    if isinstance(result, Mask):
        return [{"mask_png": _png(result), "classes": result.shares()}]
    if isinstance(result, Keypoints):
        rows = np.concatenate([result.xy, result.confidence[:, :, None]], axis=2).tolist()
        return [{"keypoints": row, **({"names": list(result.names)} if result.names else {})} for row in rows]
    if isinstance(result, Embedding):
        return [{"embedding": result.vector.tolist()}]
    return [{"values": np.asarray(result).tolist()}]


def to_text(result: Any) -> str:
    """Return one line for people."""
    if isinstance(result, Classifications):
        # An answer has one class at least.
        shown = [one for place, one in enumerate(result) if place == 0 or one.confidence >= _LEAST]
        return "  ".join(f"{_quoted(one.label)} {one.confidence:.3f}" for one in shown)
    if isinstance(result, Detections):
        boxes = [
            f"{_quoted(one.label)} {one.confidence:.3f} at ({', '.join(f'{number:.0f}' for number in one.xyxy)})"
            for one in result
        ]
        return "  ".join(boxes) or "nothing found"
    if isinstance(result, Mask):
        shares = [(label, share) for label, share in result.shares().items() if share >= _LEAST]
        return "  ".join(f"{_quoted(label)} {share:.1%}" for label, share in shares)
    if isinstance(result, Keypoints):
        return "  ".join(_body(result, row) for row in range(len(result))) or "nobody found"
    if isinstance(result, Embedding):
        numbers = ", ".join(f"{number:.3g}" for number in result.vector[:_SHOWN].tolist())
        more = ", ..." if result.vector.size > _SHOWN else ""
        return f"{result.vector.size} features: {numbers}{more}"
    return " ".join(np.array2string(np.asarray(result), threshold=_SHOWN, precision=4).split())


def _body(found: Keypoints, row: int) -> str:
    names = found.names or tuple(str(place) for place in range(found.xy.shape[1]))
    points = zip(names, found.xy[row].tolist(), found.confidence[row].tolist(), strict=True)
    said = [f"{_quoted(name)} ({x:.0f}, {y:.0f}) {confidence:.2f}" for name, (x, y), confidence in points]
    return ", ".join(said)


def _png(mask: Mask) -> str:
    import base64

    from edgeinfer.preprocess.encode import encode

    return base64.b64encode(encode(mask.class_id)).decode()


def _quoted(label: str) -> str:
    """Return a label so that it is seen where it ends: in quotes where it holds a comma, quotes or two blanks."""
    if not any(mark in label for mark in (",", '"', "  ")):
        return label
    import json

    return json.dumps(label, ensure_ascii=False)
