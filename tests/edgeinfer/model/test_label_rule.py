"""Which output names belong to and how many it takes; the numbers are those of published models."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from edgeinfer.errors import MetadataError
from edgeinfer.model.heads import AnchorGrid, DetectionHead
from edgeinfer.model.label_rule import (
    Labelling,
    check_labelling,
    labelled_output,
    labellings,
    without_background,
)
from edgeinfer.model.specs import OutputSpec, Role, Task

GRID = AnchorGrid((8,), (((16.0, 16.0),),))


def outputs(*said: tuple[str, tuple[int, ...]], dtype: str = "float32") -> list[OutputSpec]:
    return [OutputSpec(f"out{place}", shape, dtype, role=role) for place, (role, shape) in enumerate(said)]  # type: ignore[arg-type]


def one(task: Task, role: Role, shape: tuple[int, ...], head: DetectionHead | None = None) -> Labelling | None:
    return labellings(task, outputs((role, shape)), head)[0]


FINISHED = (("boxes", (1, 10, 4)), ("classes", (1, 10)), ("scores", (1, 10)), ("count", (1,)))


def test_a_row_of_scores_takes_one_name_a_class() -> None:
    assert one("classification", "", (1, 1001)) == Labelling("axis", (1001,))


def test_a_single_probability_takes_two() -> None:
    assert one("classification", "", (1, 1)) == Labelling("axis", (2,))


def test_the_classes_of_a_finished_detection_are_indices_of_names() -> None:
    assert labellings("detection", outputs(*FINISHED)) == (None, Labelling("values"), None, None)


def test_ranked_classes_are_indices_of_names() -> None:
    assert labellings("classification", outputs(("scores", (1, 5)), ("classes", (1, 5)))) == (
        None,
        Labelling("values"),
    )


@pytest.mark.parametrize(
    ("shape", "head", "counts"),
    [
        # YOLOv8 and YOLOv5 of COCO at 640 pixels: 80 classes behind 4 numbers of the box, or 4 and one more.
        ((1, 84, 8400), DetectionHead("yolo", channels="first", objectness=False), (80,)),
        ((1, 25200, 85), DetectionHead("yolo", channels="last", objectness=True), (80,)),
        ((1, 84, 8400), DetectionHead("yolo", channels="first"), (79, 80)),
        ((1, 84, 8400), None, (79, 80, 8395, 8396)),
    ],
    ids=["yolov8", "yolov5", "maybe with objectness", "nothing said"],
)
def test_the_numbers_of_a_yolo_box_count_the_classes(
    shape: tuple[int, ...], head: DetectionHead | None, counts: tuple[int, ...]
) -> None:
    assert one("detection", "predictions", shape, head) == Labelling("axis", counts)


@pytest.mark.parametrize("head", [DetectionHead("rows"), None], ids=["said", "seen"])
def test_finished_rows_hold_the_class_as_a_number(head: DetectionHead | None) -> None:
    assert one("detection", "predictions", (1, 300, 6), head) == Labelling("values")


@pytest.mark.parametrize(("background", "count"), [(False, 91), (True, 90)])
def test_a_background_score_has_no_name(background: bool, count: int) -> None:
    head = DetectionHead("anchors", anchors=GRID, background=background)
    said = labellings("detection", outputs(("boxes", (1, 1917, 4)), ("scores", (1, 1917, 91))), head)
    assert said == (None, Labelling("axis", (count,)))


def test_a_heat_map_has_one_name_a_channel() -> None:
    said = labellings("detection", outputs(("heatmap", (1, 128, 128, 80)), ("sizes", (1, 128, 128, 2))))
    assert said == (Labelling("axis", (80,)), None)


def test_a_map_of_scores_takes_a_name_a_class_and_a_map_of_classes_any_number() -> None:
    assert one("segmentation", "", (1, 257, 257, 21)) == Labelling("axis", (21,))
    assert one("segmentation", "classmap", (1, 257, 257)) == Labelling("values")
    assert labellings("segmentation", outputs(("", (1, 257, 257)), dtype="int64")) == (Labelling("values"),)


@pytest.mark.parametrize(("shape", "points"), [((1, 1, 17, 3), 17), ((1, 6, 56), 17), ((1, 21, 2), 21)])
def test_key_points_take_a_name_each(shape: tuple[int, ...], points: int) -> None:
    """MoveNet Lightning, MoveNet MultiPose (17 points of three numbers, and five of the box), a hand."""
    assert one("pose", "keypoints", shape) == Labelling("axis", (points,))


def test_an_embedding_has_no_names() -> None:
    assert one("embedding", "", (1, 128)) is None
    with pytest.raises(MetadataError, match="fit no output") as caught:
        labelled_output("embedding", outputs(("", (1, 128))), None, 128)
    assert "embedding" in caught.value.expected


@pytest.mark.parametrize(
    ("shapes", "count", "place"), [(((1, 3), (1, 5)), 5, 1), (((1, 3), (1, 5)), 3, 0)], ids=["second", "first"]
)
def test_the_number_of_names_finds_their_output(shapes: Sequence[tuple[int, ...]], count: int, place: int) -> None:
    assert labelled_output("tensors", outputs(*(("", shape) for shape in shapes)), None, count) == place


@pytest.mark.parametrize(("count", "words"), [(4, "fit no output"), (3, "more than one")])
def test_names_for_none_or_for_two_outputs_are_refused(count: int, words: str) -> None:
    with pytest.raises(MetadataError, match=words) as caught:
        labelled_output("tensors", outputs(("", (1, 3)), ("", (1, 3))), None, count)
    assert caught.value.expected == "3"


def test_names_at_the_wrong_output_are_refused() -> None:
    said = outputs(*FINISHED)
    said[0] = OutputSpec("boxes", (1, 10, 4), "float32", labels=("a",), role="boxes")
    with pytest.raises(MetadataError, match="do not fit output `boxes`"):
        check_labelling("detection", said)


@pytest.mark.parametrize(
    ("names", "count", "left"),
    [
        (("background", "cat", "dog"), 2, ("cat", "dog")),
        (("???", "cat", "dog"), 2, ("cat", "dog")),
        (("cat", "dog", "cow"), 2, ("cat", "dog", "cow")),
        (("background", "cat"), 2, ("background", "cat")),
    ],
    ids=["one more", "question marks", "no background", "as many"],
)
def test_a_background_goes_where_it_is_one_name_too_many(
    names: tuple[str, ...], count: int, left: tuple[str, ...]
) -> None:
    assert without_background(names, count) == left
