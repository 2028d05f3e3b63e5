"""Residual branches: which ones can go whole, and what the model computes without them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from converters.errors import ConversionError
from converters.graph.blocks import remove_blocks, residual_blocks
from converters.graph.cost import costs

pytestmark = pytest.mark.tensorflow


def randomize(model: Any) -> Any:
    rng = np.random.default_rng(2)
    for layer in model.layers:
        for weight in layer.weights:
            positive = weight.name in ("gamma", "moving_variance")
            values = rng.uniform(0.5, 1.5, weight.shape) if positive else rng.normal(0, 0.3, weight.shape)
            weight.assign(values.astype(np.float32))
    return model


@pytest.fixture(scope="module")
def model(keras: Any) -> Any:
    """Two blocks behind each other, the second with a squeeze-excite and an inner skip, then one whose skip is no
    identity.
    """
    layers = keras.layers
    x = keras.Input((8, 8, 3))
    stem = layers.Conv2D(4, 3, padding="same", activation="relu", name="stem")(x)
    y = layers.BatchNormalization(name="one_bn")(layers.Conv2D(4, 3, padding="same", name="one_conv")(stem))
    one = layers.ReLU(name="one_relu")(layers.Add(name="one")([y, stem]))
    wide = layers.Conv2D(6, 1, name="two_expand")(one)
    inner = layers.DepthwiseConv2D(3, padding="same", name="inner_depthwise")(wide)
    wide = layers.Add(name="inner")([wide, inner])
    gate = layers.Dense(6, activation="sigmoid", name="two_gate")(layers.GlobalAveragePooling2D(name="two_mean")(wide))
    wide = layers.Multiply(name="two_scale")([wide, gate])
    two = one + layers.Conv2D(4, 1, name="two_project")(wide)
    two._keras_history.operation.name = "two"
    down = layers.Conv2D(4, 3, strides=2, padding="same", name="down")(two)
    side = layers.Conv2D(4, 1, strides=2, name="side")(two)
    y = layers.GlobalAveragePooling2D(name="mean")(layers.Add(name="three")([down, side]))
    return randomize(keras.Model(x, layers.Dense(2, name="logits")(y)))


def answers(model: Any) -> Any:
    pixels = np.random.default_rng(4).normal(size=(3, *model.input_shape[1:])).astype(np.float32)
    return np.asarray(model(pixels, training=False))


def silenced(keras: Any, model: Any, *layers: str) -> Any:
    """The model with zeros for all weights of some layers: each of them then answers 0."""
    twin = keras.models.clone_model(model)
    twin.set_weights(model.get_weights())
    for name in layers:
        twin.get_layer(name).set_weights([0 * one for one in twin.get_layer(name).get_weights()])
    return twin


def test_branches_with_an_identity_skip_are_blocks(model: Any) -> None:
    blocks = {block.name: block for block in residual_blocks(model)}
    assert list(blocks) == ["one", "inner", "two"]
    assert blocks["one"].layers == ("one_conv", "one_bn")
    assert set(blocks["two"].layers) == {
        "two_expand",
        "inner_depthwise",
        "inner",
        "two_mean",
        "two_gate",
        "two_scale",
        "two_project",
    }
    assert blocks["two"].add == "two"


def test_a_block_costs_the_macs_of_its_branch(model: Any) -> None:
    blocks = {block.name: block.macs for block in residual_blocks(model)}
    # 8 x 8 places: one has 3x3 from 4 to 4; inner 3x3 for each of 6; two 1x1 from 4 to 6 and back, and the gate.
    assert blocks == {
        "one": 64 * 9 * 4 * 4,
        "inner": 64 * 9 * 6,
        "two": 64 * 4 * 6 + 64 * 9 * 6 + 6 * 6 + 64 * 6 * 4,
    }


@pytest.mark.parametrize(
    ("names", "silent"),
    [
        (["one"], ["one_bn"]),
        (["two"], ["two_project"]),
        (["inner"], ["inner_depthwise"]),
        (["two", "one"], ["one_bn", "two_project"]),
        (["inner", "two"], ["two_project"]),
    ],
    ids=str,
)
def test_without_a_block_the_skip_stays(keras: Any, model: Any, names: list[str], silent: list[str]) -> None:
    shorter = remove_blocks(model, names)
    wanted = answers(silenced(keras, model, *silent))
    assert np.abs(answers(shorter) - wanted).max() <= 1e-5 * np.abs(wanted).max()
    assert np.abs(answers(model) - wanted).max() > 1e-3
    gone = {name for block in residual_blocks(model) if block.name in names for name in (*block.layers, block.name)}
    gone |= {"one_relu"} if "one" in names else set()  # the stem in front of it ends in a ReLU already
    assert {one.name for one in shorter.layers} == {one.name for one in model.layers} - gone


def test_the_macs_of_removed_blocks_are_gone(model: Any) -> None:
    blocks = {block.name: block.macs for block in residual_blocks(model)}
    shorter = remove_blocks(model, ["one", "two"])
    assert costs(shorter).macs == costs(model).macs - blocks["one"] - blocks["two"]


def test_the_given_model_stays_as_it_is(model: Any) -> None:
    before = answers(model)
    remove_blocks(model, ["one"]).layers[1].kernel.assign_add([[[[1.0] * 4] * 3] * 3] * 3)
    np.testing.assert_array_equal(answers(model), before)


def branched(keras: Any, case: str) -> Any:
    layers = keras.layers
    x = keras.Input((6, 6, 4))
    stem = layers.Conv2D(4, 1, name="stem")(x)
    y = layers.Conv2D(4, 1, name="branch")(stem)
    outputs = [layers.Conv2D(2, 1, name="head")(layers.Add(name="sum")([stem, y]))]
    if case == "read by another layer":
        outputs = [layers.Conv2D(2, 1, name="head")(layers.Concatenate()([layers.Add(name="sum")([stem, y]), y]))]
    elif case == "an output of the model":
        outputs.append(y)
    elif case == "reads something else":
        y = layers.Conv2D(4, 1, name="other")(layers.Concatenate()([y, x]))
        outputs = [layers.Conv2D(2, 1, name="head")(layers.Add(name="sum")([stem, y]))]
    elif case == "spreads":
        y = layers.GlobalAveragePooling2D(keepdims=True)(y)
        outputs = [layers.Conv2D(2, 1, name="head")(layers.Add(name="sum")([stem, y]))]
    elif case == "three":
        outputs = [layers.Add(name="sum")([stem, y, layers.ReLU()(stem)])]
    elif case == "product":
        outputs = [layers.Multiply(name="sum")([stem, y])]
    elif case == "twice the same":
        outputs = [layers.Add(name="sum")([y, y])]
    return keras.Model(x, outputs)


@pytest.mark.parametrize(
    "case",
    [
        "read by another layer",
        "an output of the model",
        "reads something else",
        "spreads",
        "three",
        "product",
        "twice the same",
    ],
)
def test_a_branch_that_others_need_is_no_block(keras: Any, case: str) -> None:
    assert [block.name for block in residual_blocks(branched(keras, "plain"))] == ["sum"]
    assert residual_blocks(branched(keras, case)) == ()


def test_an_addition_that_is_called_twice_makes_two_blocks(keras: Any) -> None:
    layers = keras.layers
    x = keras.Input((4, 4, 3))
    add, y = layers.Add(name="sum"), x
    for name in ("first", "second"):
        y = add([y, layers.Conv2D(3, 1, name=name)(y)])
    model = randomize(keras.Model(x, y))
    assert [(block.name, block.add, block.layers) for block in residual_blocks(model)] == [
        ("sum", "sum", ("first",)),
        ("sum (2)", "sum", ("second",)),
    ]
    wanted = answers(silenced(keras, model, "second"))
    np.testing.assert_allclose(answers(remove_blocks(model, ["sum (2)"])), wanted, atol=1e-5)
    nothing = remove_blocks(model, ["sum", "sum (2)"])
    np.testing.assert_allclose(answers(nothing), answers(silenced(keras, model, "first", "second")), atol=1e-6)


def test_an_unknown_block_is_an_error_that_lists_close_names(model: Any) -> None:
    with pytest.raises(ConversionError, match="no such residual block") as error:
        remove_blocks(model, ["oen"])
    assert "'one'" in str(error.value)


@pytest.mark.parametrize(
    ("skip", "behind", "stays"),
    [("relu", "relu", False), ("linear", "relu", True), ("relu", "tanh", True), ("relu6", "relu", True)],
)
def test_a_relu_that_would_stand_behind_a_relu_goes_with_the_block(
    keras: Any, skip: str, behind: str, stays: bool
) -> None:
    layers = keras.layers
    x = keras.Input((4, 4, 3))
    stem = layers.Conv2D(3, 1, activation=skip, name="stem")(x)
    y = layers.Add(name="sum")([stem, layers.Conv2D(3, 1, name="branch")(stem)])
    y = layers.Activation(behind, name="behind")(y)
    model = randomize(keras.Model(x, layers.Conv2D(2, 1, name="last")(y)))
    left = remove_blocks(model, ["sum"])
    assert ("behind" in [layer.name for layer in left.layers]) == stays
    np.testing.assert_allclose(answers(left), answers(silenced(keras, model, "branch")), atol=1e-6)


def test_a_relu_that_is_the_models_output_stays(keras: Any) -> None:
    layers = keras.layers
    x = keras.Input((4, 4, 3))
    stem = layers.ReLU(name="stem")(x)
    y = layers.Add(name="sum")([stem, layers.Conv2D(3, 1, name="branch")(stem)])
    left = remove_blocks(randomize(keras.Model(x, layers.ReLU(name="answer")(y))), ["sum"])
    assert "answer" in [layer.name for layer in left.layers]
