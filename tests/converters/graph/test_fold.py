"""Batch normalizations as part of the layers before them: the same answers, and where they must stay."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from converters.errors import ConversionError
from converters.graph.flat import flat_model
from converters.graph.fold import fold_batch_norms

pytestmark = pytest.mark.tensorflow

# The folded layer's settings; both with and without a bias of its own.
LAYERS: list[tuple[tuple[int, ...], str, dict[str, Any]]] = [
    ((8, 3), "Conv1D", {"filters": 4, "kernel_size": 3}),
    ((8, 8, 4), "Conv2D", {"filters": 6, "kernel_size": 3, "strides": 2, "padding": "same"}),
    ((8, 8, 4), "Conv2D", {"filters": 6, "kernel_size": 3, "groups": 2}),
    ((4, 4, 4, 2), "Conv3D", {"filters": 3, "kernel_size": 2}),
    ((8, 8, 3), "DepthwiseConv2D", {"kernel_size": 3, "depth_multiplier": 2}),
    ((8, 3), "DepthwiseConv1D", {"kernel_size": 3, "depth_multiplier": 2}),
    ((8, 8, 3), "SeparableConv2D", {"filters": 5, "kernel_size": 3}),
    ((8, 3), "SeparableConv1D", {"filters": 5, "kernel_size": 3}),
    ((4, 4, 3), "Conv2DTranspose", {"filters": 5, "kernel_size": 3, "strides": 2}),
    ((4, 3), "Conv1DTranspose", {"filters": 5, "kernel_size": 3}),
    ((3, 3, 3, 3), "Conv3DTranspose", {"filters": 5, "kernel_size": 2}),
    ((6,), "Dense", {"units": 4}),
    ((5, 6), "Dense", {"units": 4}),
]


def scramble(model: Any, seed: int = 0) -> Any:
    """Give every weight a value that a trained model could have; fresh normalizations do nothing."""
    generator = np.random.default_rng(seed)
    for weight in model.weights:
        lowest, highest = (0.3, 2.0) if weight.path.endswith(("variance", "gamma")) else (-1.0, 1.0)
        weight.assign(generator.uniform(lowest, highest, weight.shape).astype(np.float32))
    return model


def answer(keras: Any, model: Any) -> Any:
    sample = np.random.default_rng(1).normal(0, 1, (3, *model.input_shape[1:])).astype(np.float32)
    return keras.ops.convert_to_numpy(model(keras.ops.convert_to_tensor(sample), training=False))


def normalizations(model: Any) -> list[str]:
    return [layer.name for layer in model.layers if type(layer).__name__ == "BatchNormalization"]


def stacked(keras: Any, shape: tuple[int, ...], *layers: Any) -> Any:
    return scramble(flat_model(keras.Sequential([keras.Input(shape), *layers])))


@pytest.mark.parametrize("use_bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize(("shape", "kind", "settings"), LAYERS)
def test_a_normalization_is_folded_into_the_layer_before_it(
    keras: Any, shape: tuple[int, ...], kind: str, settings: dict[str, Any], use_bias: bool
) -> None:
    layer = getattr(keras.layers, kind)(**settings, use_bias=use_bias, name="kept")
    model = stacked(keras, shape, layer, keras.layers.BatchNormalization(), keras.layers.ReLU(name="act"))
    folded = fold_batch_norms(model)
    assert [one.name for one in folded.layers][1:] == ["kept", "act"]
    expected = answer(keras, model)
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(answer(keras, folded), expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_the_folded_weights_are_those_of_the_formula(keras: Any) -> None:
    model = stacked(
        keras, (1,), keras.layers.Dense(1, name="dense"), keras.layers.BatchNormalization(epsilon=0.75, name="norm")
    )
    model.get_layer("dense").set_weights([np.array([[3.0]]), np.array([5.0])])
    # gamma 4, beta 1, mean 2, variance 3.25: the scale is 4 / sqrt(3.25 + 0.75) = 2.
    model.get_layer("norm").set_weights([np.array([one]) for one in (4.0, 1.0, 2.0, 3.25)])
    kernel, bias = fold_batch_norms(model).get_layer("dense").get_weights()
    assert kernel.tolist() == [[6.0]]
    assert bias.tolist() == [1 + 2 * (5 - 2)]


@pytest.mark.parametrize("settings", [{"scale": False}, {"center": False}, {"scale": False, "center": False}], ids=str)
def test_a_normalization_without_gamma_or_beta_is_folded(keras: Any, settings: dict[str, Any]) -> None:
    model = stacked(keras, (6, 6, 2), keras.layers.Conv2D(3, 3), keras.layers.BatchNormalization(**settings))
    folded = fold_batch_norms(model)
    assert normalizations(folded) == []
    np.testing.assert_allclose(answer(keras, folded), answer(keras, model), rtol=0, atol=1e-5)


def test_two_normalizations_in_a_row_are_both_folded(keras: Any) -> None:
    norm = keras.layers.BatchNormalization
    model = stacked(keras, (6,), keras.layers.Dense(3), norm(), norm())
    folded = fold_batch_norms(model)
    assert normalizations(folded) == []
    np.testing.assert_allclose(answer(keras, folded), answer(keras, model), rtol=0, atol=1e-5)


def test_a_normalization_behind_an_add_stays(keras: Any) -> None:
    layers = keras.layers
    inputs = keras.Input((6, 6, 2))
    first = layers.BatchNormalization(name="goes")(layers.Conv2D(2, 1)(inputs))
    model = scramble(keras.Model(inputs, layers.BatchNormalization(name="stays")(layers.Add()([first, inputs]))))
    folded = fold_batch_norms(model)
    assert normalizations(folded) == ["stays"]
    np.testing.assert_allclose(answer(keras, folded), answer(keras, model), rtol=0, atol=1e-5)


def unfoldable(keras: Any, why: str) -> Any:
    layers = keras.layers
    inputs = keras.Input((6, 6, 6))
    conv, norm = layers.Conv2D(6, 1, padding="same"), layers.BatchNormalization()
    if why == "activation":
        outputs = norm(layers.Conv2D(6, 1, activation="relu")(inputs))
    elif why == "second reader":
        between = conv(inputs)
        outputs = layers.Add()([norm(between), between])
    elif why == "output":
        between = conv(inputs)
        outputs = [norm(between), between]
    elif why == "shared layer":
        outputs = norm(conv(conv(inputs)))
    elif why == "shared normalization":
        outputs = norm(layers.ReLU()(norm(conv(inputs))))
    elif why == "other axis":
        outputs = layers.BatchNormalization(axis=1)(conv(inputs))
    elif why == "statistics of the batch":
        outputs = norm(conv(inputs), training=True)
    else:

        class Own(layers.Conv2D):  # type: ignore[misc]
            def call(self, inputs: Any) -> Any:
                return super().call(inputs) ** 2

        outputs = norm(Own(6, 1)(inputs))
    return scramble(keras.Model(inputs, outputs))


@pytest.mark.parametrize(
    "why",
    [
        "activation",
        "second reader",
        "output",
        "shared layer",
        "shared normalization",
        "other axis",
        "statistics of the batch",
        "subclass",
    ],
)
def test_a_normalization_that_would_change_something_else_stays(keras: Any, why: str) -> None:
    model = unfoldable(keras, why)
    folded = fold_batch_norms(model)
    assert len(normalizations(folded)) == 1
    sample = np.random.default_rng(1).normal(0, 1, (3, 6, 6, 6)).astype(np.float32)
    pairs = [keras.tree.flatten(one(keras.ops.convert_to_tensor(sample), training=False)) for one in (model, folded)]
    for one, other in zip(*pairs, strict=True):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(one), keras.ops.convert_to_numpy(other))


def test_channels_first_is_folded_along_its_own_axis(keras: Any) -> None:
    layers = keras.layers
    inputs = keras.Input((2, 5, 5))
    conv = layers.Conv2D(5, 1, data_format="channels_first")
    # Both axes have five entries: the wrong one would fit too.
    right = keras.Model(inputs, layers.BatchNormalization(axis=1)(conv(inputs)))
    wrong = keras.Model(
        inputs, layers.BatchNormalization(axis=-1)(layers.Conv2D(5, 1, data_format="channels_first")(inputs))
    )
    assert normalizations(fold_batch_norms(right)) == []
    assert len(normalizations(fold_batch_norms(wrong))) == 1


def test_the_given_model_stays_as_it_is(keras: Any) -> None:
    model = stacked(keras, (6,), keras.layers.Dense(3), keras.layers.BatchNormalization())
    before = model.get_weights()
    folded = fold_batch_norms(model)
    for weight in folded.weights:
        weight.assign(weight + 1)
    for one, other in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_model_without_normalizations_is_copied(keras: Any) -> None:
    model = stacked(keras, (6,), keras.layers.Dense(3))
    folded = fold_batch_norms(model)
    np.testing.assert_array_equal(answer(keras, folded), answer(keras, model))
    assert not {id(one) for one in folded.weights} & {id(one) for one in model.weights}


def test_constraints_that_were_meant_for_the_old_kernel_go(keras: Any) -> None:
    dense = keras.layers.Dense(3, kernel_constraint="unit_norm", name="dense")
    folded = fold_batch_norms(stacked(keras, (6,), dense, keras.layers.BatchNormalization()))
    assert folded.get_layer("dense").kernel_constraint is None


def test_a_nested_model_is_sent_to_be_unfolded_first(keras: Any) -> None:
    inner = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)], name="inner")
    with pytest.raises(ConversionError, match="`inner`"):
        fold_batch_norms(keras.Sequential([keras.Input((4,)), inner]))


def test_resnet_8_answers_the_same_without_normalizations(keras: Any, resnet: Path) -> None:
    model = flat_model(keras.models.load_model(resnet, compile=False))
    folded = fold_batch_norms(model)
    assert normalizations(folded) == []
    sample = np.random.default_rng(0).uniform(0, 255, (4, 32, 32, 3)).astype(np.float32)
    pair = [keras.ops.convert_to_numpy(one(keras.ops.convert_to_tensor(sample))) for one in (model, folded)]
    # Measured: 1.7e-6, of softmax outputs up to 0.7.
    np.testing.assert_allclose(pair[1], pair[0], rtol=0, atol=1e-5)
