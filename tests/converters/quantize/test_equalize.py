"""Cross-layer equalization: the answers stay, the channels' ranges meet."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from converters.quantize.equalize import channel_precision, equalize, find_pairs

pytestmark = pytest.mark.tensorflow


def uneven(model: Any, seed: int = 0) -> Any:
    """Give every weight random numbers, and every output channel another size, over three orders of magnitude."""
    random = np.random.default_rng(seed)
    for layer in model.layers:
        layer.set_weights(
            [
                (random.normal(size=one.shape) * 10 ** random.uniform(-1.5, 1.5, one.shape[-1:])).astype(np.float32)
                for one in layer.get_weights()
            ]
        )
    return model


def difference(model: Any, other: Any, seed: int = 1) -> float:
    """Largest difference of the outputs, relative to the largest output."""
    inputs = np.random.default_rng(seed).normal(size=(4, *model.input_shape[1:])).astype(np.float32)
    first, second = (np.asarray(one(inputs, training=False)) for one in (model, other))
    return float(np.abs(first - second).max() / np.abs(first).max())


@pytest.fixture(scope="module")
def chain(keras: Any) -> Any:
    layers = keras.layers
    return uneven(
        keras.Sequential(
            [
                keras.Input((8, 8, 3)),
                layers.Conv2D(6, 3, padding="same", activation="relu", name="first"),
                layers.ZeroPadding2D(1),
                layers.DepthwiseConv2D(3, depth_multiplier=2, name="middle"),
                layers.ReLU(),
                layers.MaxPooling2D(2),
                layers.Conv2D(5, 1, use_bias=False, name="narrow"),
                layers.LeakyReLU(negative_slope=0.1),
                layers.Flatten(),
                layers.Dropout(0.5),
                layers.Dense(4, name="hidden", activation="relu"),
                layers.Dense(3, name="last"),
            ]
        )
    )


def test_the_answers_stay_the_same(chain: Any) -> None:
    assert difference(chain, equalize(chain)) <= 1e-4


def test_the_given_model_is_left_alone(chain: Any) -> None:
    before = chain.get_weights()
    equalize(chain)
    assert all(np.array_equal(one, other) for one, other in zip(before, chain.get_weights(), strict=True))


def test_every_neighbour_on_the_way_makes_a_pair(chain: Any) -> None:
    pairs, left_out = find_pairs(chain)
    assert [(one.first, one.second) for one in pairs] == [
        ("first", "middle"),
        ("middle", "narrow"),
        ("narrow", "hidden"),
        ("hidden", "last"),
    ]
    # 8 + 2 of padding, 8 behind the depthwise layer, 4 behind the pooling: 4 x 4 places in the Flatten.
    assert [one.places for one in pairs] == [1, 1, 16, 1]
    assert [(one.layer, one.reason) for one in left_out] == [("last", "its output is an output of the model")]


def test_both_layers_of_two_end_with_the_same_range_in_every_channel(keras: Any) -> None:
    layers = keras.layers
    model = uneven(keras.Sequential([keras.Input((4,)), layers.Dense(6, activation="relu"), layers.Dense(5)]))
    new = [np.abs(np.asarray(one.kernel)) for one in equalize(model).layers[1:]]
    made, read = new[0].max(axis=0), new[1].max(axis=1)
    assert made == pytest.approx(read, rel=1e-5)
    # By hand: the geometric mean of what both were.
    old = [np.asarray(one.kernel) for one in model.layers]
    assert made == pytest.approx(np.sqrt(np.abs(old[0]).max(axis=0) * np.abs(old[1]).max(axis=1)), rel=1e-4)


def test_three_layers_around_a_depthwise_one_end_with_one_range(keras: Any) -> None:
    layers = keras.layers
    front, middle, back = (
        layers.Conv2D(6, 1, activation="relu"),
        layers.DepthwiseConv2D(3, activation="relu"),
        layers.Conv2D(4, 1),
    )
    model = uneven(keras.Sequential([keras.Input((5, 5, 3)), front, middle, back]))
    old = [
        np.abs(np.asarray(front.kernel)).max(axis=(0, 1, 2)),
        np.abs(np.asarray(middle.kernel)).max(axis=(0, 1, 3)),
        np.abs(np.asarray(back.kernel)).max(axis=(0, 1, 3)),
    ]
    # The product of the three ranges cannot change, so where they are equal each is the cube root of it.
    expected = np.cbrt(old[0] * old[1] * old[2])
    made = equalize(model)
    assert np.abs(np.asarray(made.layers[1].kernel)).max(axis=(0, 1, 2)) == pytest.approx(expected, rel=1e-3)
    assert np.abs(np.asarray(made.layers[2].kernel)).max(axis=(0, 1, 3)) == pytest.approx(expected, rel=1e-3)
    assert np.abs(np.asarray(made.layers[3].kernel)).max(axis=(0, 1, 3)) == pytest.approx(expected, rel=1e-3)


def test_the_channels_use_more_of_their_tensors_ranges(chain: Any) -> None:
    def precision(model: Any) -> float:
        """Sum over channels of p1 * p2, what the paper maximizes, of the first convolution and the depthwise one."""
        first, second = (np.asarray(model.get_layer(one).kernel, dtype=np.float64) for one in ("first", "middle"))
        reach = np.abs(first).max(axis=(0, 1, 2)), np.abs(second).max(axis=(0, 1, 3))
        return float(sum((reach[0] / reach[0].max()) * (reach[1] / reach[1].max())))

    assert precision(equalize(chain)) > 1.5 * precision(chain)


def test_channel_precision_is_the_share_of_the_tensors_range() -> None:
    kernel = np.array([[1.0, -4.0, 0.5], [-2.0, 1.0, 0.0]])
    assert channel_precision(kernel, (1,)).tolist() == [0.5, 1.0, 0.125]
    assert channel_precision(kernel, (0,)).tolist() == [1.0, 0.5]


def test_a_channel_of_zeros_changes_nothing(keras: Any) -> None:
    layers = keras.layers
    model = uneven(keras.Sequential([keras.Input((4,)), layers.Dense(3, activation="relu"), layers.Dense(2)]))
    first, second = model.layers
    kernel = np.asarray(first.kernel).copy()
    kernel[:, 1] = 0
    first.kernel.assign(kernel)
    other = np.asarray(second.kernel).copy()
    other[2] = 0
    second.kernel.assign(other)
    made = equalize(model)
    assert all(np.isfinite(one).all() for one in made.get_weights())
    assert difference(model, made) <= 1e-4


def left_out(model: Any) -> dict[str, str]:
    return {one.layer: one.reason for one in find_pairs(model)[1]}


@pytest.mark.parametrize("kind", ["layer", "activation", "inside"])
def test_a_relu6_between_two_layers_leaves_them_out(keras: Any, kind: str) -> None:
    layers = keras.layers
    between = {"layer": [layers.ReLU(6.0)], "activation": [layers.Activation("relu6")], "inside": []}[kind]
    first = layers.Conv2D(4, 1, activation="relu6" if kind == "inside" else None, name="first")
    model = uneven(keras.Sequential([keras.Input((4, 4, 3)), first, *between, layers.Conv2D(2, 1, name="second")]))
    assert "ReLU6" in left_out(model)["first"]
    made = equalize(model)
    assert all(np.array_equal(one, other) for one, other in zip(model.get_weights(), made.get_weights(), strict=True))


def test_what_cannot_be_scaled_is_left_out_with_its_reason(keras: Any) -> None:
    layers = keras.layers
    inputs = keras.Input((6, 6, 4))
    twice = layers.Conv2D(4, 1, name="twice")
    values = layers.Conv2D(4, 1, activation="sigmoid", name="bent")(inputs)
    values = twice(twice(values))
    values = layers.Conv2D(4, 1, name="before_groups")(values)
    values = layers.Conv2D(4, 1, groups=2, activation="relu", name="grouped")(values)
    forked = layers.Conv2D(4, 1, name="forked")(values)
    values = layers.Add()([forked, layers.Conv2D(4, 1, name="summed")(forked)])
    model = keras.Model(inputs, [layers.Conv2D(2, 1, name="end")(values), forked])
    pairs, _ = find_pairs(model)
    assert [(one.first, one.second) for one in pairs] == [("grouped", "forked")]
    reasons = left_out(model)
    assert "sigmoid" in reasons["bent"]
    assert "more than once" in reasons["twice"]
    assert "`grouped`, which reads its output, computes in groups" in reasons["before_groups"]
    assert reasons["forked"] == "its output is an output of the model"
    assert "(Add) reads its output" in reasons["summed"]
    made = equalize(model)
    assert difference(keras.Model(inputs, model.outputs[0]), keras.Model(made.inputs[0], made.outputs[0])) <= 1e-4


def test_a_folded_model_with_skips_keeps_its_answers(keras: Any, small_models: dict[str, Any]) -> None:
    from converters.graph.flat import flat_model
    from converters.graph.fold import fold_batch_norms

    model = fold_batch_norms(flat_model(keras.models.load_model(small_models["residual"])))
    assert difference(model, equalize(model)) <= 1e-4
