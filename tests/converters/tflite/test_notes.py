"""What MediaPipe and other readers look for in TFLite Metadata, read slot by slot by an independent reader.

Slots and numbers are those of `metadata_schema.fbs` 1.5. That MediaPipe opens the files is a test of its own.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import tiny_models
from tiny_models import CUSTOM, OperatorSpec, TensorSpec

from converters.detection_classes import op_classes
from converters.metadata import annotate, assign_roles, write
from edgeinfer.errors import MetadataError
from edgeinfer.model.flatbuffer import FlatBuffer, Table
from edgeinfer.model.heads import DetectionHead
from edgeinfer.model.metadata import read
from edgeinfer.model.schema import parse

flexbuffers = pytest.importorskip(
    "flatbuffers.flexbuffers", reason="flatbuffers is not installed: metadata is written on workstations"
)


def finished(classes: int | None = 3) -> bytes:
    """A detection that TFLite's own op finishes; its options say how many classes it counts."""
    shapes = ((1, 10, 4), (1, 10), (1, 10), (1,))
    tensors = [TensorSpec("picture", (1, 8, 8, 3), "uint8", 1 / 255)]
    tensors += [TensorSpec(f"TFLite_Detection_PostProcess:{place}", shape) for place, shape in enumerate(shapes)]
    options = None if classes is None else bytes(flexbuffers.Dumps({"max_detections": 10, "num_classes": classes}))
    operator = OperatorSpec(
        CUSTOM, (0,), (1, 2, 3, 4), custom_code="TFLite_Detection_PostProcess", custom_options=options
    )
    return tiny_models.model(tensors, [operator], inputs=[0], outputs=[1, 2, 3, 4])


def plain(shape: tuple[int, ...], dtype: str = "float32") -> bytes:
    tensors = [TensorSpec("picture", (1, 8, 8, 3)), TensorSpec("answer", shape, dtype)]
    operator = OperatorSpec(tiny_models.RESHAPE, (0,), (1,))
    return tiny_models.model(tensors, [operator], inputs=[0], outputs=[1])


def tables(tflite: bytes) -> tuple[Table, Table]:
    """The metadata's root and its subgraph."""
    root = FlatBuffer(bytes(parse(tflite).metadata["TFLITE_METADATA"])).root(b"M001")
    return root, root.tables(3)[0]


def child(table: Table, slot: int) -> Table:
    found = table.table(slot)
    assert found is not None
    return found


# --- detections -----------------------------------------------------------------------------------


def test_the_outputs_of_a_finished_detection_are_called_as_mediapipe_looks_for_them() -> None:
    _, subgraph = tables(annotate(finished(), task="detection"))
    names = [output.string(0) for output in subgraph.tables(3)]
    assert names == ["location", "category", "score", "number of detections"]


@pytest.mark.parametrize(
    ("head", "indices", "coordinates"),
    [
        (None, (1, 0, 3, 2), 0),
        (DetectionHead("finished", box="xyxy"), (0, 1, 2, 3), 0),
        (DetectionHead("finished", unit="pixels"), (1, 0, 3, 2), 1),
    ],
    ids=["y before x", "x before y", "pixels"],
)
def test_the_boxes_say_the_order_of_their_sides(
    head: DetectionHead | None, indices: tuple[int, ...], coordinates: int
) -> None:
    _, subgraph = tables(annotate(finished(), head=head, task="detection"))
    content = child(subgraph.tables(3)[0], 3)
    assert content.integer(0, "B") == 3  # BoundingBoxProperties
    properties = child(content, 1)
    assert properties.integers(0, "I") == indices
    assert (properties.integer(1, "b"), properties.integer(2, "b")) == (1, coordinates)  # BOUNDARIES; RATIO, PIXEL
    assert (child(content, 2).integer(0, "i"), child(content, 2).integer(1, "i")) == (2, 2)


def test_what_belongs_to_one_detection_is_a_group_and_needs_a_parser_of_1_2() -> None:
    root, subgraph = tables(annotate(finished(), task="detection"))
    assert root.string(7) == "1.2.0"
    assert len(subgraph.tables(8)) == 1


def test_labels_of_a_finished_detection_are_labels_of_values() -> None:
    changed = annotate(finished(), labels=("cat", "dog", "cow"))
    _, subgraph = tables(changed)
    assert [len(output.tables(6)) for output in subgraph.tables(3)] == [0, 1, 0, 0]
    assert subgraph.tables(3)[1].tables(6)[0].integer(2, "b") == 3  # TENSOR_VALUE_LABELS
    assert read(changed).outputs[1].labels == ("cat", "dog", "cow")


def test_the_detection_op_says_how_many_classes_it_counts() -> None:
    assert op_classes(finished(90)) == 90
    assert op_classes(finished(None)) is None
    assert op_classes(tiny_models.classifier()) is None


@pytest.mark.parametrize("first", ["unlabeled", "background", "???"])
def test_a_background_that_the_op_leaves_out_is_left_out_of_the_labels(first: str) -> None:
    assert read(annotate(finished(2), labels=(first, "cat", "dog"))).outputs[1].labels == ("cat", "dog")


@pytest.mark.parametrize("count", [2, 4])
def test_labels_that_are_not_the_ops_classes_are_refused(count: int) -> None:
    with pytest.raises(MetadataError, match="detection op") as caught:
        annotate(finished(3), labels=[f"class {place}" for place in range(count)])
    assert caught.value.expected.startswith("3,")


def test_a_yolo_head_travels_and_says_where_the_labels_belong() -> None:
    head = DetectionHead("yolo", channels="first", objectness=False, unit="share")
    changed = annotate(plain((1, 7, 84)), head=head, labels=("cat", "dog", "cow"))
    said = read(changed)
    assert (said.task, said.head, said.outputs[0].role) == ("detection", head, "predictions")
    assert said.outputs[0].labels == ("cat", "dog", "cow")
    with pytest.raises(MetadataError, match="fit no output"):
        annotate(plain((1, 7, 84)), head=head, labels=("cat", "dog"))


def test_roles_can_be_given_where_nothing_shows_them() -> None:
    with pytest.raises(MetadataError, match='kind "rows"'):
        annotate(assign_roles(plain((1, 30, 6)), ["boxes"]), head=DetectionHead("rows"))
    changed = annotate(assign_roles(plain((1, 30, 6)), ["predictions"]), head=DetectionHead("rows"))
    assert read(changed).outputs[0].role == "predictions"


def test_roles_and_head_survive_a_later_annotation() -> None:
    head = DetectionHead("yolo", channels="first", objectness=False, unit="share")
    once = annotate(plain((1, 7, 84)), head=head, labels=("cat", "dog", "cow"))
    assert read(annotate(once, task="detection")) == read(once)
    assert annotate(once) == once


def test_another_task_takes_the_head_away() -> None:
    once = annotate(plain((1, 7, 84)), head=DetectionHead("yolo", channels="first", objectness=False, unit="share"))
    assert read(annotate(once, task="tensors")).head is None


# --- the other tasks ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("channels", "activation", "expected"),
    [(4, "none", 2), (4, "softmax", 0), (1, "none", 1), (1, "sigmoid", 0)],
    ids=["logits", "probabilities", "one logit", "one probability"],
)
def test_a_segmentation_says_what_is_still_to_be_done_to_its_scores(
    channels: int, activation: str, expected: int
) -> None:
    """ImageSegmenterOptions.activation: NONE 0, SIGMOID 1, SOFTMAX 2."""
    tflite = annotate(plain((1, 8, 8, channels)), task="segmentation", activation=activation)  # type: ignore[arg-type]
    root, subgraph = tables(tflite)
    assert root.string(7) == "1.5.0"
    custom = subgraph.tables(9)[0]
    assert custom.string(0) == "SEGMENTER_METADATA"
    content = bytes(custom.integers(1, "B"))
    assert FlatBuffer(content).root(b"V001").integer(0, "b") == expected


def test_a_map_of_classes_has_labels_of_values_and_no_activation() -> None:
    changed = annotate(plain((1, 8, 8), "int32"), task="segmentation", labels=("sky", "sea"))
    _, subgraph = tables(changed)
    assert subgraph.tables(3)[0].tables(6)[0].integer(2, "b") == 3
    assert not subgraph.tables(9)
    said = read(changed).outputs[0]
    assert (said.role, said.labels) == ("classmap", ("sky", "sea"))


def test_the_names_of_points_fit_the_points() -> None:
    names = [f"point {place}" for place in range(17)]
    said = read(annotate(plain((1, 1, 17, 3)), task="pose", labels=names))
    assert (said.outputs[0].role, said.outputs[0].labels) == ("keypoints", tuple(names))
    with pytest.raises(MetadataError, match="names fit no output"):
        annotate(plain((1, 1, 17, 3)), task="pose", labels=names[:3])


def test_an_embedding_loses_the_labels_that_it_had_as_a_classification() -> None:
    once = annotate(tiny_models.classifier(), labels=("a", "b", "c", "d"))
    said = read(annotate(once, task="embedding"))
    assert (said.task, said.outputs[0].labels) == ("embedding", ())


def test_the_writer_refuses_a_head_that_does_not_fit() -> None:
    said = read(tiny_models.classifier())
    with pytest.raises(MetadataError, match="Only a detection"):
        write(tiny_models.classifier(), replace(said, head=DetectionHead("yolo")))
