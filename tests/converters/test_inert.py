"""A model file that does something when it is read is refused first: its trace on the disk never appears."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from converters.errors import ConversionError
from converters.inert import code_in_settings
from converters.tflite.process import ConverterProcess

# --- settings of Keras 2 ---------------------------------------------------------------------------


def layer(kind: str, **settings: Any) -> dict[str, Any]:
    return {"class_name": kind, "config": {"name": "it", **settings}}


@pytest.mark.parametrize(
    "settings",
    [
        layer("Lambda"),
        layer("Custom>Lambda"),
        layer("TimeDistributed", layer=layer("Lambda")),
        {"class_name": "Sequential", "config": {"layers": [layer("Dense"), layer("Lambda")]}},
        layer("ResidualWrapper", residual_function_type="lambda"),
        layer("Dense", activation={"class_name": "__lambda__", "config": {"value": "bytes"}}),
        layer("TFOpLambda", function="io.gfile.makedirs"),
        layer("TFOpLambda", function="compat.v1.py_func"),
        layer("TFOpLambda", function="print"),
        layer("TFOpLambda", function="keras.utils.get_file"),
        layer("TFOpLambda", function="keras.backend.function"),
        layer("TFOpLambda", function="keras.activations.deserialize"),
        layer("TFOpLambda", function={"class_name": "__bytes__", "value": "cast"}),
        layer("TFOpLambda"),
        layer("SlicingOpLambda", function="io.write_file"),
        layer("ClassMethod", cls_symbol="io.gfile.GFile", method_name="write"),
        layer("InstanceMethod", attr_name="eval"),
        {"class_name": {"class_name": "__bytes__", "value": "Lambda"}, "config": {}},
    ],
    ids=lambda one: json.dumps(one)[:80],
)
def test_settings_that_would_call_code_are_found(settings: Any) -> None:
    assert code_in_settings(settings)


@pytest.mark.parametrize(
    "settings",
    [
        layer("Dense", activation="relu"),
        layer("Dense", name="Lambda"),
        layer("TFOpLambda", function="math.truediv"),
        layer("TFOpLambda", function="compat.v1.transpose"),
        layer("TFOpLambda", function="nn.relu"),
        layer("TFOpLambda", function="image.resize"),
        layer("TFOpLambda", function="reshape"),
        layer("TFOpLambda", function="keras.backend.clip"),
        layer("TFOpLambda", function="keras.activations.relu"),
        layer("SlicingOpLambda", function="__operators__.getitem"),
        {"build_input_shape": {"class_name": "TensorShape", "items": [None, 4]}, "stateful": False},
        [],
        None,
    ],
    ids=lambda one: json.dumps(one)[:80],
)
def test_settings_that_only_compute_pass(settings: Any) -> None:
    assert code_in_settings(settings) == ""


# Layers whose code leaves a trace, as an attacker would save them: without functions, so that Keras 2 has to read them.
HOSTILE = """
import json, sys, tf_keras, tensorflow as tf
from tf_keras import layers
from tf_keras.protobuf import saved_metadata_pb2
folder, trace = sys.argv[1:]

def save(name, front):
    inputs = tf_keras.Input((4, 4))
    model = tf_keras.Model(inputs, layers.Dense(2)(front(inputs)))
    model.save(f"{folder}/{name}", save_format="tf", include_optimizer=False, save_traces=False)

code = eval("lambda x: (__import__('pathlib').Path(%r).touch(), x)[1]" % trace)
save("lambda", layers.Lambda(code))
save("nested", layers.TimeDistributed(layers.Lambda(code)))
save("function", lambda x: tf.reshape(x, (-1, 4, 4)))
save("plain", lambda x: tf.nn.relu(x[:, ::-1] / 2.0 - tf.ones((4, 4))))
path = f"{folder}/function/keras_metadata.pb"
metadata = saved_metadata_pb2.SavedMetadata.FromString(open(path, "rb").read())

def turn(value):
    for one in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        turn(one)
    if isinstance(value, dict) and value.get("class_name") == "TFOpLambda":
        value["config"]["function"] = "io.gfile.makedirs"
        value["inbound_nodes"] = [["_CONSTANT_VALUE", -1, trace, {}]]

for node in metadata.nodes:
    settings = json.loads(node.metadata)
    turn(settings)
    node.metadata = json.dumps(settings)
open(path, "wb").write(metadata.SerializeToString())
"""


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A folder with Keras 2 SavedModels that hold code, and the path where that code leaves its trace."""
    python = os.environ.get("EDGEINFER_TF_KERAS_PYTHON")
    if not python:
        pytest.skip("EDGEINFER_TF_KERAS_PYTHON is not set: no Keras 2 here to write and read a SavedModel")
    folder = tmp_path_factory.mktemp("hostile")
    trace = folder / "trace"
    environment = {**os.environ, "TF_USE_LEGACY_KERAS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    subprocess.run([python, "-c", HOSTILE, str(folder), str(trace)], check=True, env=environment, capture_output=True)
    trace.unlink(missing_ok=True)
    return folder, trace


@pytest.mark.tensorflow
@pytest.mark.parametrize("name", ["lambda", "nested", "function"])
def test_code_in_a_keras_2_directory_does_not_run(hostile: tuple[Path, Path], name: str) -> None:
    folder, trace = hostile
    with ConverterProcess(timeout=240.0) as process, pytest.raises(ConversionError, match="is not run") as caught:
        process.load(folder / name)
    assert not trace.exists()
    assert "model.export" in caught.value.next_step


@pytest.mark.tensorflow
def test_calls_that_only_compute_are_read_from_a_keras_2_directory(hostile: tuple[Path, Path]) -> None:
    with ConverterProcess(timeout=240.0) as process:
        assert process.load(hostile[0] / "plain").outputs[0].shape == (1, 4, 2)


# --- TensorFlow's own graphs -----------------------------------------------------------------------


def saved(folder: Path, initialize: Any) -> Path:
    """A SavedModel whose resource is initialized by a function, which TensorFlow calls when it loads the directory."""
    tf = pytest.importorskip("tensorflow", reason="TensorFlow is not installed")

    class Resource(tf.saved_model.experimental.TrackableResource):  # type: ignore[misc]
        def _create_resource(self) -> Any:
            return tf.raw_ops.MutableHashTableV2(key_dtype=tf.int64, value_dtype=tf.float32)

        def _initialize(self) -> None:
            initialize(tf)

    module = tf.Module()
    module.resource = Resource()
    assert module.resource.resource_handle is not None
    double = tf.function(lambda x: {"y": x * 2}, input_signature=[tf.TensorSpec((1, 4), tf.float32, name="x")])
    tf.saved_model.save(module, folder / "model", signatures=double.get_concrete_function())
    return folder / "model"


def write_file(tf: Any, trace: str) -> None:
    tf.io.write_file(trace, "code")


def write_checkpoint(tf: Any, trace: str) -> None:
    tf.raw_ops.SaveV2(prefix=trace, tensor_names=["a"], shape_and_slices=[""], tensors=[tf.ones(3)])


def write_lines(tf: Any, trace: str) -> None:
    tf.print("code", output_stream=f"file://{trace}")


@pytest.mark.tensorflow
@pytest.mark.parametrize("initialize", [write_file, write_checkpoint, write_lines])
def test_a_graph_that_writes_when_it_is_loaded_is_refused_and_writes_nothing(
    keras: Any, converter: ConverterProcess, tmp_path: Path, initialize: Any
) -> None:
    trace = tmp_path / "trace"
    path = saved(tmp_path, lambda tf: initialize(tf, str(trace)))
    for one in tmp_path.glob("trace*"):
        one.unlink()
    with pytest.raises(ConversionError, match="more than compute") as caught:
        converter.load(path)
    assert not list(tmp_path.glob("trace*"))
    assert "model.export" in caught.value.next_step


@pytest.mark.tensorflow
def test_a_graph_of_the_first_tensorflow_that_writes_when_it_is_loaded_is_refused(
    keras: Any, converter: ConverterProcess, tmp_path: Path
) -> None:
    tf = pytest.importorskip("tensorflow", reason="TensorFlow is not installed")
    old, trace = tf.compat.v1, tmp_path / "trace"
    with tf.Graph().as_default(), old.Session() as session:
        x = old.placeholder(tf.float32, (1, 4), name="x")
        weight = old.get_variable("w", (4,), use_resource=True)
        session.run(old.global_variables_initializer())
        saver = old.train.Saver()
        saver.as_saver_def()
        # What the saver has for saving, called as what restores.
        save = tf.raw_ops.SaveV2(
            prefix=str(trace), tensor_names=["w"], shape_and_slices=[""], tensors=[weight.read_value()]
        )
        builder = old.saved_model.Builder(str(tmp_path / "old"))
        signature = old.saved_model.predict_signature_def({"x": x}, {"y": x * weight})
        builder.add_meta_graph_and_variables(
            session, ["serve"], {"serving_default": signature}, main_op=save, saver=saver
        )
        builder.save()
    with pytest.raises(ConversionError, match="more than compute"):
        converter.load(tmp_path / "old")
    assert not list(tmp_path.glob("trace*"))


@pytest.mark.tensorflow
def test_a_table_that_is_filled_when_it_is_loaded_passes(
    keras: Any, converter: ConverterProcess, tmp_path: Path
) -> None:
    path = saved(tmp_path, lambda tf: tf.raw_ops.MutableHashTableV2(key_dtype=tf.int64, value_dtype=tf.float32))
    assert converter.load(path).outputs[0].shape == (1, 4)
