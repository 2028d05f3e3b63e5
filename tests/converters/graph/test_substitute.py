"""Layers that an Edge TPU lacks: what takes their place computes the same, and what cannot be replaced is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from converters import Card, Quantize, Recipe, convert
from converters.errors import ConversionError
from converters.graph.substitute import substitute
from converters.tflite.process import ConverterProcess
from edgeinfer.errors import UnsupportedOpError
from edgeinfer.model.schema import parse

pytestmark = pytest.mark.tensorflow
FEW = settings(max_examples=12, deadline=None)
Keras = Any


def noise(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(0, 3, shape).astype(np.float32)


def of(keras: Keras, layer: Callable[[Any], Any], *shape: int) -> Any:
    inputs = keras.Input(shape)
    model = keras.Model(inputs, layer(inputs))
    rng = np.random.default_rng(7)
    model.set_weights([rng.normal(0, 0.5, one.shape) for one in model.weights])
    return model


def both(model: Any, x: NDArray[np.float32]) -> tuple[NDArray[Any], NDArray[Any], tuple[str, ...]]:
    """What Keras answers, what the replaced model answers, and what was said."""
    changed, notes = substitute(model, "edgetpu")
    return np.asarray(model(x)), np.asarray(changed(x)), notes


# --- the same numbers -------------------------------------------------------------------------------


@FEW
@given(factors=st.tuples(st.integers(1, 5), st.integers(1, 5)), size=st.tuples(st.integers(1, 9), st.integers(1, 9)))
def test_nearest_up_sampling_is_bit_equal(keras: Keras, factors: tuple[int, int], size: tuple[int, int]) -> None:
    x = noise(2, *size, 3)
    model = of(keras, keras.layers.UpSampling2D(factors, name="up"), *size, 3)
    kept, changed, notes = both(model, x)
    by_hand = x.repeat(factors[0], axis=1).repeat(factors[1], axis=2)
    assert np.array_equal(changed, by_hand)
    assert np.array_equal(changed, kept)
    assert notes == ("`up` (UpSampling2D): as a nearest-neighbour resize",)


@FEW
@given(slope=st.floats(0, 1, width=32), x=st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=9))
def test_a_leaky_relu_is_bit_equal(keras: Keras, slope: float, x: list[float]) -> None:
    values = np.array([x], np.float32)
    model = of(keras, keras.layers.LeakyReLU(negative_slope=slope), len(x))
    kept, changed, notes = both(model, values)
    wanted = np.where(values > 0, values, values * np.float32(slope))
    # TensorFlow takes numbers below the smallest normal one for 0, in one op and not in another.
    normal = np.abs(wanted) >= np.finfo(np.float32).tiny
    assert np.array_equal(changed[normal], wanted[normal])
    assert np.array_equal(changed[normal], kept[normal])
    assert np.abs(changed[~normal]).max(initial=0.0) < np.finfo(np.float32).tiny
    assert len(notes) == 1


@FEW
@given(slope=st.floats(0.125, 1, width=32), most=st.floats(0, 20, width=32))
def test_a_relu_with_a_slope_and_a_largest_value_is_the_same(keras: Keras, slope: float, most: float) -> None:
    x = noise(4, 50)
    model = of(keras, keras.layers.ReLU(max_value=most, negative_slope=slope), 50)
    kept, changed, _ = both(model, x)
    assert changed == pytest.approx(kept, rel=1e-6, abs=1e-6)


@FEW
@given(x=st.lists(st.floats(-50, 50, width=32), min_size=1, max_size=9))
def test_hard_swish_differs_by_rounding_only(keras: Keras, x: list[float]) -> None:
    values = np.array([x], np.float32)
    model = of(keras, keras.layers.Activation("hard_swish", name="swish"), len(x))
    kept, changed, notes = both(model, values)
    # Howard et al. 2019, arXiv:1905.02244, section 5.2.
    exact = values.astype(np.float64) * np.clip(values.astype(np.float64) + 3, 0, 6) / 6
    assert changed == pytest.approx(exact, rel=1e-5, abs=1e-6)
    assert changed == pytest.approx(kept, rel=1e-5, abs=1e-6)
    assert notes == ("`swish` (Activation): its activation as x/6 * relu6(x + 3)",)


@FEW
@given(
    groups=st.sampled_from([2, 4, 8]),
    stride=st.integers(1, 2),
    padding=st.sampled_from(["same", "valid"]),
    bias=st.booleans(),
    activation=st.sampled_from([None, "relu", "hard_swish", "leaky_relu", "softmax", "tanh"]),
)
def test_a_grouped_convolution_differs_by_rounding_only(
    keras: Keras, groups: int, stride: int, padding: str, bias: bool, activation: str | None
) -> None:
    layer = keras.layers.Conv2D(
        16, 3, strides=stride, groups=groups, padding=padding, use_bias=bias, activation=activation
    )
    kept, changed, notes = both(of(keras, layer, 9, 8, 8), noise(2, 9, 8, 8))
    assert changed == pytest.approx(kept, rel=1e-4, abs=1e-4)
    assert f"{groups} convolutions behind a split" in notes[0]


@pytest.mark.parametrize("padding", ["same", "valid", "causal"])
def test_a_grouped_convolution_over_time_differs_by_rounding_only(keras: Keras, padding: str) -> None:
    layer = keras.layers.Conv1D(6, 3, groups=3, padding=padding, dilation_rate=2)
    kept, changed, _ = both(of(keras, layer, 12, 6), noise(2, 12, 6))
    assert changed == pytest.approx(kept, rel=1e-4, abs=1e-4)


@FEW
@given(
    places=st.lists(st.integers(1, 5), min_size=1, max_size=3),
    bias=st.booleans(),
    activation=st.sampled_from([None, "relu", "hard_swish", "softmax"]),
)
def test_a_dense_layer_over_places_differs_by_rounding_only(
    keras: Keras, places: list[int], bias: bool, activation: str | None
) -> None:
    layer = keras.layers.Dense(5, use_bias=bias, activation=activation, name="mix")
    kept, changed, notes = both(of(keras, layer, *places, 7), noise(3, *places, 7))
    assert changed.shape == kept.shape
    assert changed == pytest.approx(kept, rel=1e-4, abs=1e-4)
    assert notes[0].startswith("`mix` (Dense): as a 1x1 convolution")


@pytest.mark.parametrize("kind", ["Conv2D", "DepthwiseConv2D", "SeparableConv2D", "Conv2DTranspose"])
@pytest.mark.parametrize("activation", ["hard_silu", "leaky_relu"])
def test_an_activation_inside_another_layer_is_replaced_there(keras: Keras, kind: str, activation: str) -> None:
    make = getattr(keras.layers, kind)
    layer = make(3, activation=activation) if kind == "DepthwiseConv2D" else make(4, 3, activation=activation)
    kept, changed, notes = both(of(keras, layer, 8, 8, 3), noise(2, 8, 8, 3))
    assert changed == pytest.approx(kept, rel=1e-4, abs=1e-4)
    assert len(notes) == 1


def test_a_layer_as_the_activation_is_replaced_with_its_own_slope(keras: Keras) -> None:
    layer = keras.layers.Conv2D(4, 3, activation=keras.layers.LeakyReLU(negative_slope=0.1), name="conv")
    kept, changed, notes = both(of(keras, layer, 8, 8, 3), noise(2, 8, 8, 3))
    assert np.allclose(changed, kept, rtol=1e-6, atol=1e-6)
    assert notes == ("`conv` (Conv2D): its activation as max(x, 0.1 x)",)


def test_operations_are_replaced_like_layers(keras: Keras) -> None:
    def steps(x: Any) -> Any:
        return keras.ops.leaky_relu(keras.ops.hard_silu(x), negative_slope=0.25)

    kept, changed, notes = both(of(keras, steps, 9), noise(4, 9))
    assert changed == pytest.approx(kept, rel=1e-5, abs=1e-6)
    assert len(notes) == 2


def test_a_layer_that_is_called_twice_stays_one_and_nested_models_are_looked_into(keras: Keras) -> None:
    dense = keras.layers.Dense(6, activation="hard_swish", name="twice")
    inner = keras.Sequential([keras.Input((4, 6)), keras.layers.LeakyReLU(0.1), dense], name="inner")

    def steps(x: Any) -> Any:
        return dense(inner(x))

    model = of(keras, steps, 4, 6)
    kept, changed, notes = both(model, noise(2, 4, 6))
    assert changed == pytest.approx(kept, rel=1e-4, abs=1e-4)
    assert len(notes) == 2
    assert substitute(model, "edgetpu")[0].count_params() == model.count_params()


@pytest.mark.parametrize("relu", ["relu", "relu6"])
@pytest.mark.parametrize("padding", ["same", "valid"])
def test_a_relu_behind_a_max_pooling_goes_in_front_of_it_and_nothing_changes(
    keras: Keras, relu: str, padding: str
) -> None:
    def steps(x: Any) -> Any:
        x = keras.layers.Conv2D(4, 3)(x)
        pooled = keras.layers.MaxPooling2D(3, 2, padding=padding, name="pool")(x)
        return keras.layers.Activation(relu, name="relu")(pooled)

    kept, changed, notes = both(of(keras, steps, 9, 9, 3), noise(2, 9, 9, 3))
    assert np.array_equal(changed, kept)
    assert notes == ("`relu` (Activation) in front of `pool` instead of behind it",)


def test_a_pooling_that_others_read_too_keeps_its_place(keras: Keras) -> None:
    def steps(x: Any) -> Any:
        pooled = keras.layers.MaxPooling2D(2)(x)
        return keras.layers.Add()([keras.layers.ReLU()(pooled), pooled])

    model = of(keras, steps, 8, 8, 3)
    assert substitute(model, "edgetpu") == (model, ())


# --- what stays -------------------------------------------------------------------------------------


def test_a_model_without_such_layers_is_handed_back(keras: Keras) -> None:
    def steps(x: Any) -> Any:
        x = keras.layers.Conv2D(4, 3, activation="relu6")(x)
        x = keras.layers.UpSampling2D(2, interpolation="bilinear")(x)
        return keras.layers.Dense(3, activation="softmax")(keras.layers.GlobalAveragePooling2D()(x))

    model = of(keras, steps, 8, 8, 3)
    assert substitute(model, "edgetpu") == (model, ())


def test_the_given_model_stays_as_it_is(keras: Keras) -> None:
    model = of(keras, keras.layers.Conv2D(4, 3, groups=2, activation="hard_swish", name="conv"), 8, 8, 4)
    before, x = [np.asarray(one) for one in model.weights], noise(1, 8, 8, 4)
    kept = np.asarray(model(x))
    changed, _ = substitute(model, "edgetpu")
    assert changed is not model
    assert [layer.name for layer in changed.layers][-1] == "conv"
    assert all(np.array_equal(one, other) for one, other in zip(before, model.weights, strict=True))
    assert np.array_equal(kept, np.asarray(model(x)))


# --- what is refused --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda k: k.layers.Activation("gelu", name="odd"), "ReLU6"),
        (lambda k: k.layers.ELU(name="odd"), "ReLU6"),
        (lambda k: k.layers.Dense(3, activation="softplus", name="odd"), "ReLU6"),
        (lambda k: k.layers.LayerNormalization(name="odd"), "BatchNormalization"),
        (lambda k: k.layers.LeakyReLU(negative_slope=1.5, name="odd"), "between 0 and 1"),
        (lambda k: k.layers.ReLU(threshold=1.0, negative_slope=0.5, name="odd"), "ReLU6"),
        (lambda k: k.layers.ReLU(threshold=0.5, name="odd"), "ReLU6"),
        (lambda k: k.layers.Activation("sparsemax", name="odd"), "ReLU6"),
        (lambda k: k.layers.Dense(3, activation=k.layers.ELU(), name="odd"), "ReLU6"),
    ],
    ids=[
        "gelu",
        "elu",
        "inside a dense",
        "layer normalization",
        "slope",
        "threshold and slope",
        "threshold",
        "sparsemax",
        "a layer inside a dense",
    ],
)
def test_what_has_no_exact_replacement_is_refused_by_name(keras: Keras, make: Any, said: str) -> None:
    model = of(keras, make(keras), 8)
    with pytest.raises(UnsupportedOpError, match="`odd`") as caught:
        substitute(model, "edgetpu")
    assert "`edgetpu`" in caught.value.message
    assert said in caught.value.next_step


def test_a_layer_inside_a_wrapper_is_refused_by_name(keras: Keras) -> None:
    model = of(keras, keras.layers.TimeDistributed(keras.layers.Dense(3, activation="leaky_relu"), name="odd"), 4, 8)
    with pytest.raises(UnsupportedOpError, match="`odd`") as caught:
        substitute(model, "edgetpu")
    assert "wrapper" in caught.value.next_step


def test_a_wrapper_around_a_layer_that_stays_is_left_alone(keras: Keras) -> None:
    model = of(keras, keras.layers.TimeDistributed(keras.layers.Dense(3, activation="relu")), 4, 8)
    assert substitute(model, "edgetpu") == (model, ())


def test_a_prelu_of_one_slope_a_channel_stays_and_another_is_refused(keras: Keras) -> None:
    shared = of(keras, keras.layers.PReLU(shared_axes=[1, 2]), 4, 4, 3)
    assert substitute(shared, "edgetpu") == (shared, ())
    with pytest.raises(UnsupportedOpError, match="`odd`") as caught:
        substitute(of(keras, keras.layers.PReLU(name="odd"), 4, 4, 3), "edgetpu")
    assert "shared_axes" in caught.value.next_step


def test_an_open_size_is_refused_where_the_replacement_needs_it(keras: Keras) -> None:
    inputs = keras.Input((None, 8, 3))
    model = keras.Model(inputs, keras.layers.UpSampling2D(2, name="up")(inputs))
    with pytest.raises(UnsupportedOpError, match="`up`"):
        substitute(model, "edgetpu")


def test_a_model_with_code_of_its_own_is_refused_only_if_it_needs_replacing(keras: Keras) -> None:
    class Own(keras.Model):  # type: ignore[misc]
        def __init__(self, layer: Any) -> None:
            super().__init__()
            self.only = layer

        def call(self, x: Any) -> Any:
            return self.only(x)

    fine, leaky = Own(keras.layers.Dense(3)), Own(keras.layers.LeakyReLU())
    fine(noise(1, 4)), leaky(noise(1, 4))
    assert substitute(fine, "edgetpu") == (fine, ())
    with pytest.raises(ConversionError, match="code of its own"):
        substitute(leaky, "edgetpu")


# --- in the file ------------------------------------------------------------------------------------


@pytest.mark.usefixtures("shared_child")
@pytest.mark.filterwarnings("ignore")
def test_the_converter_does_not_put_the_ops_together_again(keras: Keras, tmp_path: Path) -> None:
    def steps(x: Any) -> Any:
        x = keras.layers.Conv2D(8, 3, groups=2, padding="same", activation="hard_swish")(x)
        x = keras.layers.LeakyReLU(0.1)(keras.layers.UpSampling2D(2)(x))
        x = keras.layers.ReLU()(keras.layers.MaxPooling2D(2)(x))
        x = keras.layers.Conv2D(4, 1, activation="leaky_relu")(x)
        x = keras.layers.Dense(5)(keras.layers.Reshape((64, 4))(x))
        return keras.layers.GlobalAveragePooling1D()(x)

    model = of(keras, steps, 8, 8, 4)
    model.save(tmp_path / "m.keras")
    recipe = Recipe((Quantize(),), target="edgetpu")
    made = convert(tmp_path / "m.keras", noise(24, 8, 8, 4), recipe=recipe, card=Card(task="tensors"))
    operators = parse(made.tflite).main.operators
    ops = {operator.op for operator in operators}
    assert not ops & {"HARD_SWISH", "LEAKY_RELU", "TILE", "FULLY_CONNECTED"}
    assert ops >= {"SPLIT", "CONCATENATION", "RESIZE_NEAREST_NEIGHBOR", "MAXIMUM"}
    # Of the grouped form, version 6, the compiler stops: google-coral/edgetpu#631.
    assert max(operator.version for operator in operators if operator.op == "CONV_2D") < 6
    assert len(made.report.replaced) == 6
    assert "Replaced: " in str(made.report)
    assert made.report.check is not None
    assert set(made.report.check.counts) == {"edgetpu"}


@pytest.mark.usefixtures("shared_child")
@pytest.mark.filterwarnings("ignore")
def test_other_targets_keep_the_layers(keras: Keras, tmp_path: Path, converter: ConverterProcess) -> None:
    of(keras, keras.layers.LeakyReLU(0.1), 8, 8, 4).save(tmp_path / "m.keras")
    made = convert(tmp_path / "m.keras", noise(24, 8, 8, 4), recipe=Recipe((Quantize(),)), card=Card(task="tensors"))
    assert {operator.op for operator in parse(made.tflite).main.operators} == {"LEAKY_RELU"}
    assert made.report.replaced == ()
