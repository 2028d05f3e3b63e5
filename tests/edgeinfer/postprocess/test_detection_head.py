"""Which head a model has: declared before read off, and an error where the outputs have two readings."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgeinfer.errors import MetadataError, WrongTaskError
from edgeinfer.model.heads import AnchorGrid, DetectionHead
from edgeinfer.model.metadata import InputSpec, ModelMetadata, OutputSpec
from edgeinfer.model.specs import Role
from edgeinfer.postprocess.detection_head import find_head

pytestmark = pytest.mark.device

PICTURE = InputSpec("image", (1, 640, 640, 3), "float32")


def out(name: str, *shape: int, dtype: str = "float32", scale: float = 0.0, role: Role = "") -> OutputSpec:
    zero_point = -128 if dtype == "int8" else 0
    return OutputSpec(name, shape, dtype, scale, zero_point, role=role)


def file(*outputs: OutputSpec, head: DetectionHead | None = None) -> ModelMetadata:
    return ModelMetadata("detection", (PICTURE,), outputs, head=head)


YOLO8 = out("out", 1, 84, 8400, dtype="int8", scale=1 / 255)
TWINS = (out("a", 1, 160, 160, 80), out("size", 1, 160, 160, 2), out("offset", 1, 160, 160, 2))


def test_roles_tell_finished_outputs_apart() -> None:
    # As the file of TFLite's op declares them: no shapes before it has run.
    said = file(out("0", role="count"), out("1", role="scores"), out("2", role="boxes"), out("3", role="classes"))
    found = find_head(said, None, 0)
    assert found.head == DetectionHead("finished", unit="share")
    assert found.positions == {"boxes": 2, "classes": 3, "scores": 1, "count": 0}


def test_classes_as_integers_need_no_roles() -> None:
    said = file(out("a", 1, 25), out("b", 1, 25, dtype="int32"), out("c", 1, 25, 4), out("d", 1))
    assert find_head(said, None, 0).positions == {"boxes": 2, "classes": 1, "scores": 0, "count": 3}


def test_two_rows_of_floats_are_not_told_apart_by_luck() -> None:
    said = file(out("a", 1, 25, 4), out("b", 1, 25), out("c", 1, 25), out("d", 1))
    with pytest.raises(WrongTaskError):
        find_head(said, None, 0)
    with pytest.raises(MetadataError, match="which one holds classes"):
        find_head(said, DetectionHead("finished"), 0)


def test_a_quantized_yolo_says_all_of_itself() -> None:
    found = find_head(file(YOLO8), None, 80)
    assert found.head == DetectionHead("yolo", unit="share", objectness=False, channels="first")
    assert found.positions == {"predictions": 0}


@pytest.mark.parametrize(
    ("dtype", "scale", "unit"),
    [("int8", 1.02 / 255, "share"), ("uint8", 1.9 / 255, "share"), ("int16", 640 / 32767, "pixels")],
)
def test_the_range_of_a_quantized_yolo_says_the_unit(dtype: str, scale: float, unit: str) -> None:
    assert find_head(file(out("out", 1, 84, 8400, dtype=dtype, scale=scale)), None, 0).head.unit == unit


@pytest.mark.parametrize(
    "unclear",
    [out("out", 1, 84, 8400), out("out", 1, 84, 8400, dtype="int16", scale=50 / 32767)],
    ids=["float", "a range of 50"],
)
def test_a_unit_that_nothing_says_is_an_error_with_the_cure(unclear: OutputSpec) -> None:
    with pytest.raises(MetadataError, match="shares of the input's sides or its pixels") as caught:
        find_head(file(unclear), None, 0)
    assert 'DetectionHead("yolo", unit="share")' in caught.value.next_step


def test_what_the_cure_says_is_enough() -> None:
    found = find_head(file(out("out", 1, 84, 8400)), DetectionHead("yolo", unit="share"), 0)
    assert found.head == DetectionHead("yolo", unit="share", objectness=False, channels="first")


def test_the_caller_goes_before_the_file_and_the_file_before_the_outputs() -> None:
    by_file = DetectionHead("yolo", unit="pixels")
    assert find_head(file(YOLO8, head=by_file), None, 0).head.unit == "pixels"
    assert find_head(file(YOLO8, head=by_file), DetectionHead("yolo", unit="share"), 0).head.unit == "share"


def test_a_yolo_of_unknown_size_asks_for_its_axes() -> None:
    with pytest.raises(MetadataError, match="does not say where the numbers of a box stand") as caught:
        find_head(file(out("out", 1, 30, 77)), DetectionHead("yolo", unit="share"), 0)
    assert "channels" in caught.value.next_step


def test_rows_of_six_with_labels_are_rows() -> None:
    rows = out("out", 1, 300, 6, dtype="int16", scale=1 / 256)
    said = DetectionHead("rows", unit="share")
    assert find_head(file(rows), said, 0).head == said
    with pytest.raises(MetadataError, match="shares of the input's sides or its pixels"):
        find_head(file(out("out", 1, 300, 6)), None, 80)


@pytest.mark.parametrize(("numbers", "classes"), [(6, 0), (6, 2), (7, 0), (7, 90)])
def test_rows_with_two_readings_are_an_error(numbers: int, classes: int) -> None:
    with pytest.raises(MetadataError, match="may be finished boxes") as caught:
        find_head(file(out("out", 1, 300, numbers)), None, classes)
    assert "rows" in caught.value.next_step


def test_raw_anchors_ask_for_the_grid() -> None:
    with pytest.raises(MetadataError, match="coded against anchors") as caught:
        find_head(file(out("a", 1, 1917, 91), out("b", 1, 1917, 4)), None, 0)
    assert "AnchorGrid" in caught.value.next_step


def test_declared_anchors_find_their_outputs_by_shape() -> None:
    head = DetectionHead("anchors", anchors=AnchorGrid((640,), (((1.0, 1.0),),)))
    found = find_head(file(out("a", 1, 1917, 91), out("b", 1, 1917, 4)), head, 91)
    assert found.positions == {"boxes": 1, "scores": 0}
    assert found.size == (640, 640)


def test_declared_anchors_need_the_size_of_a_picture() -> None:
    head = DetectionHead("anchors", anchors=AnchorGrid((640,), (((1.0, 1.0),),)))
    said = replace(file(out("a", 1, 9, 3), out("b", 1, 9, 4)), inputs=(InputSpec("image", (1, 3, 64, 64), "float32"),))
    with pytest.raises(MetadataError, match="size of the input"):
        find_head(said, head, 0)


def test_labels_that_do_not_fit_the_scores_are_an_error() -> None:
    head = DetectionHead("anchors", anchors=AnchorGrid((640,), (((1.0, 1.0),),)), background=True)
    with pytest.raises(MetadataError, match="labels do not fit") as caught:
        find_head(file(out("a", 1, 1917, 91), out("b", 1, 1917, 4)), head, 91)
    assert (caught.value.received, caught.value.expected) == ("91 labels", "90, one per class")
    with pytest.raises(MetadataError, match="labels do not fit"):
        find_head(file(*TWINS), None, 79)


def test_names_tell_sizes_from_offsets() -> None:
    assert find_head(file(*TWINS), None, 80).positions == {"heatmap": 0, "sizes": 1, "offsets": 2}


def test_one_name_of_two_is_enough() -> None:
    said = (TWINS[2], replace(TWINS[1], name="x"), TWINS[0])
    assert find_head(file(*said), None, 0).positions == {"heatmap": 2, "sizes": 1, "offsets": 0}


def test_roles_go_before_names() -> None:
    said = (TWINS[0], replace(TWINS[1], role="offsets"), replace(TWINS[2], role="sizes"))
    assert find_head(file(*said), None, 0).positions == {"heatmap": 0, "sizes": 2, "offsets": 1}


def test_twins_without_names_are_not_told_apart_by_luck() -> None:
    said = tuple(replace(one, name=name) for one, name in zip(TWINS, "abc", strict=True))
    with pytest.raises(WrongTaskError):
        find_head(file(*said), None, 0)
    with pytest.raises(MetadataError, match="can be told apart"):
        find_head(file(*said), DetectionHead("heatmap"), 0)


@pytest.mark.parametrize(
    "outputs",
    [
        (out("answer", 1, 1001),),
        (out("map", 1, 257, 257, 21, dtype="int8", scale=0.5),),
        (out("a", 1, 10), out("b", 1, 20)),
        (out("out", 1, 116, 8400), out("protos", 1, 160, 160, 32)),
    ],
    ids=["classes", "map", "two rows", "a YOLO with masks"],
)
def test_outputs_that_match_nothing_are_listed(outputs: tuple[OutputSpec, ...]) -> None:
    with pytest.raises(WrongTaskError, match="match no detection head") as caught:
        find_head(file(*outputs), None, 0)
    assert caught.value.received == ", ".join(f"`{one.name}` {one.shape} {one.dtype}" for one in outputs)
    assert "Pipeline" in caught.value.next_step
    for head in (DetectionHead("rows"), DetectionHead("finished"), DetectionHead("heatmap")):
        with pytest.raises((WrongTaskError, MetadataError)):
            find_head(file(*outputs), head, 0)
