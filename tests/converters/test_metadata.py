"""The writer of the contract, held against the reader, other implementations and the engines."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models
from hypothesis import given, settings
from hypothesis import strategies as st

from converters.metadata import annotate, write
from converters.tflite.attach import attach, detach
from edgeinfer.errors import DamagedModelError, MetadataError, MissingDependencyError, ModelError
from edgeinfer.model.metadata import (
    ModelMetadata,
    Normalization,
    Rescaling,
    Resize,
    read,
)
from edgeinfer.model.schema import parse

pytest.importorskip("flatbuffers", reason="flatbuffers is not installed: metadata is written on workstations")

NAMES = ("red", "green", "blue", "dark")


def files_in(tflite: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(tflite)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def described(tflite: bytes) -> ModelMetadata:
    """Metadata with every field set to something else than its default."""
    found = read(tflite)
    image = replace(
        found.inputs[0],
        name="photo",
        colour="rgb",
        normalization=Normalization(127.5, 127.5),
        resize=Resize("letterbox", "bicubic-antialias", 114),
        rescaling=Rescaling(1 / 255, -0.5),
    )
    answer = replace(found.outputs[0], name="chance", labels=NAMES, activation="softmax")
    return ModelMetadata(
        task="classification",
        inputs=(image,),
        outputs=(answer,),
        name="Farben",
        description="Says which colour is the strongest.",
        version="1.2",
        author="Ä. Person",
        license="Apache-2.0",
        made={"scheme": "int8", "samples": 200, "accuracy": 0.9875},
    )


def answers(tflite: bytes) -> list[Any]:
    """All outputs of a file in LiteRT for one random input."""
    interpreter_module = pytest.importorskip("ai_edge_litert.interpreter", reason="LiteRT is not installed")
    interpreter = interpreter_module.Interpreter(model_content=tflite, num_threads=1)
    interpreter.allocate_tensors()
    random = np.random.default_rng(7)
    for detail in interpreter.get_input_details():
        numbers = random.integers(0, 100, detail["shape"]).astype(detail["dtype"])
        interpreter.set_tensor(detail["index"], numbers)
    interpreter.invoke()
    return [interpreter.get_tensor(detail["index"]) for detail in interpreter.get_output_details()]


# --- what is written is what is read --------------------------------------------------------------


def test_every_field_comes_back() -> None:
    tflite = tiny_models.classifier()
    metadata = described(tflite)
    assert read(write(tflite, metadata)) == metadata


words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
lines = words.map(str.strip).filter(lambda text: text.splitlines() == [text] and not text.startswith("\ufeff"))
singles = st.floats(-1000, 1000, width=32)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=60, deadline=None)
@given(
    texts=st.lists(words, min_size=7, max_size=7),
    labels=st.just(()) | st.tuples(lines, lines, lines, lines),
    normalization=st.none() | st.builds(Normalization, singles, st.floats(2**-10, 1000, width=32)),
    resize=st.builds(
        Resize,
        st.sampled_from(["stretch", "letterbox", "crop"]),
        st.sampled_from(["nearest", "bilinear", "lanczos-antialias"]),
        st.integers(0, 255),
    ),
    rescaling=st.none() | st.builds(Rescaling, st.floats(2**-10, 8), singles),
    made=st.dictionaries(words, json_values, max_size=3),
)
def test_any_metadata_comes_back(
    texts: list[str],
    labels: tuple[str, ...],
    normalization: Normalization | None,
    resize: Resize,
    rescaling: Rescaling | None,
    made: dict[str, object],
) -> None:
    tflite = tiny_models.classifier()
    found = read(tflite)
    metadata = ModelMetadata(
        "classification",
        (
            replace(
                found.inputs[0],
                name=texts[0],
                colour="rgb",
                normalization=normalization,
                resize=resize,
                rescaling=rescaling,
            ),
        ),
        (replace(found.outputs[0], name=texts[1], labels=labels, activation="softmax"),),
        name=texts[2],
        description=texts[3],
        version=texts[4],
        author=texts[5],
        license=texts[6],
        made=made,
    )
    assert read(write(tflite, metadata)) == metadata


def test_a_normalization_is_stored_as_float32() -> None:
    tflite = tiny_models.classifier()
    changed = annotate(tflite, normalization=Normalization(123.675, 58.395))
    found = read(changed).inputs[0].normalization
    assert found == Normalization(float(np.float32(123.675)), float(np.float32(58.395)))


# --- where it is written --------------------------------------------------------------------------


def test_the_json_holds_what_the_standard_cannot_say_and_nothing_else() -> None:
    tflite = tiny_models.classifier()
    record = json.loads(files_in(write(tflite, described(tflite)))["edgeinfer.json"])
    assert record == {
        "schema": 1,
        "task": "classification",
        "inputs": [
            {
                "resize": {"mode": "letterbox", "filter": "bicubic-antialias", "pad": 114},
                "rescaling": {"scale": 1 / 255, "offset": -0.5},
            }
        ],
        "outputs": [{"activation": "softmax"}],
        "made": {"scheme": "int8", "samples": 200, "accuracy": 0.9875},
    }


def test_labels_are_one_a_line_in_utf8() -> None:
    changed = annotate(tiny_models.classifier(), labels=["rot", "grün", "blau", "黒"])
    assert files_in(changed)["labels.txt"] == "rot\ngrün\nblau\n黒\n".encode()


def test_files_are_stored_uncompressed_so_that_android_can_map_them() -> None:
    changed = annotate(tiny_models.classifier(), labels=NAMES)
    with zipfile.ZipFile(io.BytesIO(changed)) as archive:
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}


def test_a_model_without_labels_has_no_label_file() -> None:
    assert list(files_in(annotate(tiny_models.classifier(), task="classification"))) == ["edgeinfer.json"]


def test_the_value_range_follows_from_the_normalization() -> None:
    """Read slot by slot with flatbuffers' own table: TensorMetadata.stats is slot 5, Stats is (max, min)."""
    table_module = pytest.importorskip("flatbuffers.table", reason="flatbuffers is not installed")

    def child(table: Any, slot: int) -> Any:
        return table_module.Table(table.Bytes, table.Indirect(table.Pos + table.Offset(4 + 2 * slot)))

    def first(table: Any, slot: int) -> Any:
        return table_module.Table(table.Bytes, table.Indirect(table.Vector(table.Offset(4 + 2 * slot))))

    def number(table: Any, slot: int) -> float:
        start = table.Vector(table.Offset(4 + 2 * slot))
        return float(np.frombuffer(table.Bytes, "<f4", 1, start)[0])

    changed = annotate(tiny_models.classifier(), normalization=Normalization(127.5, 127.5))
    data = bytes(parse(changed).metadata["TFLITE_METADATA"])
    assert data[4:8] == b"M001"
    root = table_module.Table(data, int.from_bytes(data[:4], "little"))
    stats = child(first(first(root, 3), 2), 5)
    assert (number(stats, 1), number(stats, 0)) == (-1.0, 1.0)


# --- what stays -----------------------------------------------------------------------------------


def test_the_model_stands_unchanged_at_a_multiple_of_16_bytes() -> None:
    tflite = tiny_models.classifier()
    changed = write(tflite, described(tflite))
    assert changed.index(tflite) % 16 == 0


def test_the_model_can_be_taken_out_again() -> None:
    tflite = tiny_models.classifier()
    assert detach(write(tflite, described(tflite))) == tflite


@pytest.mark.parametrize("labels", [(), NAMES], ids=["bare", "with the metadata of another writer"])
def test_writing_twice_gives_the_same_bytes_as_writing_once(labels: Sequence[str]) -> None:
    tflite = tiny_models.classifier(labels=labels)
    metadata = described(tflite)
    once = write(tflite, metadata)
    assert write(once, metadata) == once
    assert write(annotate(tflite, labels=["a", "b", "c", "TFL3"], task="tensors"), metadata) == once


def test_other_metadata_entries_stay() -> None:
    tflite = tiny_models.classifier(metadata={"CONVERSION_METADATA": b"made by a converter"})
    file = parse(write(tflite, described(tflite)))
    assert file.min_runtime_version == "1.14.0"
    assert bytes(file.metadata["CONVERSION_METADATA"]) == b"made by a converter"


def test_an_older_entry_is_replaced_and_not_joined() -> None:
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated", reason="LiteRT is not installed")
    tflite = tiny_models.classifier(labels=("a", "b", "c", "d"))
    before = schema.ModelT.InitFromPackedBuf(tflite, 0)
    after = schema.ModelT.InitFromPackedBuf(write(tflite, described(tflite)), 0)
    assert sorted(entry.name for entry in after.metadata) == [b"TFLITE_METADATA", b"min_runtime_version"]
    assert len(after.buffers) == len(before.buffers)


def test_another_implementation_reads_the_same_graph() -> None:
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated", reason="LiteRT is not installed")
    tflite = tiny_models.classifier()
    before = schema.ModelT.InitFromPackedBuf(tflite, 0)
    after = schema.ModelT.InitFromPackedBuf(write(tflite, described(tflite)), 0)
    assert (after.version, after.description) == (before.version, before.description)
    for old, new in zip(before.buffers, after.buffers[:-1], strict=True):
        assert bytes([] if new.data is None else new.data) == bytes([] if old.data is None else old.data)
    for old, new in zip(before.subgraphs[0].operators, after.subgraphs[0].operators, strict=True):
        assert vars(old).keys() == vars(new).keys()
        assert list(old.inputs) == list(new.inputs)
    assert [code.builtinCode for code in after.operatorCodes] == [code.builtinCode for code in before.operatorCodes]


@pytest.mark.parametrize("dtype", ["int8", "uint8", "float32"])
def test_litert_answers_the_same_to_the_bit(dtype: str) -> None:
    tflite = tiny_models.classifier(dtype=dtype)
    changed = write(tflite, described(tflite))
    for before, after in zip(answers(tflite), answers(changed), strict=True):
        np.testing.assert_array_equal(after, before)


_IN_TFLITE_RUNTIME = """
import sys
import numpy as np
from tflite_runtime.interpreter import Interpreter
answers = []
for path in sys.argv[1:]:
    interpreter = Interpreter(path)
    interpreter.allocate_tensors()
    for detail in interpreter.get_input_details():
        numbers = np.random.default_rng(7).integers(0, 100, detail["shape"]).astype(detail["dtype"])
        interpreter.set_tensor(detail["index"], numbers)
    interpreter.invoke()
    answers.append([interpreter.get_tensor(d["index"]).tobytes() for d in interpreter.get_output_details()])
print(answers[0] == answers[1])
"""


@pytest.mark.parametrize("dtype", ["int8", "float32"])
def test_tflite_runtime_answers_the_same_to_the_bit(dtype: str, tmp_path: Path) -> None:
    python = os.environ.get("EDGEINFER_DEVICE_PYTHON")
    if not python:
        pytest.skip("EDGEINFER_DEVICE_PYTHON names no interpreter with tflite-runtime")
    tflite = tiny_models.classifier(dtype=dtype)
    paths = [tmp_path / "before.tflite", tmp_path / "after.tflite"]
    for path, data in zip(paths, (tflite, write(tflite, described(tflite))), strict=True):
        path.write_bytes(data)
    done = subprocess.run(
        [python, "-c", _IN_TFLITE_RUNTIME, *map(str, paths)], capture_output=True, text=True, check=False
    )
    assert done.stdout == "True\n", done.stderr


def test_a_real_model_with_the_metadata_of_another_writer_answers_the_same(test_data: Path) -> None:
    tflite = (test_data / "coral" / "mobilenet_v1_0.25_128_quant.tflite").read_bytes()
    labels = [f"class {index}" for index in range(1001)]
    changed = annotate(tflite, labels=labels, task="classification", activation="softmax")
    found = read(changed)
    assert found.outputs[0].labels == tuple(labels)
    assert found.inputs[0].normalization == read(tflite).inputs[0].normalization
    for before, after in zip(answers(tflite), answers(changed), strict=True):
        np.testing.assert_array_equal(after, before)


# --- annotate -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"task": "tensors"},
        {"labels": ("a", "b", "c", "d")},
        {"normalization": Normalization(0.0, 255.0)},
        {"resize": Resize("crop", "nearest")},
        {"activation": "none"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_annotate_changes_only_what_is_given(change: dict[str, Any]) -> None:
    tflite = tiny_models.classifier()
    metadata = described(tflite)
    written = write(tflite, metadata)
    found = read(annotate(written, **change))
    if "task" in change:
        expected = replace(metadata, task=change["task"])
    elif "labels" in change or "activation" in change:
        expected = replace(metadata, outputs=(replace(metadata.outputs[0], **change),))
    else:
        expected = replace(metadata, inputs=(replace(metadata.inputs[0], **change),))
    assert found == expected


def test_annotate_without_changes_says_what_the_file_said() -> None:
    tflite = tiny_models.classifier()
    written = write(tflite, described(tflite))
    assert annotate(written) == written


def test_annotate_keeps_what_another_writer_said() -> None:
    tflite = tiny_models.classifier(labels=NAMES, normalization=(127.5, 127.5))
    before, after = read(tflite), read(annotate(tflite, activation="softmax"))
    assert after.inputs == before.inputs
    assert after.outputs[0].labels == NAMES


@pytest.mark.parametrize("files", [{}, {"names.txt": b"too\nfew\n"}], ids=["missing", "too short"])
def test_a_wrong_label_file_can_be_repaired(files: dict[str, bytes]) -> None:
    notes = tiny_models.tflite_metadata(labels_file="names.txt", normalization=([127.5], [127.5]))
    bare = tiny_models.classifier(metadata={"TFLITE_METADATA": notes})
    tflite = tiny_models.with_files(bare, files) if files else bare
    with pytest.raises(MetadataError):
        annotate(tflite, task="classification")
    found = read(annotate(tflite, labels=NAMES))
    assert found.outputs[0].labels == NAMES
    assert found.inputs[0].normalization == Normalization(127.5, 127.5)


def test_no_labels_take_the_labels_away() -> None:
    changed = annotate(annotate(tiny_models.classifier(), labels=NAMES), labels=[])
    assert read(changed).outputs[0].labels == ()
    assert "labels.txt" not in files_in(changed)


@pytest.mark.parametrize("count", [9, 11])
def test_labels_that_do_not_fit_the_output_are_refused(count: int) -> None:
    with pytest.raises(MetadataError) as caught:
        annotate(tiny_models.classifier(classes=10), labels=[f"class {index}" for index in range(count)])
    assert caught.value.received.startswith(f"{count} ")
    assert caught.value.expected.startswith("10")


def test_a_single_probability_takes_two_labels() -> None:
    tflite = tiny_models.classifier(channels=1, classes=1, activation="sigmoid")
    assert read(annotate(tflite, labels=["no", "yes"])).outputs[0].labels == ("no", "yes")
    with pytest.raises(MetadataError):
        annotate(tflite, labels=["yes"])


def test_two_classes_may_have_the_same_name() -> None:
    names = ("crane", "crane", "blue", "dark")
    assert read(annotate(tiny_models.classifier(), labels=names)).outputs[0].labels == names


@pytest.mark.parametrize("label", ["", "  ", "a\nb", "a\u2028b", " a", "a "], ids=repr)
def test_a_label_that_is_no_line_of_its_own_is_refused(label: str) -> None:
    with pytest.raises(MetadataError, match="Label 1"):
        annotate(tiny_models.classifier(), labels=["red", label, "blue", "dark"])


def test_pictures_cannot_be_normalized_where_no_input_is_one() -> None:
    with pytest.raises(MetadataError, match="No input"):
        annotate(tiny_models.dense(), normalization=Normalization(0.0, 255.0))


# --- what is refused ------------------------------------------------------------------------------


def test_metadata_of_another_file_is_refused() -> None:
    metadata = read(tiny_models.classifier(classes=4))
    with pytest.raises(MetadataError, match="not for this file") as caught:
        write(tiny_models.classifier(classes=5), metadata)
    assert caught.value.received == "(1, 4) int8"
    assert caught.value.expected == "(1, 5) int8"


@pytest.mark.parametrize("value", [float("nan"), object(), "\ud800"], ids=["nan", "object", "lone surrogate"])
def test_what_json_cannot_say_is_refused(value: object) -> None:
    tflite = tiny_models.classifier()
    with pytest.raises(MetadataError):
        write(tflite, replace(read(tflite), made={"value": value}))


@pytest.mark.parametrize("std", [1e-60, 1e60])
def test_a_normalization_beyond_float32_is_refused(std: float) -> None:
    with pytest.raises(MetadataError, match="32-bit"):
        annotate(tiny_models.classifier(), normalization=Normalization(1.0, std))


@pytest.mark.parametrize("data", [b"", b"no model at all", b"\x10\0\0\0TFL3"], ids=["empty", "text", "cut off"])
def test_what_is_no_model_is_refused(data: bytes) -> None:
    with pytest.raises(DamagedModelError):
        annotate(data, task="classification")
    with pytest.raises(DamagedModelError):
        attach(data, name="TFLITE_METADATA", data=b"", files={})


def test_a_root_table_of_a_newer_schema_is_refused() -> None:
    tflite = tiny_models.classifier()
    newer = tiny_models.model([], [], inputs=[], outputs=[], changes={10: "a field that nobody knows yet"})
    assert attach(tflite, name="X", data=b"x", files={})
    with pytest.raises(ModelError, match="does not know"):
        attach(newer, name="X", data=b"x", files={})


def test_a_damaged_zip_is_refused() -> None:
    changed = bytearray(annotate(tiny_models.classifier(), labels=NAMES))
    directory = changed.rindex(b"PK\x01\x02")
    changed[directory : directory + 4] = b"XXXX"
    with pytest.raises(MetadataError, match="attached"):
        annotate(bytes(changed), task="classification")
    with pytest.raises(MetadataError, match="attached"):
        detach(bytes(changed))


def test_a_normalization_per_channel_is_not_dropped_in_silence() -> None:
    notes = tiny_models.tflite_metadata(normalization=([1.0, 2.0, 3.0], [1.0, 1.0, 1.0]))
    tflite = tiny_models.classifier(metadata={"TFLITE_METADATA": notes})
    with pytest.raises(MetadataError, match="cannot be kept"):
        annotate(tflite, labels=NAMES)
    changed = annotate(tflite, labels=NAMES, normalization=Normalization(2.0, 1.0))
    assert read(changed).inputs[0].normalization == Normalization(2.0, 1.0)


def test_labels_that_would_be_read_without_their_numbers_are_refused() -> None:
    # A reader takes "0  red", "1  green", ... for the numbered lists that Google Coral has.
    with pytest.raises(MetadataError, match="not be read as they are written"):
        annotate(tiny_models.classifier(), labels=[f"{index} {name}" for index, name in enumerate(NAMES)])


def test_a_missing_flatbuffers_is_told_with_the_line_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "flatbuffers", None)
    with pytest.raises(MissingDependencyError, match="`flatbuffers`") as caught:
        annotate(tiny_models.classifier(), task="classification")
    # Not the whole workstation: a device can annotate too.
    assert caught.value.next_step == "pip install flatbuffers"
