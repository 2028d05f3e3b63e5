"""Mixed precision: the named layers are float in the file, the others are not, and both engines run it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from converters.errors import RecipeError
from converters.quantize.mixed import check_fallback, fallback_layers, float_operators, quantize_mixed
from edgeinfer.model.schema import parse

# The converter always says so of a model that was not trained with FakeQuant.
pytestmark = pytest.mark.filterwarnings("ignore:Statistics for quantized inputs")

NAMES = ("stem", "base/stem", "base/block_1", "head")


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("head", ("head",)),
        ("base/*", ("base/stem", "base/block_1")),
        ("stem", ("stem", "base/stem")),
        ("block_?", ("base/block_1",)),
    ],
)
def test_a_pattern_matches_whole_names_and_their_last_part(pattern: str, found: tuple[str, ...]) -> None:
    assert fallback_layers(((pattern, "float32"),), NAMES) == found


def test_a_pattern_without_a_layer_is_refused_with_the_closest_name() -> None:
    with pytest.raises(RecipeError, match="names no layer") as caught:
        fallback_layers((("haed", "float32"),), NAMES)
    assert "`head`" in caught.value.next_step


def test_a_model_without_layers_has_no_fallback() -> None:
    with pytest.raises(RecipeError, match="does not say its layers"):
        fallback_layers((("head", "float32"),), ())
    assert fallback_layers((), ()) == ()


def test_single_layers_in_int16x8_are_refused_with_what_is_possible() -> None:
    with pytest.raises(RecipeError, match="cannot make single layers int16x8") as caught:
        check_fallback((("stem", "float32"), ("head", "int16x8")))
    assert "`head`" in caught.value.received
    assert "`stem`" not in caught.value.received
    assert 'Quantize("int16x8")' in caught.value.next_step


@pytest.fixture(scope="module")
def model(keras: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    layers = keras.layers
    keras.utils.set_random_seed(1)
    inputs = keras.Input((12, 12, 3), name="photo")
    block = keras.Sequential(
        [keras.Input((12, 12, 6)), layers.Conv2D(6, 3, padding="same", name="conv"), layers.ReLU()], name="block"
    )
    values = layers.Conv2D(6, 3, padding="same", activation="relu", name="stem")(inputs)
    values = layers.Add(name="sum")([values, block(values)])
    values = layers.DepthwiseConv2D(3, use_bias=False, name="depth")(values)
    values = layers.ReLU(name="depth_relu")(layers.BatchNormalization(name="norm")(values))
    values = layers.GlobalAveragePooling2D(name="pool")(values)
    answer = layers.Dense(5, activation="softmax", name="answer")(layers.Dropout(0.1, name="drop")(values))
    path = tmp_path_factory.mktemp("mixed") / "model.keras"
    keras.Model(inputs, answer).save(path)
    return path


@pytest.fixture(scope="module")
def frozen(model: Path) -> Any:
    from converters.load import load_keras
    from converters.quantize.frozen import freeze

    return freeze(load_keras(model, "keras"))


SAMPLES = np.random.default_rng(0).normal(size=(20, 12, 12, 3)).astype(np.float32)


def converter(frozen: Any, io: str) -> Any:
    """TensorFlow's, as `ptq.quantize` sets it up for full int8."""
    import tensorflow as tf

    made = tf.lite.TFLiteConverter.from_concrete_functions([frozen.function])
    made.optimizations = [tf.lite.Optimize.DEFAULT]
    made.representative_dataset = lambda: ([one[None]] for one in SAMPLES)
    made.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    made.inference_input_type = made.inference_output_type = tf.dtypes.as_dtype(io)
    return made


def types(tflite: bytes) -> dict[str, str]:
    """What each op of a file computes, e.g. {"CONV_2D": "int8"}; of several of one kind, all."""
    graph = parse(tflite).main
    found: dict[str, str] = {}
    for one in graph.operators:
        dtype = graph.tensors[one.outputs[0]].dtype
        found[one.op] = f"{found[one.op]} {dtype}" if one.op in found else dtype
    return found


def run(tflite: bytes, samples: Any) -> Any:
    """Answers of LiteRT as floats."""
    from edgeinfer.runtime.engines import find_engine, open_interpreter

    interpreter = open_interpreter(find_engine("litert"), tflite)
    (given,), (answer,) = interpreter.get_input_details(), interpreter.get_output_details()
    made = []
    for one in samples:
        values = one[None]
        if given["dtype"] != np.float32:
            scale, zero = given["quantization"]
            limits = np.iinfo(given["dtype"])
            values = np.clip(np.round(values / scale) + zero, limits.min, limits.max).astype(given["dtype"])
        interpreter.tensor(given["index"])()[...] = values
        interpreter.invoke()
        result = interpreter.get_tensor(answer["index"])[0]
        scale, zero = answer["quantization"]
        made.append((result.astype(np.float32) - zero) * scale if result.dtype != np.float32 else result)
    return np.array(made)


@pytest.mark.tensorflow
@pytest.mark.parametrize("io", ["int8", "uint8", "float32"])
def test_a_named_layer_is_float_and_its_neighbours_are_not(frozen: Any, io: str) -> None:
    mixed = quantize_mixed(converter(frozen, io), frozen, ("depth",))
    found = types(mixed.tflite)
    assert found["DEPTHWISE_CONV_2D"] == "float32"
    assert found["CONV_2D"] == "int8 int8"
    assert found["FULLY_CONNECTED"] == found["ADD"] == found["MEAN"] == "int8"
    assert mixed.operators == float_operators(mixed.tflite) == 1
    graph = parse(mixed.tflite).main
    assert {graph.tensors[one].dtype for one in (*graph.inputs, *graph.outputs)} == {io}


@pytest.mark.tensorflow
def test_layers_that_were_merged_with_a_named_one_are_said(frozen: Any) -> None:
    mixed = quantize_mixed(converter(frozen, "int8"), frozen, ("depth",))
    assert "depth" in mixed.layers
    assert set(mixed.layers) <= {"depth", "norm", "depth_relu"}


@pytest.mark.tensorflow
def test_a_layer_in_a_nested_model_is_found(frozen: Any) -> None:
    (name,) = fallback_layers((("conv", "float32"),), frozen.layers)
    mixed = quantize_mixed(converter(frozen, "int8"), frozen, (name,))
    assert sorted(types(mixed.tflite)["CONV_2D"].split()) == ["float32", "int8"]
    assert "block/conv" in mixed.layers


@pytest.mark.tensorflow
def test_the_last_layer_is_found_although_its_tensor_has_the_outputs_name(frozen: Any) -> None:
    mixed = quantize_mixed(converter(frozen, "int8"), frozen, ("answer",))
    found = types(mixed.tflite)
    assert (found["FULLY_CONNECTED"], found["SOFTMAX"]) == ("float32", "float32")
    assert found["CONV_2D"] == "int8 int8"


@pytest.mark.tensorflow
def test_all_layers_float_answers_as_the_float_model(keras: Any, model: Path, frozen: Any) -> None:
    layers = ("stem", "block/conv", "sum", "depth", "pool", "answer")
    mixed = quantize_mixed(converter(frozen, "float32"), frozen, layers)
    expected = np.asarray(keras.models.load_model(model)(SAMPLES))
    assert np.abs(run(mixed.tflite, SAMPLES) - expected).max() <= 1e-5
    assert set(types(mixed.tflite).values()) == {"float32", "float32 float32"}


@pytest.mark.tensorflow
def test_a_layer_without_an_op_is_refused(frozen: Any) -> None:
    with pytest.raises(RecipeError, match="no op of its own") as caught:
        quantize_mixed(converter(frozen, "int8"), frozen, ("drop",))
    assert "`drop`" in caught.value.received
    assert "`depth`" in caught.value.expected


@pytest.mark.tensorflow
def test_layers_are_found_behind_ranges_that_were_handed_over(model: Path) -> None:
    from converters.load import load_keras
    from converters.quantize.frozen import freeze

    ranges = (("stem", 0.0, 4.0), ("depth_relu", 0.0, 3.0))
    frozen = freeze(load_keras(model, "keras", ranges))
    mixed = quantize_mixed(converter(frozen, "int8"), frozen, ("depth",))
    found = types(mixed.tflite)
    assert (found["DEPTHWISE_CONV_2D"], found["CONV_2D"]) == ("float32", "int8 int8")


@pytest.mark.tensorflow
def test_no_float_op_is_counted_in_a_full_int8_file(frozen: Any) -> None:
    assert float_operators(bytes(converter(frozen, "float32").convert())) == 0


@pytest.mark.tensorflow
@pytest.mark.parametrize("layer", ["stem", "depth", "answer"])
def test_both_engines_run_the_file_and_answer_alike(
    keras: Any, model: Path, frozen: Any, layer: str, tmp_path: Path
) -> None:
    tflite = quantize_mixed(converter(frozen, "int8"), frozen, (layer,)).tflite
    here = run(tflite, SAMPLES)
    expected = np.asarray(keras.models.load_model(model)(SAMPLES))
    assert np.abs(here - expected).max() <= 0.03
    python = os.environ.get("EDGEINFER_DEVICE_PYTHON")
    if not python:
        pytest.skip("EDGEINFER_DEVICE_PYTHON names no interpreter of a device's environment")
    (tmp_path / "mixed.tflite").write_bytes(tflite)
    np.save(tmp_path / "samples.npy", SAMPLES)
    subprocess.run([python, "-c", _ON_DEVICE, str(tmp_path)], check=True, capture_output=True)
    there = np.load(tmp_path / "answers.npy")
    # The engines round sums differently, by a step or two of 1/256.
    assert np.abs(there - here).max() <= 3 / 256


_ON_DEVICE = """
import sys
import numpy as np
from tflite_runtime.interpreter import Interpreter
folder = sys.argv[1]
interpreter = Interpreter(folder + "/mixed.tflite")
interpreter.allocate_tensors()
(given,), (answer,) = interpreter.get_input_details(), interpreter.get_output_details()
made = []
for one in np.load(folder + "/samples.npy"):
    scale, zero = given["quantization"]
    interpreter.set_tensor(given["index"], np.clip(np.round(one[None] / scale) + zero, -128, 127).astype(np.int8))
    interpreter.invoke()
    scale, zero = answer["quantization"]
    made.append((interpreter.get_tensor(answer["index"])[0].astype(np.float32) - zero) * scale)
np.save(folder + "/answers.npy", np.array(made))
"""
