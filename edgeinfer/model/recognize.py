"""What a model does whose file does not say it: read off its ops, its shapes and the names of its outputs.

Only what leaves no doubt is recognized; everything else stays "tensors", and the caller says what it is.
"""

from __future__ import annotations

from collections.abc import Sequence

from edgeinfer.frozen import replace
from edgeinfer.model.schema import Subgraph
from edgeinfer.model.specs import OutputSpec, Role, Task

# The order of the op's outputs, by its kernel: tensorflow/lite/kernels/detection_postprocess.cc, kOutputTensor*.
_POSTPROCESS = "TFLite_Detection_PostProcess"
_POSTPROCESS_ROLES: tuple[Role, ...] = ("boxes", "classes", "scores", "count")
# As the TensorFlow Object Detection API names its signature, and TFLite Metadata its tensors.
_NAMES: dict[str, Role] = {
    "detection_boxes": "boxes",
    "detection_classes": "classes",
    "detection_scores": "scores",
    "num_detections": "count",
    "location": "boxes",
    "category": "classes",
    "score": "scores",
    "number of detections": "count",
}
_BODY_POINTS = (1, 1, 17, 3)  # MoveNet's answer: y, x and confidence of COCO's 17 points


def recognize(graph: Subgraph, outputs: Sequence[OutputSpec]) -> tuple[Task, tuple[OutputSpec, ...]]:
    """Return what the model does, and its outputs with their roles.

    Args:
        graph: The main graph.
        outputs: As the file says them, in its order; a role that is given already stays.

    Returns:
        * "detection" where boxes, classes, scores and count are there: told apart by the op that makes them, else by
          their names;
        * "segmentation" where the only output is an ARG_MAX over a map;
        * "pose" where the only output is (1, 1, 17, 3) floats, MoveNet's;
        * "classification" where the only output has one axis longer than 1 at most, and either ends in softmax or
          sigmoid or has labels;
        * else "tensors".
    """
    roles = _finished(graph, outputs) or _only(graph, outputs)
    said = tuple(replace(one, role=one.role or role) for one, role in zip(outputs, roles, strict=True))
    return _task(said), said


def op_roles(graph: Subgraph) -> tuple[Role, ...] | None:
    """Return the roles that a detection op in the graph gives the outputs; None where it makes not all four of them."""
    by_op: dict[int, Role] = {}
    for operator in graph.operators:
        if operator.op == _POSTPROCESS:
            by_op |= dict(zip(operator.outputs, _POSTPROCESS_ROLES, strict=False))
    return _all_four([by_op.get(index, "") for index in graph.outputs])


def _all_four(roles: list[Role]) -> tuple[Role, ...] | None:
    return tuple(roles) if all(roles.count(role) == 1 for role in _POSTPROCESS_ROLES) else None


def _finished(graph: Subgraph, outputs: Sequence[OutputSpec]) -> tuple[Role, ...] | None:
    """Return the roles of a detection that is finished in the graph, or None."""
    return op_roles(graph) or _all_four([_NAMES.get(one.name.casefold().strip(), "") for one in outputs])


def _only(graph: Subgraph, outputs: Sequence[OutputSpec]) -> tuple[Role, ...]:
    roles: list[Role] = [""] * len(outputs)
    if len(outputs) == 1:
        (spec,) = outputs
        is_map = len(spec.shape) in (3, 4) and min(spec.shape[1:3]) > 1 and spec.shape[3:] in ((), (1,))
        if is_map and any(graph.outputs[0] in one.outputs and one.op == "ARG_MAX" for one in graph.operators):
            roles[0] = "classmap"
        elif spec.shape == _BODY_POINTS and spec.dtype == "float32":
            roles[0] = "keypoints"
    return tuple(roles)


def _task(outputs: Sequence[OutputSpec]) -> Task:
    if {one.role for one in outputs} >= set(_POSTPROCESS_ROLES):
        return "detection"
    if len(outputs) != 1:
        return "tensors"
    (output,) = outputs
    if output.role == "classmap":
        return "segmentation"
    if output.role == "keypoints":
        return "pose"
    row = all(length == 1 for length in output.shape[:-1]) and len(output.shape) >= 2
    if row and (output.labels or output.activation != "none"):
        return "classification"
    return "tensors"
