"""LayerNormalization step by step is the same function, and one that 8 bits can hold."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from converters.errors import ConversionError
from converters.graph.lower import lower, needs_lowering
from converters.targets import target
from converters.tflite.gates import check_file
from converters.tflite.process import ConverterProcess, ConvertRequest
from edgeinfer.errors import UnsupportedOpError
from edgeinfer.model.schema import parse
from edgeinfer.runtime.runtime import Runtime

pytestmark = pytest.mark.tensorflow


def by_hand(
    x: NDArray[Any], epsilon: float, axes: tuple[int, ...], gamma: Any = 1.0, beta: Any = 0.0
) -> NDArray[np.float64]:
    """Ba et al. 2016, section 3, with Keras' epsilon under the root."""
    x = x.astype(np.float64)
    mean, variance = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
    normalized: NDArray[np.float64] = (x - mean) / np.sqrt(variance + epsilon) * gamma + beta
    return normalized


def normalizing(keras: Any, shape: tuple[int, ...], **settings: Any) -> Any:
    """A model of one LayerNormalization with random weights."""
    layer = keras.layers.LayerNormalization(name="norm", **settings)
    inputs = keras.Input(shape)
    model = keras.Model(inputs, layer(inputs))
    rng = np.random.default_rng(0)
    layer.set_weights([rng.normal(1, 0.5, one.shape) for one in layer.weights])
    return model


@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("scale", [True, False])
def test_gamma_and_beta_count_where_the_layer_has_them(keras: Any, center: bool, scale: bool) -> None:
    model = normalizing(keras, (4, 6), epsilon=1e-3, center=center, scale=scale)
    weights = {one.name: np.asarray(one) for one in model.get_layer("norm").weights}
    x = np.random.default_rng(1).normal(2, 3, (5, 4, 6)).astype(np.float32)
    wanted = by_hand(x, 1e-3, (-1,), weights.get("gamma", 1.0), weights.get("beta", 0.0))
    assert np.asarray(lower(model)(x)) == pytest.approx(wanted, abs=1e-4)


@pytest.mark.parametrize(
    ("shape", "axis", "axes"),
    [((6,), -1, (1,)), ((3, 4, 6), -1, (3,)), ((3, 4, 6), 1, (1,)), ((3, 4, 6), [1, 2], (1, 2)), ((3, 6), [-1], (2,))],
)
def test_it_normalizes_along_the_axes_of_the_layer(
    keras: Any, shape: tuple[int, ...], axis: Any, axes: tuple[int, ...]
) -> None:
    x = np.random.default_rng(1).normal(-1, 2, (2, *shape)).astype(np.float32)
    model = normalizing(keras, shape, axis=axis, epsilon=1e-6)
    broad = [size if number in axes else 1 for number, size in enumerate(x.shape)]
    gamma, beta = (np.asarray(one).reshape(broad) for one in model.get_layer("norm").weights)
    assert np.asarray(lower(model)(x)) == pytest.approx(by_hand(x, 1e-6, axes, gamma, beta), abs=1e-4)


@pytest.fixture(scope="module")
def lowered_by_epsilon(keras: Any) -> dict[float, Any]:
    return {epsilon: lower(normalizing(keras, (8,), epsilon=epsilon)) for epsilon in (1e-6, 1e-3, 0.5)}


@given(
    data=st.lists(st.floats(-100, 100, width=32), min_size=8, max_size=8),
    epsilon=st.sampled_from([1e-6, 1e-3, 0.5]),
)
def test_any_row_of_numbers_comes_out_as_keras_says(
    lowered_by_epsilon: dict[float, Any], data: list[float], epsilon: float
) -> None:
    model = lowered_by_epsilon[epsilon]
    x = np.array([data], np.float32)
    gamma, beta = (np.asarray(one) for one in model.get_layer("norm").weights)
    # float32 knows the mean of numbers near 100 to 1e-5, and epsilon may be the only thing under the root.
    tolerance = 1e-4 + 4e-5 / np.sqrt(epsilon + x.astype(np.float64).var())
    assert np.asarray(model(x)) == pytest.approx(by_hand(x, epsilon, (-1,), gamma, beta), abs=tolerance)


def test_a_row_without_contrast_becomes_beta(keras: Any) -> None:
    model = normalizing(keras, (4,), epsilon=1e-6)
    assert np.asarray(lower(model)(np.zeros((1, 4), np.float32)))[0] == pytest.approx(
        np.asarray(model.get_layer("norm").beta)
    )


def test_shared_and_nested_layers_are_found_and_stay_shared(keras: Any) -> None:
    norm = keras.layers.LayerNormalization(name="norm")
    inside = keras.Input((5,))
    inner = keras.Model(inside, norm(inside), name="inner")
    inputs = keras.Input((5,), name="numbers")
    outputs = keras.layers.Dense(2, name="answer")(inner(norm(inputs) + 1.0))
    model = keras.Model(inputs, outputs)
    norm.set_weights([np.arange(1.0, 6.0), np.arange(5.0)])
    before = [one.copy() for one in model.get_weights()]
    made = lower(model)
    x = np.random.default_rng(2).normal(size=(3, 5)).astype(np.float32)
    assert [type(one).__name__ for one in made.layers if one.name == "norm"] == ["LoweredLayerNormalization"]
    assert ([one.name for one in made.inputs], made.output_names) == (["numbers"], ["answer"])
    assert np.asarray(made(x)) == pytest.approx(np.asarray(model(x)), abs=1e-4)
    assert all((one == other).all() for one, other in zip(model.get_weights(), before, strict=True))


def test_a_model_without_such_layers_is_handed_back(keras: Any) -> None:
    class Own(keras.layers.LayerNormalization):  # type: ignore[misc]
        """May compute anything."""

    inputs = keras.Input((5,))
    model = keras.Model(inputs, keras.layers.Dense(2)(Own()(inputs)))
    assert lower(model) is model


def test_only_models_with_such_layers_need_it() -> None:
    assert needs_lowering(["Conv2D", "LayerNormalization"])
    assert not needs_lowering(["Conv2D", "BatchNormalization"])


# What 8 bits make of it ------------------------------------------------------------------------------------------


CHANNELS = 32


@pytest.fixture(scope="module")
def patches() -> NDArray[np.float32]:
    """(24, 6, 6, 32): contrast differs by a factor of ten and more from place to place, as in pictures."""
    rng = np.random.default_rng(0)
    contrast = np.exp(rng.normal(0, 0.8, (24, 6, 6, 1)))
    return (rng.normal(size=(24, 6, 6, CHANNELS)) * contrast).astype(np.float32)


@pytest.fixture(scope="module")
def normalizer(keras: Any, tmp_path_factory: pytest.TempPathFactory, patches: NDArray[np.float32]) -> Path:
    """A model of one LayerNormalization over channels with gamma 1 and beta 0, beside its calibration data."""
    folder = tmp_path_factory.mktemp("normalizer")
    inputs = keras.Input((6, 6, CHANNELS))
    keras.Model(inputs, keras.layers.LayerNormalization(epsilon=1e-6, name="norm")(inputs)).save(folder / "norm.keras")
    np.save(folder / "patches.npy", patches[:16])
    return folder / "norm.keras"


@pytest.fixture(scope="module")
def int8_file(converter: ConverterProcess, normalizer: Path) -> Path:
    converter.load(normalizer)
    made = normalizer.with_name("int8.tflite")
    converter.convert(ConvertRequest(made, calibration=(normalizer.with_name("patches.npy"),)))
    return made


def relative_error(got: NDArray[Any], wanted: NDArray[Any]) -> float:
    return float(np.sqrt(((got - wanted) ** 2).mean() / (wanted**2).mean()))


def test_a_layer_normalization_is_computed_in_integers_alone(int8_file: Path) -> None:
    graph = parse(int8_file.read_bytes()).main
    assert {one.dtype for one in graph.tensors} <= {"int8", "int32"}
    assert "NEG" not in {one.op for one in graph.operators}


def test_its_int8_answers_are_nearly_as_good_as_its_int8_input(int8_file: Path, patches: NDArray[np.float32]) -> None:
    runtime = Runtime(int8_file)
    (spec,) = runtime.inputs
    test = patches[16:]
    got = np.stack([next(iter(runtime(one).values()))[0].copy() for one in test])
    wanted = by_hand(test, 1e-6, (-1,))
    rounded = (np.round(test / spec.scale).clip(-128 - spec.zero_point, 127 - spec.zero_point)) * spec.scale
    unavoidable = relative_error(by_hand(rounded, 1e-6, (-1,)), wanted)
    # The plain formula d / sqrt(mean(d^2)) in int8 is three times worse than what the input's 8 bits cost.
    assert relative_error(got, wanted) < 2 * unavoidable


def test_its_int8_file_runs_on_the_device_too(
    int8_file: Path, patches: NDArray[np.float32], device_python: str, tmp_path: Path
) -> None:
    code = (
        "import sys, numpy as np\nfrom edgeinfer.runtime.runtime import Runtime\n"
        "np.save(sys.argv[2], next(iter(Runtime(sys.argv[1])(np.load(sys.argv[3])).values())))"
    )
    np.save(tmp_path / "in.npy", patches[20])
    paths = [str(int8_file), str(tmp_path / "out.npy"), str(tmp_path / "in.npy")]
    subprocess.run([device_python, "-c", code, *paths], check=True, capture_output=True)
    here = Runtime(int8_file)(patches[20])
    (spec,) = Runtime(int8_file).outputs
    # Engines round halves in their own ways.
    assert np.abs(np.load(tmp_path / "out.npy") - next(iter(here.values()))).max() <= 8 * spec.scale


@pytest.fixture(scope="module")
def device_python() -> str:
    python = os.environ.get("EDGEINFER_DEVICE_PYTHON")
    if not python:
        pytest.skip("EDGEINFER_DEVICE_PYTHON names no interpreter of a device's environment")
    return python


def test_the_float_file_of_the_same_model_is_not_rewritten(converter: ConverterProcess, normalizer: Path) -> None:
    converter.load(normalizer)
    made = normalizer.with_name("float.tflite")
    converter.convert(ConvertRequest(made, scheme="float32", io="float32"))
    assert "NEG" in {one.op for one in parse(made.read_bytes()).main.operators}


def test_ranges_can_be_given_beside_it(converter: ConverterProcess, normalizer: Path) -> None:
    converter.load(normalizer)
    made = normalizer.with_name("ranged.tflite")
    calibration = (normalizer.with_name("patches.npy"),)
    converter.convert(ConvertRequest(made, calibration=calibration, ranges=(("norm", -3.0, 2.1),)))
    (output,) = Runtime(made).outputs
    assert output.scale == pytest.approx(5.1 / 255, rel=1e-5)


def test_int16_is_refused_with_the_layer_named(converter: ConverterProcess, normalizer: Path) -> None:
    converter.load(normalizer)
    request = ConvertRequest(
        normalizer.with_name("int16.tflite"),
        scheme="int16x8",
        io="float32",
        calibration=(normalizer.with_name("patches.npy"),),
    )
    with pytest.raises(UnsupportedOpError, match="`norm`") as caught:
        converter.convert(request)
    assert '"int8"' in caught.value.next_step
    assert '"float16"' in caught.value.next_step


def test_a_layer_out_of_reach_is_refused_by_name_and_float16_offered(
    keras: Any, converter: ConverterProcess, tmp_path: Path
) -> None:
    layers = keras.layers
    inputs = keras.Input((3, 8))
    normalized = layers.TimeDistributed(layers.LayerNormalization(name="inside"), name="wrapped")(inputs)
    keras.Model(inputs, layers.Dense(2)(normalized)).save(tmp_path / "model.keras")
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(8, 3, 8)).astype(np.float32))
    converter.load(tmp_path / "model.keras")
    converter.convert(ConvertRequest(tmp_path / "int8.tflite", calibration=(tmp_path / "x.npy",)))
    with pytest.raises(ConversionError, match="float32 tensor is left") as caught:
        check_file((tmp_path / "int8.tflite").read_bytes(), scheme="int8", io="int8", target=target("cpu"))
    assert "wrapped" in caught.value.received
    assert '"float16"' in caught.value.next_step
