"""What each output is to its task, where the file or the user does not say it; and whether that fits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import get_args

from edgeinfer.errors import MetadataError
from edgeinfer.model.choice import one_of
from edgeinfer.model.heads import DetectionHead
from edgeinfer.model.metadata import ModelMetadata, OutputSpec, Role, Task

__all__ = ["check_roles", "with_roles"]

# What each kind of detection head is made of; the first tuple is needed, the second may be there too.
_NEEDED: dict[str, tuple[tuple[Role, ...], tuple[Role, ...]]] = {
    "finished": (("boxes", "scores", "classes"), ("count",)),
    "anchors": (("boxes", "scores"), ()),
    "yolo": (("predictions",), ()),
    "rows": (("predictions",), ("count",)),
    "heatmap": (("heatmap", "sizes"), ("offsets",)),
}


def with_roles(
    task: Task, outputs: Sequence[OutputSpec], head: DetectionHead | None, given: Sequence[Role] = ()
) -> tuple[OutputSpec, ...]:
    """Return the outputs with their roles.

    Args:
        task: What the model does.
        outputs: As the file or the model says them; a role that is there already stays.
        head: Of a detection.
        given: One role an output, in their order; () lets names and shapes decide: an output that is called like a
            role has it, one alone is what its task answers with, and of two the one with four numbers is the boxes.

    Raises:
        MetadataError: Fewer or more roles than outputs, or one that is not known.
    """
    if given:
        if len(given) != len(outputs):
            raise MetadataError(
                "Every output has one role.",
                received=f"{len(given)} roles",
                expected=f"{len(outputs)}: " + ", ".join(f"`{one.name}` {one.shape}" for one in outputs),
            )
        for role in given:
            one_of("role", role, get_args(Role))
        return tuple(replace(one, role=role) for one, role in zip(outputs, given, strict=True))
    guessed = _guessed(task, outputs, head)
    return tuple(replace(one, role=one.role or role) for one, role in zip(outputs, guessed, strict=True))


def check_answerable(said: ModelMetadata) -> None:
    """Refuse metadata with which the task's own constructor would not take the file on the device.

    Raises:
        ModelError: What the constructor says.
    """
    from edgeinfer.postprocess import classify, detect, embed, pose, segment

    if said.task == "classification":
        classify.classification_post(said)
    elif said.task == "detection":
        detect.detection_post(said)
    elif said.task == "segmentation":
        segment.segmentation_post(said)
    elif said.task == "pose":
        pose.pose_post(said)
    elif said.task == "embedding":
        embed.embedding_post(said)


def check_roles(task: Task, outputs: Sequence[OutputSpec], head: DetectionHead | None) -> None:
    """Refuse a detection head that belongs to another task, or whose outputs are not there.

    Raises:
        MetadataError: As said.
    """
    if head is None:
        return
    if task != "detection":
        raise MetadataError(
            "Only a detection has a head.",
            received=f'task "{task}", head of kind "{head.kind}"',
            expected='task "detection"',
        )
    needed, more = _NEEDED[head.kind]
    roles = [one.role for one in outputs]
    missing = [role for role in needed if role not in roles]
    strange = [role for role in roles if role and role not in (*needed, *more)]
    if missing or strange:
        raise MetadataError(
            f'The outputs are not those of a head of kind "{head.kind}".',
            received=", ".join(f"`{one.name}` {one.shape} {one.role or 'without a role'}" for one in outputs),
            expected=", ".join(needed) + (f", and maybe {', '.join(more)}" if more else ""),
            next_step="Give the roles in the order of the outputs: `--roles boxes,scores` or `Card(roles=...)`.",
        )


def _guessed(task: Task, outputs: Sequence[OutputSpec], head: DetectionHead | None) -> list[Role]:
    roles = _called(outputs)
    kind = "" if head is None else head.kind
    if len(outputs) == 1 and not roles[0]:
        roles[0] = _alone(task, outputs[0], kind)
    if kind == "anchors" and len(outputs) == 2 and not any(roles):
        fours = [bool(one.shape) and one.shape[-1] == 4 for one in outputs]
        if sum(fours) == 1:
            roles = ["boxes" if four else "scores" for four in fours]
    return roles if task in ("detection", "pose", "segmentation") else [""] * len(outputs)


def _called(outputs: Sequence[OutputSpec]) -> list[Role]:
    """Return the roles that outputs are called by, each at most once."""
    known = {role: role for role in get_args(Role) if role}
    roles: list[Role] = [known.get(one.name.casefold().strip(), "") for one in outputs]
    return [role if roles.count(role) == 1 else "" for role in roles]


def _alone(task: Task, spec: OutputSpec, kind: str) -> Role:
    shape = spec.shape
    if task == "detection":
        return "predictions" if kind in ("yolo", "rows") else ""
    if task == "segmentation":
        return "classmap" if len(shape) == 3 and spec.dtype != "float32" else ""
    if task == "pose" and len(shape) >= 3:
        if shape[-1] in (2, 3) and all(size == 1 for size in shape[:-2]):
            return "keypoints"
        return "heatmap" if len(shape) == 4 and min(shape[1:3]) > 1 else ""
    return ""
