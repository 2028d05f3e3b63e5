"""What outputs are to their task where nobody says so, and heads that do not fit."""

from __future__ import annotations

import pytest

from converters.roles import check_roles, with_roles
from edgeinfer.errors import MetadataError
from edgeinfer.model.heads import AnchorGrid, DetectionHead
from edgeinfer.model.metadata import OutputSpec, Role, Task

ANCHORS = DetectionHead("anchors", anchors=AnchorGrid((8,), (((16.0, 16.0),),)))
YOLO = DetectionHead("yolo")


def outputs(*said: tuple[str, tuple[int, ...]], dtype: str = "float32") -> list[OutputSpec]:
    return [OutputSpec(name, shape, dtype) for name, shape in said]


def roles(task: Task, *said: tuple[str, tuple[int, ...]], head: DetectionHead | None = None) -> list[Role]:
    return [one.role for one in with_roles(task, outputs(*said), head)]


def test_the_one_output_of_a_yolo_head_is_its_predictions() -> None:
    assert roles("detection", ("Identity", (1, 84, 8400)), head=YOLO) == ["predictions"]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["boxes first", "scores first"])
def test_of_two_outputs_the_one_with_four_numbers_is_the_boxes(order: tuple[int, int]) -> None:
    said = (("a", (1, 100, 4)), ("b", (1, 100, 7)))
    known: tuple[Role, Role] = ("boxes", "scores")
    assert roles("detection", *(said[place] for place in order), head=ANCHORS) == [known[place] for place in order]


def test_two_outputs_with_four_numbers_are_not_guessed() -> None:
    assert roles("detection", ("a", (1, 100, 4)), ("b", (1, 100, 4)), head=ANCHORS) == ["", ""]


def test_an_output_that_is_called_like_a_role_has_it() -> None:
    assert roles("detection", ("scores", (1, 100, 4)), ("Boxes", (1, 100, 4)), head=ANCHORS) == ["scores", "boxes"]
    assert roles("classification", ("scores", (1, 10))) == [""]


@pytest.mark.parametrize(
    ("shape", "role"), [((1, 1, 17, 3), "keypoints"), ((1, 33, 33, 17), "heatmap"), ((1, 51), "")], ids=str
)
def test_the_one_output_of_a_pose_is_told_by_its_shape(shape: tuple[int, ...], role: Role) -> None:
    assert roles("pose", ("Identity", shape)) == [role]


def test_whole_numbers_without_channels_are_a_map_of_classes() -> None:
    assert [one.role for one in with_roles("segmentation", outputs(("m", (1, 8, 8)), dtype="int64"), None)] == [
        "classmap"
    ]
    assert roles("segmentation", ("m", (1, 8, 8, 4))) == [""]


def test_what_is_given_counts_and_must_be_complete() -> None:
    two = outputs(("a", (1, 100, 4)), ("b", (1, 100, 4)))
    assert [one.role for one in with_roles("detection", two, ANCHORS, ("scores", "boxes"))] == ["scores", "boxes"]
    with pytest.raises(MetadataError, match="one role") as caught:
        with_roles("detection", two, ANCHORS, ("boxes",))
    assert caught.value.expected.startswith("2: `a`")
    with pytest.raises(MetadataError, match="role"):
        with_roles("detection", two, ANCHORS, ("boxes", "colours"))  # type: ignore[arg-type]


def test_a_head_belongs_to_a_detection() -> None:
    with pytest.raises(MetadataError, match="Only a detection"):
        check_roles("classification", outputs(("a", (1, 10))), YOLO)


def test_a_head_whose_outputs_are_not_there_is_refused() -> None:
    with pytest.raises(MetadataError, match='head of kind "anchors"') as caught:
        check_roles("detection", outputs(("a", (1, 10, 4))), ANCHORS)
    assert caught.value.expected == "boxes, scores"
    assert "--roles" in caught.value.next_step
