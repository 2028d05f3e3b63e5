"""The outputs of a pose model -> `Keypoints`: MoveNet's finished points, or heat maps with offsets (PoseNet)."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinfer.errors import InputError, MetadataError, ModelError, WrongTaskError
from edgeinfer.model.metadata import ModelMetadata, OutputSpec
from edgeinfer.preprocess.geometry import View
from edgeinfer.quantization import dequantize
from edgeinfer.results import Keypoints
from edgeinfer.runtime.runtime import Tensors

# Source: the key point task of COCO, `keypoints` and `skeleton` of its one category in person_keypoints_*.json
# (cocodataset.org; there the numbers of the skeleton begin at 1).
COCO_KEYPOINTS = (
    "nose",
    "left_eye",
    "right_eye",
    "left_ear",
    "right_ear",
    "left_shoulder",
    "right_shoulder",
    "left_elbow",
    "right_elbow",
    "left_wrist",
    "right_wrist",
    "left_hip",
    "right_hip",
    "left_knee",
    "right_knee",
    "left_ankle",
    "right_ankle",
)

# MoveNet's multi-pose models answer with six rows, however many bodies there are; what the rest hold is below this.
# Source: DEFAULT_MIN_POSE_SCORE in tensorflow/tfjs-models, pose-detection/src/movenet/constants.ts, commit 776d6baedc6c
# (an earlier one has 0.2).
BODY_SCORE = 0.25

_Decode = Callable[[Tensors, View], tuple[NDArray[Any], NDArray[np.float32]]]  # xy in the picture, confidence
_BOX = 5  # ymin, xmin, ymax, xmax and score behind the points of a row
_ROWS = 6  # of MoveNet's multi-pose models


def pose_post(
    metadata: ModelMetadata, *, names: Sequence[str] | None = None, body_score: float = BODY_SCORE
) -> Callable[[Tensors, View], Keypoints]:
    """Return what makes key points in pixels of the picture out of a model's outputs.

    The outputs are one of these:

    * (1, 1, k, 3): y, x and confidence of each point, y and x as shares of the tensor (MoveNet, one body);
    * (1, n, 3k + 5): n bodies, each a row of such points, then its box and its score (MoveNet, up to six bodies);
    * heat maps (1, h, w, k) and offsets (1, h, w, 2k) in pixels of the tensor, y of all points and then x of all
      (PoseNet, one body). Each point is the highest cell of its map, `cell * stride + offset`; cell (0, 0) lies on the
      first pixel. Its confidence is the cell's: a heat map that does not end in a sigmoid holds logits.

    The roles "keypoints", or "heatmap" and "offsets", say which outputs are meant; without them it is 17 points, in six
    rows where there are several bodies, or the only pair of maps with k and 2k channels.

    Args:
        metadata: What the file says of itself.
        names: Of the points; None takes the file's labels, else COCO's for 17 points.
        body_score: 0..1; of several bodies, those below it are not there. MoveNet gives one body no score, so a single
            body is always answered.

    Returns:
        A function of the outputs and the view. It raises ModelError where the model answers with what is no number.

    Raises:
        WrongTaskError: The outputs are none of these.
        MetadataError: The names are not one per point.
        InputError: `body_score` is no share.

    Source: the model cards of MoveNet (TensorFlow Hub, movenet/singlepose and movenet/multipose); Papandreou et al.
    2018, "PersonLab", arXiv:1803.08225, section 3.1.
    """
    if not 0.0 <= body_score <= 1.0:
        raise InputError("`body_score` is a share.", received=str(body_score), expected="0..1")
    decode, spec, count = _decoder(metadata, body_score)
    given = tuple(spec.labels if names is None else names)
    points = given or (COCO_KEYPOINTS if count == len(COCO_KEYPOINTS) else ())
    if points and len(points) != count:
        raise MetadataError(
            "The names do not fit the model's key points.",
            received=f"{len(points)} names",
            expected=f"{count}, one per point",
        )

    def pose(outputs: Tensors, view: View) -> Keypoints:
        xy, confidence = decode(outputs, view)
        # A sum is no number if one of its terms is none. At 17 points each call of NumPy costs more than what it
        # computes, and MoveNet is quick: so there are few of them here and in `decode`.
        if not math.isfinite(float(xy.sum()) + float(confidence.sum())):
            raise ModelError(
                "The model answers with what is not a number.",
                received=f"{int((~np.isfinite(xy)).sum() + (~np.isfinite(confidence)).sum())} values of its key points",
                next_step="Its weights are damaged, or its input lies far outside what it was trained on.",
            )
        return Keypoints(xy.astype(np.float32), np.minimum(np.maximum(confidence, 0.0), 1.0), points)

    return pose


def _decoder(metadata: ModelMetadata, body_score: float) -> tuple[_Decode, OutputSpec, int]:
    """Return how to read the outputs, the one that has the names, and how many points a body has."""
    outputs = metadata.outputs
    if len(metadata.inputs) == 1 and metadata.inputs[0].is_image:
        size = metadata.inputs[0].size
        finished = [index for index, spec in enumerate(outputs) if _points(spec)]
        if len(finished) == 1:
            spec = outputs[finished[0]]
            return _finished(finished[0], spec, size, body_score), spec, _points(spec)
        pair = _maps(outputs)
        if pair is not None and not finished:
            spec = outputs[pair[0]]
            return _heat_maps(pair, outputs, size), spec, spec.shape[3]
    raise WrongTaskError(
        "The model's outputs are no key points of bodies.",
        received=", ".join(
            [f"input `{spec.name}` {spec.shape}" for spec in metadata.inputs]
            + [f"output `{spec.name}` {spec.shape} {spec.dtype}" for spec in outputs]
        ),
        expected="a picture as the only input, and (1, 1, 17, 3), or (1, 6, 56), or heat maps (1, h, w, k) with "
        "offsets (1, h, w, 2k)",
        next_step="Use `Pipeline(Runtime(...), pre=..., post=...)` with a post-processing of your own.",
    )


def _points(spec: OutputSpec) -> int:
    """Return how many points a body has in this output; 0 where it holds no finished ones."""
    shape, is_said = spec.shape, spec.role == "keypoints"
    if spec.role not in ("", "keypoints") or shape[:1] != (1,):
        return 0
    if len(shape) == 4 and shape[1] == 1 and shape[3] == 3 and (is_said or shape[2] == len(COCO_KEYPOINTS)):
        return shape[2]
    if len(shape) == 3 and shape[2] > _BOX and (shape[2] - _BOX) % 3 == 0:
        count = (shape[2] - _BOX) // 3
        return count if is_said or (shape[1], count) == (_ROWS, len(COCO_KEYPOINTS)) else 0
    return 0


def _maps(outputs: Sequence[OutputSpec]) -> tuple[int, int] | None:
    """Return the heat maps and the offsets that belong to them; None where it is not one pair alone."""
    pairs = [
        (one, other)
        for one, heat in enumerate(outputs)
        for other, offset in enumerate(outputs)
        if len(heat.shape) == len(offset.shape) == 4
        and heat.shape[0] == 1
        and offset.shape == (*heat.shape[:3], 2 * heat.shape[3])
        and heat.role in ("", "heatmap")
        and offset.role in ("", "offsets")
    ]
    said = [pair for pair in pairs if (outputs[pair[0]].role, outputs[pair[1]].role) == ("heatmap", "offsets")]
    found = said or pairs
    return found[0] if len(found) == 1 else None


def _finished(index: int, spec: OutputSpec, size: tuple[int, int], body_score: float) -> _Decode:
    count = _points(spec)
    is_many = len(spec.shape) == 3
    is_stored = spec.scale != 0.0 or spec.dtype != "float32"

    def decode(outputs: Tensors, view: View) -> tuple[NDArray[Any], NDArray[np.float32]]:
        rows = outputs.view(index)[0]
        if is_stored:
            rows = dequantize(rows, scale=spec.scale, zero_point=spec.zero_point)
        if is_many:
            # Not "those from it on are": a score that is no number must be seen.
            rows = rows[~(rows[:, -1] < body_score), : 3 * count]
        bodies = rows.reshape(-1, count, 3)
        gain, shift = _shares_to_image(view, size)
        # A copy: an error that somebody keeps must not keep the tensor, which would block the interpreter.
        return bodies[:, :, 1::-1] * gain + shift, bodies[:, :, 2].copy()

    return decode


@functools.lru_cache(maxsize=16)
def _shares_to_image(view: View, size: tuple[int, int]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return (2,) and (2,): what turns (x, y) as shares of the tensor into pixels of the picture, `share * a + b`."""
    scale = np.array(view.scale)
    gain, shift = np.array(size) / scale, -np.array(view.offset) / scale
    for array in (gain, shift):
        array.flags.writeable = False
    return gain, shift


def _heat_maps(pair: tuple[int, int], outputs: Sequence[OutputSpec], size: tuple[int, int]) -> _Decode:
    heat, offset = (outputs[index] for index in pair)
    rows, columns, count = heat.shape[1:]
    stride = np.array([_stride(size[0], columns), _stride(size[1], rows)])
    point = np.arange(count)
    is_logit = heat.activation == "none"

    def decode(tensors: Tensors, view: View) -> tuple[NDArray[Any], NDArray[np.float32]]:
        best = tensors.view(pair[0]).reshape(-1, count).argmax(axis=0)
        score = dequantize(
            tensors.view(pair[0]).reshape(-1, count)[best, point], scale=heat.scale, zero_point=heat.zero_point
        )
        shift = dequantize(
            tensors.view(pair[1]).reshape(-1, 2, count)[best, ::-1, point],
            scale=offset.scale,
            zero_point=offset.zero_point,
        )
        row, column = np.divmod(best, columns)
        # The centre of the first pixel lies at 0.5.
        xy = np.stack([column, row], axis=1) * stride + shift + 0.5
        if is_logit:
            score = 0.5 * (1.0 + np.tanh(0.5 * score))  # the sigmoid, without an exponential that could overflow
        return view.to_image(xy)[np.newaxis], score[np.newaxis]

    return decode


def _stride(pixels: int, cells: int) -> float:
    """Return the pixels from one cell to the next.

    PoseNet's sizes are a multiple of the stride and one more (257 pixels, 9 cells, stride 32), so that the first and
    the last cell lie on the first and the last pixel; for others the cells share the pixels evenly.
    """
    if cells > 1 and (pixels - 1) % (cells - 1) == 0:
        return float((pixels - 1) // (cells - 1))
    return pixels / cells
