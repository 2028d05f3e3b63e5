"""What a file says of its detection head, there and back; and what it may not say."""

from __future__ import annotations

import json

import pytest

from edgeinfer.errors import MetadataError
from edgeinfer.model.heads import AnchorGrid, DetectionHead

GRID = AnchorGrid((8, 16), (((10.0, 20.0), (20.0, 10.0)), ((40.0, 40.0),)), offset=0.25)
HEADS = [
    DetectionHead("finished"),
    DetectionHead("finished", box="xyxy", unit="pixels"),
    DetectionHead("yolo", unit="share", objectness=False, channels="first"),
    DetectionHead("rows", unit="pixels"),
    DetectionHead("heatmap", box="xyxy", logits=True),
    DetectionHead("anchors", anchors=GRID, scaling=(1.0, 1.0, 1.0, 1.0), background=True),
]


@pytest.mark.parametrize("head", HEADS, ids=lambda head: head.kind)
def test_a_head_comes_back_from_json_as_it_was(head: DetectionHead) -> None:
    assert DetectionHead.from_json(json.loads(json.dumps(head.to_json()))) == head


def test_only_what_is_said_is_written() -> None:
    assert DetectionHead("yolo", objectness=False).to_json() == {"kind": "yolo", "objectness": False}


def test_anchors_are_written_as_plain_lists() -> None:
    assert DetectionHead("anchors", anchors=GRID).to_json()["anchors"] == {
        "strides": [8, 16],
        "boxes": [[[10.0, 20.0], [20.0, 10.0]], [[40.0, 40.0]]],
        "offset": 0.25,
    }


@pytest.mark.parametrize(
    ("kind", "order"),
    [("finished", "yxyx"), ("anchors", "yxyx"), ("heatmap", "yxyx"), ("rows", "xyxy"), ("yolo", "cxcywh")],
)
def test_each_kind_has_its_usual_order_of_a_box(kind: str, order: str) -> None:
    anchors = GRID if kind == "anchors" else None
    assert DetectionHead(kind, anchors=anchors).box_order == order  # type: ignore[arg-type]
    assert DetectionHead(kind, box="xyxy", anchors=anchors).box_order == "xyxy"  # type: ignore[arg-type]


def test_a_key_of_a_later_version_is_an_error_that_says_so() -> None:
    with pytest.raises(MetadataError, match="keys that are not known") as caught:
        DetectionHead.from_json({"kind": "yolo", "angle": True})
    assert caught.value.received == "angle"
    assert caught.value.next_step == "Update edgeinfer on this machine."


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"kind": "boxes"},
        {"kind": "yolo", "unit": "metres"},
        {"kind": "yolo", "box": "xywh"},
        {"kind": "yolo", "channels": "middle"},
        {"kind": "yolo", "objectness": 5},
        {"kind": "yolo", "scaling": [1, 2, 3]},
        {"kind": "yolo", "scaling": 10},
        {"kind": "yolo", "scaling": [0, 1, 1, 1]},
        {"kind": "yolo", "anchors": {"strides": [8], "boxes": [[[1, 1]]]}},
        {"kind": "anchors"},
        {"kind": "anchors", "anchors": 5},
        {"kind": "anchors", "anchors": {"strides": [8]}},
        {"kind": "anchors", "anchors": {"strides": [8], "boxes": 7}},
        {"kind": "anchors", "anchors": {"strides": [8], "boxes": [[[1, 1]]], "shift": 1}},
    ],
    ids=str,
)
def test_a_wrong_head_in_a_file_is_an_error_of_the_metadata(said: dict[str, object]) -> None:
    with pytest.raises(MetadataError):
        DetectionHead.from_json(said)


@pytest.mark.parametrize(
    ("strides", "boxes", "offset"),
    [
        ((), (), 0.5),
        ((8,), (), 0.5),
        ((8,), ((),), 0.5),
        ((8,), (((1.0, 2.0, 3.0),),), 0.5),
        ((0,), (((1.0, 1.0),),), 0.5),
        ((8,), (((1.0, float("nan")),),), 0.5),
        ((8,), (((1.0, 1.0),),), 1.5),
    ],
)
def test_a_grid_that_holds_no_anchors_is_an_error(strides: tuple, boxes: tuple, offset: float) -> None:
    with pytest.raises(MetadataError):
        AnchorGrid(strides, boxes, offset)


def test_sizes_and_ratios_keep_the_area() -> None:
    # A ratio of 4 is twice as wide and half as high: 20 x 20 becomes 40 x 10.
    grid = AnchorGrid.of_sizes((8,), sizes=((20.0, 30.0),), ratios=(1.0, 4.0))
    assert grid.boxes == (((20.0, 20.0), (40.0, 10.0), (30.0, 30.0), (60.0, 15.0)),)


def test_a_ratio_of_nothing_is_an_error() -> None:
    with pytest.raises(MetadataError, match="ratio"):
        AnchorGrid.of_sizes((8,), sizes=((20.0,),), ratios=(0.0,))
