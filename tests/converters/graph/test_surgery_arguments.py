"""Removing channels: what the new model keeps, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from converters.errors import ConversionError
from converters.graph.surgery import remove_channels

pytestmark = pytest.mark.tensorflow


@pytest.fixture(scope="module")
def chain(keras: Any) -> Any:
    layers = keras.layers
    x = keras.Input((6, 6, 3), name="picture")
    y = layers.Conv2D(4, 3, name="first")(x)
    y = layers.Conv2D(5, 1, name="second", trainable=False)(y)
    return keras.Model(x, layers.Dense(3, name="logits")(layers.GlobalAveragePooling2D()(y)), name="small")


def test_names_and_flags_are_kept(chain: Any) -> None:
    pruned = remove_channels(chain, {"first": np.array([0]), "second": np.array([1])})
    assert [one.name for one in pruned.layers] == [one.name for one in chain.layers]
    assert [one.trainable for one in pruned.layers] == [one.trainable for one in chain.layers]
    assert (pruned.name, pruned.input_shape, pruned.output_shape) == ("small", (None, 6, 6, 3), (None, 3))


@pytest.mark.parametrize("removed", [{}, {"first": []}, {"logits": np.zeros(0, dtype=np.int64)}], ids=str)
def test_nothing_removed_is_a_copy(chain: Any, removed: Any) -> None:
    copy = remove_channels(chain, removed)
    pixels = np.random.default_rng(0).normal(size=(2, 6, 6, 3)).astype(np.float32)
    np.testing.assert_array_equal(np.asarray(copy(pixels)), np.asarray(chain(pixels)))
    assert copy is not chain


def test_a_unit_that_is_named_twice_goes_once(chain: Any) -> None:
    pruned = remove_channels(chain, {"first": np.array([2, 0, 2])})
    kept = chain.get_layer("first").kernel.numpy()[..., [1, 3]]
    np.testing.assert_array_equal(pruned.get_layer("first").kernel, kept)


@pytest.mark.parametrize(
    ("removed", "words"),
    [
        ({"frist": [0]}, ["no such group", "'frist'", "'first'"]),
        ({"first": [4]}, ["no such unit", "4", "0..3"]),
        ({"first": [-1]}, ["no such unit", "-1", "0..3"]),
        ({"first": [0, 1, 2, 3]}, ["all its units", "at most 3"]),
        ({"logits": [0]}, ["frozen", "model output `logits`"]),
        ({"first": [0.0]}, ["whole numbers", "float64"]),
        ({"first": np.array([True, False, True, False])}, ["whole numbers", "bool", "flatnonzero"]),
        ({"first": np.array([[0]])}, ["one row", "(1, 1)"]),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_what_cannot_be_removed_is_an_error(chain: Any, removed: Any, words: list[str]) -> None:
    with pytest.raises(ConversionError) as error:
        remove_channels(chain, removed)
    for word in words:
        assert word.lower() in str(error.value).lower()


def test_a_layer_that_cannot_be_made_narrower_is_an_error(keras: Any) -> None:
    layers = keras.layers
    fixed = keras.initializers.Constant(np.ones((3, 4), dtype=np.float32))
    x = keras.Input((3,))
    model = keras.Model(x, layers.Dense(2, name="b")(layers.Dense(4, kernel_initializer=fixed, name="a")(x)))
    with pytest.raises(ConversionError, match="cannot be built with fewer channels"):
        remove_channels(model, {"a": np.array([1])})
