from __future__ import annotations

import json
import struct
import zipfile
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pytest
import tiny_models
from tiny_flatbuffer import Scalar, Table

from edgeinfer.errors import DamagedModelError, InputFileError, MetadataError
from edgeinfer.model.attached import read_files
from edgeinfer.model.metadata import (
    InputSpec,
    Normalization,
    OutputSpec,
    Rescaling,
    Resize,
    read,
)
from edgeinfer.model.schema import parse

LABELS = ("red", "green", "blue", "dark")


def refused(data: bytes, words: str) -> MetadataError:
    with pytest.raises(MetadataError) as caught:
        read(data)
    assert words in str(caught.value)
    return caught.value


def test_a_bare_file_says_what_its_graph_says() -> None:
    said = read(tiny_models.classifier(size=(8, 6), classes=4))
    assert said.task == "classification"
    assert said.inputs == (
        InputSpec("image", (1, 6, 8, 3), "int8", pytest.approx(1 / 255), -128, colour="rgb"),  # type: ignore[arg-type]
    )
    assert said.outputs == (OutputSpec("answer", (1, 4), "int8", 1 / 256, -128, activation="softmax"),)
    assert (said.name, dict(said.made)) == ("", {})


def test_path_bytes_and_parsed_file_say_the_same(tmp_path: Path) -> None:
    data = tiny_models.classifier(labels=LABELS)
    (tmp_path / "m.tflite").write_bytes(data)
    assert read(tmp_path / "m.tflite") == read(str(tmp_path / "m.tflite")) == read(data) == read(parse(data))


def test_a_missing_file_and_a_damaged_one_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(InputFileError):
        read(tmp_path / "missing.tflite")
    with pytest.raises(DamagedModelError):
        read(b"nothing of the kind")


def test_tflite_metadata_gives_names_normalization_and_labels() -> None:
    notes = tiny_models.tflite_metadata(
        name="Birds", normalization=([127.5], [127.5]), colour=1, labels_file="labels.txt", author="A. Person"
    )
    data = tiny_models.classifier(metadata={"TFLITE_METADATA": notes})
    said = read(tiny_models.with_files(data, {"labels.txt": "red\ngreen\nblue\ndark\n"}))
    assert (said.name, said.description, said.version) == ("Birds", "a tiny model", "v1")
    assert (said.author, said.license) == ("A. Person", "Apache-2.0")
    assert said.inputs[0].normalization == Normalization(127.5, 127.5)
    assert said.outputs[0].labels == LABELS
    assert (said.inputs[0].name, said.outputs[0].name) == ("image", "probability")


def test_our_record_gives_what_the_standard_cannot_say() -> None:
    record = {
        "schema": 1,
        "task": "tensors",
        "inputs": [
            {
                "resize": {"mode": "letterbox", "filter": "bicubic-antialias", "pad": 114},
                "rescaling": {"scale": 0.5, "offset": -1},
            }
        ],
        "outputs": [{"activation": "none"}],
        "made": {"recipe": {"steps": []}},
    }
    said = read(tiny_models.classifier(record=record))
    assert said.task == "tensors"
    assert said.inputs[0].resize == Resize("letterbox", "bicubic-antialias", 114)
    assert said.inputs[0].rescaling == Rescaling(0.5, -1.0)
    assert said.outputs[0].activation == "none"
    assert said.made == {"recipe": {"steps": []}}


def test_a_record_that_says_little_leaves_the_defaults() -> None:
    said = read(tiny_models.classifier(record={"schema": 1, "inputs": [{"rescaling": None}]}))
    assert said == read(tiny_models.classifier())


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({"schema": 2}, "Update edgeinfer"),
        ({"schema": "1"}, "`schema`"),
        ({"schema": True}, "`schema`"),
        ({}, "`schema`"),
        ({"schema": 1, "task": "poetry"}, "task"),
        ({"schema": 1, "task": 5}, "`task`"),
        ({"schema": 1, "inputs": {}, "outputs": [{}, {}]}, "counts other outputs"),
        ({"schema": 1, "inputs": [{}, {}]}, "counts other inputs"),
        ({"schema": 1, "inputs": ["x"]}, "`inputs`"),
        ({"schema": 1, "inputs": [{"resize": {"mode": "fold"}}]}, "resize"),
        ({"schema": 1, "inputs": [{"resize": {"pad": 300}}]}, "pad"),
        ({"schema": 1, "inputs": [{"resize": {"pad": "grey"}}]}, "`pad`"),
        ({"schema": 1, "inputs": [{"resize": {"pad": float("nan")}}]}, "`pad`"),
        ({"schema": 1, "inputs": [{"resize": {"pad": 3.7}}]}, "`pad`"),
        ({"schema": 1, "inputs": [{"resize": ["stretch"]}]}, "`resize`"),
        ({"schema": 1, "inputs": [{"rescaling": {"scale": 0, "offset": 0}}]}, "rescaling"),
        ({"schema": 1, "inputs": [{"rescaling": {"scale": 1}}]}, "`offset`"),
        ({"schema": 1, "inputs": [{"rescaling": {"scale": float("nan"), "offset": 0}}]}, "`scale`"),
        ({"schema": 1, "outputs": [{"activation": "maybe"}]}, "activation"),
        ({"schema": 1, "made": 7}, "`made`"),
    ],
    ids=lambda value: json.dumps(value) if isinstance(value, dict) else "",
)
def test_a_wrong_record_is_refused_where_it_is_wrong(record: dict[str, object], words: str) -> None:
    refused(tiny_models.classifier(record=record), words)


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff", b"[" * 100_000], ids=["half", "list", "bytes", "deep"])
def test_a_record_that_is_no_json_object_is_refused(content: bytes) -> None:
    refused(tiny_models.with_files(tiny_models.classifier(), {"edgeinfer.json": content}), "edgeinfer.json")


@pytest.mark.parametrize("count", [1, 3, 5])
def test_labels_of_another_number_than_the_classes_are_refused(count: int) -> None:
    error = refused(tiny_models.classifier(classes=4, labels=["x"] * count), "do not fit")
    assert f"{count} labels" in error.received
    assert error.expected.startswith("4")


def test_a_single_probability_takes_two_labels() -> None:
    data = tiny_models.classifier(channels=1, classes=1, activation="sigmoid", labels=["no", "yes"])
    assert read(data).outputs[0].labels == ("no", "yes")
    refused(tiny_models.classifier(channels=1, classes=1, activation="sigmoid", labels=["one"]), "do not fit")


def test_a_label_file_that_is_named_and_missing_is_refused() -> None:
    notes = tiny_models.tflite_metadata(labels_file="names.txt")
    data = tiny_models.classifier(metadata={"TFLITE_METADATA": notes})
    assert "no attached file" in refused(data, "`names.txt`").received
    refused(tiny_models.with_files(data, {"labels.txt": "a"}), "`labels.txt`")


def test_labels_that_are_not_utf8_are_refused() -> None:
    notes = tiny_models.tflite_metadata(labels_file="labels.txt")
    data = tiny_models.classifier(metadata={"TFLITE_METADATA": notes})
    refused(tiny_models.with_files(data, {"labels.txt": b"\xff\xfe\n"}), "UTF-8")


def test_labels_without_softmax_make_a_classifier() -> None:
    assert read(tiny_models.classifier(activation="none")).task == "tensors"
    assert read(tiny_models.classifier(activation="none", labels=LABELS)).task == "classification"


@pytest.mark.parametrize(("channels", "colour"), [(1, "grayscale"), (3, "rgb"), (4, None)])
def test_colours_follow_from_the_channels(channels: int, colour: str | None) -> None:
    assert read(tiny_models.classifier(channels=channels)).inputs[0].colour == colour


@pytest.mark.parametrize(("channels", "colour"), [(3, 2), (1, 1)])
def test_colours_without_their_channels_are_refused(channels: int, colour: int) -> None:
    notes = tiny_models.tflite_metadata(colour=colour)
    refused(tiny_models.classifier(channels=channels, metadata={"TFLITE_METADATA": notes}), "colours")


def test_equal_normalizations_of_all_channels_are_one() -> None:
    notes = tiny_models.tflite_metadata(normalization=([127.5] * 3, [128.0] * 3))
    said = read(tiny_models.classifier(metadata={"TFLITE_METADATA": notes}))
    assert said.inputs[0].normalization == Normalization(127.5, 128.0)
    assert said.inputs[0].picture_problem == ""


def test_different_normalizations_per_channel_are_told_and_not_averaged() -> None:
    notes = tiny_models.tflite_metadata(normalization=([123.675, 116.28, 103.53], [58.395, 57.12, 57.375]))
    (spec,) = read(tiny_models.classifier(metadata={"TFLITE_METADATA": notes})).inputs
    assert spec.normalization is None
    assert "116.28" in spec.picture_problem


@pytest.mark.parametrize(
    "normalization",
    [([127.5], []), ([], [127.5]), ([127.5], [0.0]), ([float("nan")], [1.0])],
    ids=["no std", "no mean", "std 0", "nan"],
)
def test_half_a_normalization_is_refused(normalization: tuple[list[float], list[float]]) -> None:
    notes = tiny_models.tflite_metadata(normalization=normalization)
    refused(tiny_models.classifier(metadata={"TFLITE_METADATA": notes}), "normalization")


def test_metadata_for_another_number_of_tensors_is_refused() -> None:
    notes = tiny_models.tflite_metadata()
    tensors = [tiny_models.TensorSpec(name, (1, 2)) for name in "ab"]
    data = tiny_models.model(tensors, [], inputs=[0, 1], outputs=[0], metadata={"TFLITE_METADATA": notes})
    refused(data, "counts other inputs")


def test_damaged_metadata_does_not_make_the_model_damaged() -> None:
    refused(tiny_models.classifier(metadata={"TFLITE_METADATA": b"\x01" * 40}), "TFLite Metadata")


def test_a_signature_names_what_the_metadata_does_not() -> None:
    signature = Table(
        {
            0: [Table({0: "picture", 1: Scalar("I", 0)})],
            1: [Table({0: "depth", 1: Scalar("I", 1)})],
            2: "serving_default",
        }
    )
    tensors = [tiny_models.TensorSpec("a:0", (1, 2)), tiny_models.TensorSpec("b:0", (1, 2))]
    operator = tiny_models.OperatorSpec(tiny_models.SOFTMAX, (0,), (1,), 9)
    data = tiny_models.model(tensors, [operator], inputs=[0], outputs=[1], changes={7: [signature]})
    said = read(data)
    assert (said.inputs[0].name, said.outputs[0].name) == ("picture", "depth")


def test_equal_names_give_way_to_those_of_the_tensors() -> None:
    tensors = [tiny_models.TensorSpec(name, (1, 2)) for name in ("same", "same", "")]
    data = tiny_models.model(tensors, [], inputs=[0, 1, 2], outputs=[0])
    names = [spec.name for spec in read(data).inputs]
    assert names == ["same:0", "same:1", ":2"]


def test_softmax_is_seen_through_ops_that_only_move_values() -> None:
    tensors = [tiny_models.TensorSpec(name, (1, 2)) for name in "abcd"]
    tensors.append(tiny_models.TensorSpec("shape", (2,), "int32", values=[1, 2]))
    operators = [
        tiny_models.OperatorSpec(tiny_models.SOFTMAX, (0,), (1,), 9),
        tiny_models.OperatorSpec(tiny_models.DEQUANTIZE, (1,), (2,)),
        tiny_models.OperatorSpec(tiny_models.RESHAPE, (2, 4), (3,), 17),
    ]
    data = tiny_models.model(tensors, operators, inputs=[0], outputs=[3])
    assert (read(data).outputs[0].activation, read(data).task) == ("softmax", "classification")


@pytest.mark.parametrize(
    ("shape", "task"),
    [
        ((1, 5), "classification"),
        ((1, 1, 1, 5), "classification"),
        ((1, 4, 5), "tensors"),
        ((2, 5), "tensors"),
        ((5,), "tensors"),
    ],
)
def test_only_one_row_of_probabilities_is_a_classification(shape: tuple[int, ...], task: str) -> None:
    tensors = [tiny_models.TensorSpec("a", shape), tiny_models.TensorSpec("b", shape)]
    operator = tiny_models.OperatorSpec(tiny_models.SOFTMAX, (0,), (1,), 9)
    assert read(tiny_models.model(tensors, [operator], inputs=[0], outputs=[1])).task == task


class TestFiles:
    MODEL = tiny_models.classifier()

    def test_files_are_read_by_name(self) -> None:
        found = read_files(tiny_models.with_files(self.MODEL, {"a.txt": "A", "b/c.txt": "C"}))
        assert dict(found) == {"a.txt": b"A", "b/c.txt": b"C"}

    def test_a_model_without_a_zip_has_none(self) -> None:
        assert dict(read_files(self.MODEL)) == {}

    def test_a_zip_bomb_is_refused(self) -> None:
        # 20 MB of zeros pack into 20 kB.
        out = BytesIO(self.MODEL)
        with zipfile.ZipFile(out, "a", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("labels.txt", bytes(20 * 1024 * 1024))
        assert len(out.getvalue()) < 100_000
        with pytest.raises(MetadataError, match="cannot be read") as caught:
            read_files(out.getvalue())
        assert "at most" in caught.value.expected

    def test_the_limit_counts_all_files_together(self) -> None:
        data = tiny_models.with_files(self.MODEL, {"a": bytes(60), "b": bytes(60)})
        assert len(read_files(data, limit_bytes=120)) == 2
        with pytest.raises(MetadataError):
            read_files(data, limit_bytes=119)

    def test_a_zip_packed_by_another_method_is_refused(self) -> None:
        # Only stored and deflated files are in the format's core; the others fail in ways of their own when damaged.
        out = BytesIO(self.MODEL)
        with zipfile.ZipFile(out, "a", zipfile.ZIP_LZMA) as archive:
            archive.writestr("labels.txt", "a")
        with pytest.raises(MetadataError, match="cannot be read") as caught:
            read_files(out.getvalue())
        assert "labels.txt" in caught.value.received

    def test_a_damaged_zip_is_refused(self) -> None:
        data = bytearray(tiny_models.with_files(self.MODEL, {"a.txt": "A" * 100}))
        data[data.index(b"A" * 100)] ^= 1
        with pytest.raises(MetadataError, match="cannot be read"):
            read_files(bytes(data))

    def test_a_zip_with_a_password_is_refused(self) -> None:
        data = bytearray(tiny_models.with_files(self.MODEL, {"a.txt": "A"}))
        for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
            at = data.index(mark) + offset
            data[at] |= 1
        with pytest.raises(MetadataError, match="cannot be read"):
            read_files(bytes(data))

    def test_a_directory_of_the_zip_that_lies_outside_is_refused(self) -> None:
        data = bytearray(tiny_models.with_files(self.MODEL, {"a.txt": "A"}))
        struct.pack_into("<I", data, data.rindex(b"PK\x05\x06") + 12, 0xFFFFFF)
        with pytest.raises(MetadataError):
            read_files(bytes(data))


def test_the_real_files_of_google_coral(test_data: Path) -> None:
    # The label file beside the model has "286  Egyptian cat"; (127.5, 127.5) maps pixels to -1..1.
    said = read(test_data / "coral" / "mobilenet_v2_1.0_224_quant.tflite")
    assert (said.task, said.name) == ("classification", "ImageClassifier")
    assert said.inputs[0].normalization == Normalization(127.5, 127.5)
    assert said.inputs[0].size == (224, 224)
    assert len(said.outputs[0].labels) == 1001
    assert said.outputs[0].labels[286].startswith("Egyptian cat")


def test_a_spec_can_be_given_the_normalization_that_it_lacks() -> None:
    (spec,) = read(tiny_models.classifier()).inputs
    assert replace(spec, normalization=Normalization(0, 255)).normalization == Normalization(0, 255)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "cut.tflite").write_bytes(tiny_models.dense()[:-200])
    with pytest.raises(DamagedModelError, match=r"^`cut\.tflite`: "):
        read(tmp_path / "cut.tflite")
