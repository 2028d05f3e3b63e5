"""What counts as a model, what is refused and with which cure, and how a live model travels."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from converters.errors import ConversionError
from converters.facts import TensorFacts
from converters.legacy import explain_load_failure
from converters.load import model_kind, save_live_model
from converters.tflite.process import ConverterProcess
from edgeinfer.errors import DamagedModelError, InputFileError, OutputError


def test_the_content_and_not_the_name_says_what_a_file_is(tmp_path: Path) -> None:
    hdf5, archive, folder = tmp_path / "a.keras", tmp_path / "b.bin", tmp_path / "c"
    # The signature of the HDF5 file format specification, section II.A.
    hdf5.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("config.json", "{}")
    folder.mkdir()
    (folder / "saved_model.pb").write_bytes(b"")
    assert [model_kind(one) for one in (hdf5, archive, folder)] == ["h5", "keras", "savedmodel"]


def test_a_missing_file_is_an_input_file_error(tmp_path: Path) -> None:
    with pytest.raises(InputFileError):
        model_kind(tmp_path / "nothing.keras")


@pytest.mark.parametrize(
    ("content", "received"),
    [
        (b"hello world", "begins with"),
        (b"\x1c\0\0\0TFL3", "converted already"),
    ],
    ids=["text", "tflite"],
)
def test_a_file_that_is_no_model_is_refused_without_starting_tensorflow(
    tmp_path: Path, content: bytes, received: str
) -> None:
    path = tmp_path / "model.keras"
    path.write_bytes(content)
    with pytest.raises(ConversionError) as caught:
        model_kind(path)
    assert received in caught.value.received


@pytest.mark.parametrize(
    ("content", "received"),
    [(b"", "an empty file"), (b"PK\x03\x04 and no more", "a zip file that was cut off")],
    ids=["empty", "half a zip"],
)
def test_a_file_that_was_cut_off_is_damaged_without_starting_tensorflow(
    tmp_path: Path, content: bytes, received: str
) -> None:
    path = tmp_path / "model.keras"
    path.write_bytes(content)
    with pytest.raises(DamagedModelError, match=r"model\.keras` was cut off") as caught:
        model_kind(path)
    assert (caught.value.received, caught.value.exit_code) == (received, 4)


def test_a_directory_that_is_no_saved_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="no SavedModel"):
        model_kind(tmp_path)


@pytest.mark.tensorflow
def test_a_keras_file_says_its_inputs_outputs_and_layers(
    converter: ConverterProcess, small_models: dict[str, Path]
) -> None:
    facts = converter.load(small_models["two_inputs"])
    assert facts.inputs == (
        TensorFacts("zebra", (1, 8, 8, 1), "float32"),
        TensorFacts("ant", (1, 4), "float32"),
    )
    assert facts.outputs == (TensorFacts("zeta", (1, 3), "float32"), TensorFacts("alpha", (1, 2), "float32"))
    # 3 x 3 x 1 x 2 + 2 for the convolution; 6 x 6 x 2 + 4 = 76 features into 3 and 2 units with biases.
    assert facts.parameters == 20 + 77 * 3 + 77 * 2
    assert sorted({one.kind for one in facts.layers}) == ["Concatenate", "Conv2D", "Dense", "Flatten"]


@pytest.mark.tensorflow
def test_a_model_file_by_another_name_is_read_too(
    converter: ConverterProcess, small_models: dict[str, Path], tmp_path: Path
) -> None:
    shutil.copy(small_models["rescaled"], tmp_path / "download.bin")
    facts = converter.load(tmp_path / "download.bin")
    assert (facts.name, facts.kind) == ("small", "keras")
    assert facts.leading is not None
    assert facts.leading.layers == ("to_range",)


@pytest.mark.tensorflow
def test_a_normalization_per_channel_stays_and_says_its_maps(
    keras: Any, converter: ConverterProcess, tmp_path: Path
) -> None:
    layers = keras.layers
    keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Rescaling(1 / 255, name="to_range"),
            layers.Normalization(mean=[0.5, 0.5, 0.25], variance=[0.25, 0.0625, 0.0625], name="channels"),
            layers.Conv2D(2, 3),
        ]
    ).save(tmp_path / "model.keras")
    facts = converter.load(tmp_path / "model.keras")
    assert facts.leading is not None
    assert facts.leading.layers == ("to_range",)
    # 1 / 0.5 and -0.5 / 0.5, 1 / 0.25 and -0.5 / 0.25; the third channel lies between them.
    assert [one.scale for one in facts.staying] == pytest.approx([2, 4])
    assert [one.offset for one in facts.staying] == pytest.approx([-1, -2])
    assert [one.scale * 255 for one in facts.front] == pytest.approx([2, 4])
    assert {one.layers for one in facts.front} == {("to_range", "channels")}


@pytest.mark.tensorflow
def test_a_mixed_precision_model_is_converted_in_float32(
    keras: Any, converter: ConverterProcess, tmp_path: Path
) -> None:
    policy = keras.DTypePolicy("mixed_float16")
    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.Rescaling(0.5, dtype=policy), keras.layers.Dense(2, dtype=policy)]
    )
    model.save(tmp_path / "mixed.keras")
    facts = converter.load(tmp_path / "mixed.keras")
    assert (facts.inputs[0].dtype, facts.outputs[0].dtype) == ("float32", "float32")


@pytest.mark.tensorflow
@pytest.mark.parametrize("suffix", ["keras", "h5"])
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5")
def test_a_lambda_is_refused_and_its_code_does_not_run(
    keras: Any, converter: ConverterProcess, tmp_path: Path, suffix: str
) -> None:
    trace = tmp_path / "trace"
    source = str(trace)
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Lambda(lambda x: [x, __import__("pathlib").Path(source).touch()][0], output_shape=(4,)),
        ]
    )
    model.save(tmp_path / f"model.{suffix}")
    trace.unlink(missing_ok=True)
    with pytest.raises(ConversionError, match="Lambda") as caught:
        converter.load(tmp_path / f"model.{suffix}")
    assert "model.export" in caught.value.next_step
    assert not trace.exists()


@pytest.mark.tensorflow
def test_a_custom_layer_is_named_with_the_cure(keras: Any, converter: ConverterProcess, tmp_path: Path) -> None:
    class Doubler(keras.layers.Layer):  # type: ignore[misc]
        def call(self, inputs: Any) -> Any:
            return inputs * 2

    keras.Sequential([keras.Input((4,)), Doubler(name="twice")]).save(tmp_path / "model.keras")
    with pytest.raises(ConversionError, match="`Doubler`") as caught:
        converter.load(tmp_path / "model.keras")
    assert "`twice`" in caught.value.received
    assert "model.export" in caught.value.next_step


@pytest.mark.tensorflow
def test_an_open_image_size_is_refused_with_the_input_named(
    keras: Any, converter: ConverterProcess, tmp_path: Path
) -> None:
    inputs = keras.Input((None, None, 3), name="any_size")
    pooled = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(2, 3)(inputs))
    keras.Model(inputs, pooled).save(tmp_path / "model.keras")
    with pytest.raises(ConversionError, match="`any_size` has no fixed shape") as caught:
        converter.load(tmp_path / "model.keras")
    assert "clone_model" in caught.value.next_step


@pytest.mark.tensorflow
def test_text_inputs_are_refused(keras: Any, converter: ConverterProcess, tmp_path: Path) -> None:
    inputs = keras.Input((1,), dtype="string", name="words")
    outputs = keras.layers.StringLookup(vocabulary=["a", "b"])(inputs)
    keras.Model(inputs, outputs).save(tmp_path / "model.keras")
    with pytest.raises(ConversionError, match="`words` cannot be converted"):
        converter.load(tmp_path / "model.keras")


@pytest.mark.tensorflow
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5")
def test_keys_that_only_keras_2_wrote_are_left_out(keras: Any, converter: ConverterProcess, tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    layers = keras.layers
    keras.Sequential(
        [
            keras.Input((6, 6, 2)),
            layers.DepthwiseConv2D(3),
            layers.Reshape((4, 8)),
            layers.Bidirectional(layers.LSTM(2)),
        ]
    ).save(tmp_path / "old.h5")
    with h5py.File(tmp_path / "old.h5", "r+") as file:
        config = json.loads(file.attrs["model_config"])
        for layer in config["config"]["layers"]:
            if layer["class_name"] == "DepthwiseConv2D":
                layer["config"]["groups"] = 1
            if layer["class_name"] == "Bidirectional":
                layer["config"]["layer"]["config"]["time_major"] = False
        file.attrs["model_config"] = json.dumps(config)
    before = (tmp_path / "old.h5").read_bytes()
    assert converter.load(tmp_path / "old.h5").outputs[0].shape == (1, 4)
    assert (tmp_path / "old.h5").read_bytes() == before


@pytest.mark.tensorflow
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5")
def test_a_group_count_that_matters_is_not_left_out(keras: Any, converter: ConverterProcess, tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    keras.Sequential([keras.Input((6, 6, 2)), keras.layers.DepthwiseConv2D(3)]).save(tmp_path / "odd.h5")
    with h5py.File(tmp_path / "odd.h5", "r+") as file:
        file.attrs["model_config"] = file.attrs["model_config"].replace('"kernel_size"', '"groups": 2, "kernel_size"')
    with pytest.raises(ConversionError, match="cannot be read"):
        converter.load(tmp_path / "odd.h5")


@pytest.mark.tensorflow
def test_a_file_with_weights_only_is_refused(keras: Any, converter: ConverterProcess, tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    model.save_weights(tmp_path / "model.weights.h5")
    with pytest.raises(ConversionError, match="weights only"):
        converter.load(tmp_path / "model.weights.h5")


@pytest.mark.tensorflow
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5")
@pytest.mark.parametrize("share", [0.2, 0.6, 0.99])
def test_an_h5_file_that_was_cut_off_is_damaged(
    keras: Any, converter: ConverterProcess, small_models: dict[str, Path], tmp_path: Path, share: float
) -> None:
    whole = tmp_path / "whole.h5"
    keras.models.load_model(small_models["rescaled"]).save(whole)
    (tmp_path / "cut.h5").write_bytes(whole.read_bytes()[: int(whole.stat().st_size * share)])
    with pytest.raises(DamagedModelError, match=r"cut\.h5` is damaged or was cut off"):
        converter.load(tmp_path / "cut.h5")


@pytest.mark.tensorflow
@pytest.mark.parametrize("inside", ["config.json", "model.weights.h5"])
def test_a_keras_file_with_damage_inside_is_damaged(
    converter: ConverterProcess, small_models: dict[str, Path], tmp_path: Path, inside: str
) -> None:
    # A byte of the file's content is turned round; the zip's directory stays whole.
    data = bytearray(small_models["rescaled"].read_bytes())
    with zipfile.ZipFile(small_models["rescaled"]) as archive:
        entry = archive.getinfo(inside)
    start = entry.header_offset + 30 + len(inside)
    for place in range(start, start + entry.compress_size, 40):
        data[place] ^= 0xFF
    (tmp_path / "flipped.keras").write_bytes(data)
    with pytest.raises(DamagedModelError, match=r"flipped\.keras` is damaged or was cut off"):
        converter.load(tmp_path / "flipped.keras")


@pytest.mark.tensorflow
@pytest.mark.parametrize(("inside", "share"), [("config.json", 0.5), ("model.weights.h5", 0.7)])
def test_a_keras_file_that_was_packed_of_half_files_is_damaged(
    converter: ConverterProcess, small_models: dict[str, Path], tmp_path: Path, inside: str, share: float
) -> None:
    with zipfile.ZipFile(small_models["rescaled"]) as archive, zipfile.ZipFile(tmp_path / "half.keras", "w") as half:
        for name in archive.namelist():
            content = archive.read(name)
            half.writestr(name, content[: int(len(content) * share)] if name == inside else content)
    with pytest.raises(DamagedModelError, match=r"half\.keras` is damaged or was cut off"):
        converter.load(tmp_path / "half.keras")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_a_temporary_folder_that_is_full_is_no_damage(number: int) -> None:
    found = explain_load_failure(OSError(number, os.strerror(number), "/tmp/model.h5"), Path("m.h5"))
    assert isinstance(found, OutputError)
    assert "TMPDIR" in found.next_step


@pytest.mark.tensorflow
def test_an_exported_directory_is_read_with_batch_1(
    keras: Any, converter: ConverterProcess, small_models: dict[str, Path], tmp_path: Path
) -> None:
    keras.models.load_model(small_models["rescaled"]).export(tmp_path / "exported", verbose=False)
    facts = converter.load(tmp_path / "exported")
    assert facts.kind == "savedmodel"
    assert facts.inputs == (TensorFacts("photo", (1, 16, 16, 3), "float32"),)
    assert facts.outputs[0].shape == (1, 5)
    assert facts.leading is None


@pytest.mark.tensorflow
def test_a_live_model_of_keras_layers_becomes_a_keras_file(keras: Any, tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    path = save_live_model(model, tmp_path)
    assert model_kind(path) == "keras"


@pytest.mark.tensorflow
def test_a_live_model_with_code_of_its_own_travels_as_a_function(
    keras: Any, converter: ConverterProcess, tmp_path: Path
) -> None:
    inputs = keras.Input((4,), name="four")
    model = keras.Model(inputs, keras.layers.Lambda(lambda x: x * 2)(inputs))
    path = save_live_model(model, tmp_path)
    assert model_kind(path) == "savedmodel"
    assert converter.load(path).inputs == (TensorFacts("four", (1, 4), "float32"),)


@pytest.mark.tensorflow
def test_a_live_model_that_does_not_say_what_goes_in_is_refused(keras: Any, tmp_path: Path) -> None:
    class Bare(keras.Model):  # type: ignore[misc]
        def call(self, inputs: Any) -> Any:
            return inputs

    with pytest.raises(ConversionError, match="does not say what goes in"):
        save_live_model(Bare(), tmp_path)


def test_something_else_than_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="no Keras model"):
        save_live_model(np.zeros(3), tmp_path)


KERAS_2 = """
import sys, numpy, tf_keras
from tf_keras import layers
model = tf_keras.Sequential([
    tf_keras.Input((8, 8, 3), name="photo"), layers.Rescaling(1 / 255, name="front"), layers.Conv2D(2, 3),
    layers.BatchNormalization(), layers.Flatten(), layers.Dense(3, activation="softmax", name="kinds")])
model.compile(tf_keras.optimizers.legacy.Adam(), "sparse_categorical_crossentropy")
model.fit(numpy.ones((2, 8, 8, 3)), numpy.array([0, 1]), verbose=0)
model.save(sys.argv[1] + "/trained", save_format="tf")
model.save(sys.argv[1] + "/untraced", save_format="tf", save_traces=False)
numpy.save(sys.argv[1] + "/answer.npy", model.predict(numpy.full((1, 8, 8, 3), 100.0, "float32"), verbose=0))
"""


@pytest.fixture(scope="module")
def keras_2_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with SavedModels that Keras 2 wrote, and what the model answers to a grey picture."""
    python = os.environ.get("EDGEINFER_TF_KERAS_PYTHON")
    if not python:
        pytest.skip("EDGEINFER_TF_KERAS_PYTHON is not set: no Keras 2 here to write a SavedModel")
    folder = tmp_path_factory.mktemp("keras2")
    environment = {**os.environ, "TF_USE_LEGACY_KERAS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    subprocess.run([python, "-c", KERAS_2, str(folder)], check=True, env=environment, capture_output=True)
    return folder


@pytest.mark.tensorflow
def test_a_trained_keras_2_directory_is_restored_without_its_optimizer(
    converter: ConverterProcess, keras_2_models: Path, tmp_path: Path
) -> None:
    from converters.tflite.process import ConvertRequest

    facts = converter.load(keras_2_models / "trained")
    assert facts.inputs == (TensorFacts("photo", (1, 8, 8, 3), "float32"),)
    converter.convert(ConvertRequest(tmp_path / "float.tflite", scheme="float32", io="float32"))
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(tmp_path / "float.tflite"))
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], np.full((1, 8, 8, 3), 100.0, np.float32))
    interpreter.invoke()
    answer = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    assert answer == pytest.approx(np.load(keras_2_models / "answer.npy"), abs=1e-5)


@pytest.mark.tensorflow
def test_a_keras_2_directory_without_functions_goes_through_tf_keras(keras_2_models: Path) -> None:
    with ConverterProcess(timeout=240.0) as process:
        facts = process.load(keras_2_models / "untraced")
    assert "tf-keras" in facts.versions
    assert facts.leading is not None
    assert facts.leading.scale == pytest.approx(1 / 255)
    assert facts.outputs == (TensorFacts("kinds", (1, 3), "float32"),)


@pytest.mark.tensorflow
def test_without_tf_keras_the_lines_to_type_are_in_the_error(
    keras_2_models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("EDGEINFER_TF_KERAS_PYTHON")
    with ConverterProcess(timeout=240.0) as process, pytest.raises(ConversionError, match="Keras 2") as caught:
        process.load(keras_2_models / "untraced")
    assert "pip install tensorflow==2.21.0 tf-keras==2.21.0 numpy pillow" in caught.value.next_step
