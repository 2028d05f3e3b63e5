"""The layout of a YOLO output, told from how many boxes its input can have."""

from __future__ import annotations

import pytest

from edgeinfer.errors import MetadataError
from edgeinfer.model.heads import DetectionHead
from edgeinfer.model.specs import OutputSpec
from edgeinfer.postprocess.yolo_layout import Layout, box_counts, yolo_layout

pytestmark = pytest.mark.device


def layout(
    rows: int, columns: int, *, side: int = 640, classes: int = 0, head: DetectionHead | None = None
) -> Layout | None:
    spec = OutputSpec("output", (1, rows, columns), "float32")
    return yolo_layout(spec, (rows, columns), (side, side), head, classes)


# 640: 80 * 80 + 40 * 40 + 20 * 20 = 8400 cells, three boxes each are 25200. 320: 2100 and 6300.
# 1280 with a fourth grid of 20 * 20: 25600 + 6400 + 1600 + 400 = 34000 and 102000.
@pytest.mark.parametrize(
    ("rows", "columns", "side", "expected"),
    [
        (84, 8400, 640, Layout("first", False)),
        (8400, 84, 640, Layout("last", False)),
        (25200, 85, 640, Layout("last", True)),
        (85, 25200, 640, Layout("first", True)),
        (2100, 6, 320, Layout("last", False)),
        (6, 6300, 320, Layout("first", True)),
        (34000, 9, 1280, Layout("last", False)),
        (102000, 9, 1280, Layout("last", True)),
        (300, 6, 640, None),
        (1917, 91, 300, None),
        (4, 8400, 640, None),
    ],
    ids=str,
)
def test_the_number_of_boxes_says_axis_and_objectness(
    rows: int, columns: int, side: int, expected: Layout | None
) -> None:
    assert layout(rows, columns, side=side) == expected


def test_an_oblong_input_has_the_cells_of_both_sides() -> None:
    # 640 x 384: 80 * 48 + 40 * 24 + 20 * 12 = 5040.
    assert box_counts((640, 384))[5040] is False
    assert box_counts((640, 384))[15120] is True


def test_tiny_models_have_two_grids_and_three_boxes_a_cell() -> None:
    # 416: 26 * 26 + 13 * 13 = 845.
    assert box_counts((416, 416))[3 * 845] is True
    assert 845 not in box_counts((416, 416))


@pytest.mark.parametrize("numbers", [85, 56])
def test_a_width_with_two_readings_is_an_error_that_says_both(numbers: int) -> None:
    with pytest.raises(MetadataError, match="two readings") as caught:
        layout(8400, numbers)
    assert "labels" in caught.value.next_step


def test_labels_settle_two_readings() -> None:
    assert layout(8400, 85, classes=81) == Layout("last", False)


def test_what_is_declared_settles_two_readings() -> None:
    head = DetectionHead("yolo", objectness=True)
    assert layout(8400, 85, head=head) == Layout("last", True)
    assert layout(8400, 85, classes=80, head=head) == Layout("last", True)


def test_labels_that_do_not_fit_are_an_error_that_counts() -> None:
    with pytest.raises(MetadataError, match="labels do not fit") as caught:
        layout(84, 8400, classes=90)
    assert caught.value.received == "90 labels, and 84 numbers a box: 4 for the box, 80 classes"


def test_a_pose_model_with_one_label_is_not_read_as_classes() -> None:
    with pytest.raises(MetadataError, match="labels do not fit"):
        layout(56, 8400, classes=1)


def test_declared_axes_need_no_known_number_of_boxes() -> None:
    head = DetectionHead("yolo", channels="last", objectness=False)
    assert layout(77, 9, head=head) == Layout("last", False)


def test_without_an_input_picture_nothing_is_counted() -> None:
    spec = OutputSpec("output", (1, 84, 8400), "float32")
    assert yolo_layout(spec, (84, 8400), None, None, 0) is None
