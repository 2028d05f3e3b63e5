"""Models within models, unfolded: the same answers, names that say where a layer comes from, weights of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from converters.errors import ConversionError
from converters.graph.flat import flat_model, is_flat
from converters.graph.network import read_network, rebuild

pytestmark = pytest.mark.tensorflow


def answer(keras: Any, model: Any, *inputs: Any, training: bool = False) -> Any:
    structure = (model._functional if isinstance(model, keras.Sequential) else model).input
    packed = keras.tree.pack_sequence_as(structure, [keras.ops.convert_to_tensor(one) for one in inputs])
    made = keras.tree.flatten(model(packed, training=training))
    return np.concatenate([keras.ops.convert_to_numpy(one).reshape(len(inputs[0]), -1) for one in made], axis=1)


def numbers(*shape: int) -> Any:
    return np.random.default_rng(sum(shape)).normal(0, 1, shape).astype(np.float32)


def names(model: Any) -> list[str]:
    return [layer.name for layer in model.layers]


@pytest.fixture(scope="module")
def nested(keras: Any) -> Any:
    """A model in a model in a model; the middle one is called twice; two convolutions have the same name."""
    layers = keras.layers
    keras.utils.set_random_seed(11)
    base = keras.Sequential(
        [keras.Input((8, 8, 3)), layers.Conv2D(3, 3, name="conv"), layers.BatchNormalization(name="norm")], name="base"
    )
    entrance = keras.Input((8, 8, 3))
    middle = keras.Model(entrance, layers.ReLU(name="act")(base(entrance)), name="middle")
    inputs = keras.Input((8, 8, 3), name="photo")
    first = middle(layers.Conv2D(3, 1, name="conv")(inputs))
    merged = layers.Add(name="add")([first, middle(inputs)])
    head = keras.Sequential([layers.GlobalAveragePooling2D(name="pool"), layers.Dense(5, name="logits")], name="head")
    return keras.Model(inputs, head(merged), name="outer")


def test_nested_models_give_the_same_answers_without_a_model_in_them(keras: Any, nested: Any) -> None:
    flat = flat_model(nested)
    sample = numbers(2, 8, 8, 3)
    np.testing.assert_array_equal(answer(keras, flat, sample), answer(keras, nested, sample))
    assert is_flat(flat)
    assert not is_flat(nested)


def test_a_layer_keeps_its_name_and_only_a_clash_puts_the_model_s_in_front(nested: Any) -> None:
    assert names(flat_model(nested)) == ["photo", "conv", "base_conv", "norm", "act", "add", "pool", "logits"]


def test_input_and_output_keep_their_names(nested: Any) -> None:
    flat = flat_model(nested)
    assert (flat.name, flat.inputs[0].name, flat.output_names) == ("outer", "photo", ["head"])


def test_a_model_that_is_called_twice_has_its_weights_once(nested: Any) -> None:
    flat = flat_model(nested)
    # 1 x 1 x 3 x 3 + 3, 3 x 3 x 3 x 3 + 3, four numbers for each of 3 normalized channels, 3 x 5 + 5.
    assert flat.count_params() == 12 + 84 + 12 + 20
    network = read_network(flat)
    assert len(network.calls(flat.get_layer("base_conv"))) == 2


def test_the_given_model_stays_as_it_is(keras: Any, nested: Any) -> None:
    sample = numbers(2, 8, 8, 3)
    before = answer(keras, nested, sample)
    flat = flat_model(nested)
    for weight in flat.weights:
        weight.assign(weight * 2 + 1)
    np.testing.assert_array_equal(answer(keras, nested, sample), before)
    assert [layer.name for layer in nested.layers] == ["photo", "conv", "middle", "add", "head"]


def test_flattening_twice_changes_nothing_more(nested: Any) -> None:
    once = flat_model(nested)
    twice = flat_model(once)
    assert names(twice) == names(once)
    assert twice.output_names == once.output_names
    for one, other in zip(once.get_weights(), twice.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_two_nested_models_of_the_same_make_get_names_of_their_own(keras: Any) -> None:
    def block(name: str) -> Any:
        return keras.Sequential([keras.Input((4,)), keras.layers.Dense(4, name="dense")], name=name)

    model = keras.Sequential([keras.Input((4,)), block("one"), block("two"), block("three")])
    assert names(flat_model(model))[1:] == ["dense", "two_dense", "three_dense"]


def test_no_name_is_given_away_twice(keras: Any) -> None:
    layers = keras.layers
    inner = keras.Sequential([keras.Input((4,)), layers.Dense(4, name="dense")], name="inner")
    model = keras.Sequential(
        [keras.Input((4,)), layers.Dense(4, name="dense"), layers.Dense(4, name="inner_dense"), inner]
    )
    assert names(flat_model(model))[1:] == ["dense", "inner_dense", "inner_dense_1"]


def test_a_sequential_model_becomes_functional(keras: Any) -> None:
    model = keras.Sequential([keras.Input((4,), name="row"), keras.layers.Dense(2, name="dense")], name="small")
    flat = flat_model(model)
    assert type(flat) is type(keras.Model(model.inputs, model.outputs))
    np.testing.assert_array_equal(answer(keras, flat, numbers(2, 4)), np.asarray(model(numbers(2, 4))))


def test_a_model_with_several_ends_is_unfolded(keras: Any) -> None:
    zebra, ant = keras.Input((3,), name="zebra"), keras.Input((2,), name="ant")
    inner = keras.Model(
        {"zebra": zebra, "ant": ant}, [keras.layers.Dense(2)(ant), keras.layers.Concatenate()([zebra, ant]), zebra]
    )
    first, second = keras.Input((2,), name="first"), keras.Input((3,), name="second")
    small, joined, same = inner({"ant": first, "zebra": second})
    model = keras.Model([first, second], {"joined": joined, "small": small, "same": same})
    flat = flat_model(model)
    given = numbers(2, 2), numbers(2, 3)
    np.testing.assert_array_equal(answer(keras, flat, *given), answer(keras, model, *given))
    assert [one.name for one in flat.input] == ["first", "second"]
    assert sorted(flat.output) == ["joined", "same", "small"]


def test_a_list_of_one_input_becomes_that_input(keras: Any) -> None:
    inputs = keras.Input((3,), name="row")
    flat = flat_model(keras.Model([inputs], [keras.layers.Dense(2)(inputs)]))
    # Keras would warn about the structure, and warnings are errors here.
    assert flat(np.zeros((1, 3), np.float32)).shape == (1, 2)


def test_integers_are_cast_where_a_nested_model_wants_floats(keras: Any) -> None:
    inner = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Conv2D(2, 3)], name="inner")
    pixels = keras.Input((4, 4, 1), dtype="uint8", name="pixels")
    model = keras.Model(pixels, inner(pixels))
    sample = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 1), dtype=np.uint8)
    flat = flat_model(model)
    np.testing.assert_array_equal(answer(keras, flat, sample), answer(keras, model, sample))
    assert flat.inputs[0].dtype == "uint8"


def test_what_trains_in_a_nested_model_trains_in_the_flat_one(keras: Any) -> None:
    dense = keras.layers.Dense
    base = keras.Sequential([keras.Input((4,)), dense(4, name="frozen"), dense(4, name="released")], name="base")
    base.trainable = False
    base.get_layer("released").trainable = True
    model = keras.Sequential([keras.Input((4,)), base, dense(2, name="high")])
    flat = flat_model(model)
    assert [flat.get_layer(name).trainable for name in ("frozen", "released", "high")] == [False, True, True]
    # Weights and biases of two layers: so says Keras of the nested model.
    assert len(flat.trainable_weights) == len(model.trainable_weights) == 4


def test_a_model_that_is_frozen_as_a_whole_trains_nothing(keras: Any) -> None:
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    model.trainable = False
    assert flat_model(model).trainable_weights == []


def test_training_in_the_call_of_a_nested_model_reaches_its_layers(keras: Any) -> None:
    base = keras.Sequential([keras.Input((4,)), keras.layers.Dropout(0.5, name="drop")], name="base")
    inputs = keras.Input((4,))
    flat = flat_model(keras.Model(inputs, base(inputs, training=True)))
    network = read_network(flat)
    assert network.nodes[0].kwargs is not None
    # Keras itself writes False where nobody says anything.
    assert network.nodes[0].kwargs["training"] is True


def test_inputs_that_are_handed_over_by_name_find_their_places(keras: Any) -> None:
    zebra, ant = keras.Input((3,), name="zebra"), keras.Input((2,), name="ant")
    inner = keras.Model([zebra, ant], keras.layers.Concatenate()([zebra, ant]))
    first, second = keras.Input((3,)), keras.Input((2,))
    flat = flat_model(keras.Model([first, second], inner({"ant": second, "zebra": first})))
    given = np.zeros((1, 3), np.float32), np.ones((1, 2), np.float32)
    assert answer(keras, flat, *given).tolist() == [[0, 0, 0, 1, 1]]


@pytest.mark.filterwarnings("ignore:Layer .inner.:UserWarning")
def test_masks_reach_the_layers_that_want_them(keras: Any) -> None:
    layers = keras.layers
    inner = keras.Sequential([keras.Input((5, 3)), layers.LSTM(2)], name="inner")
    tokens = keras.Input((5,), dtype="int32")
    model = keras.Model(tokens, inner(layers.Embedding(7, 3, mask_zero=True)(tokens)))
    sample = np.array([[1, 2, 3, 0, 0], [4, 5, 6, 1, 2]], np.int32)
    np.testing.assert_allclose(
        answer(keras, flat_model(model), sample), answer(keras, model, sample), rtol=0, atol=1e-6
    )


def test_wrappers_are_layers_and_stay(keras: Any) -> None:
    layers = keras.layers
    model = keras.Sequential(
        [keras.Input((5, 3)), layers.Bidirectional(layers.LSTM(2, return_sequences=True), name="both")]
        + [layers.TimeDistributed(layers.Dense(2), name="each")]
    )
    flat = flat_model(model)
    assert names(flat)[1:] == ["both", "each"]
    np.testing.assert_array_equal(answer(keras, flat, numbers(2, 5, 3)), answer(keras, model, numbers(2, 5, 3)))


def test_a_subclassed_model_inside_is_refused_by_name(keras: Any) -> None:
    class Own(keras.Model):  # type: ignore[misc]
        def call(self, inputs: Any) -> Any:
            return inputs * 2

    inputs = keras.Input((3,))
    with pytest.raises(ConversionError, match="`mine`") as caught:
        flat_model(keras.Model(inputs, Own(name="mine")(inputs)))
    assert "`Own`" in caught.value.received
    assert caught.value.next_step


@pytest.mark.slow
@pytest.mark.parametrize("name", ["MobileNetV3Small", "EfficientNetB0"])
def test_a_model_of_keras_applications_survives_flattening_and_rebuilding(keras: Any, name: str) -> None:
    model = getattr(keras.applications, name)(weights=None, input_shape=(32, 32, 3), include_top=False, pooling="avg")
    sample = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype(np.float32)
    expected = answer(keras, model, sample)
    flat = flat_model(model)
    again = rebuild(read_network(flat))
    assert np.abs(expected).max() > 0
    for one in (flat, again):
        np.testing.assert_allclose(answer(keras, one, sample), expected, rtol=0, atol=1e-5 * np.abs(expected).max())
        assert one.count_params() == model.count_params()


def test_an_old_h5_file_is_unfolded(keras: Any, resnet: Path) -> None:
    model = keras.models.load_model(resnet, compile=False)
    sample = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype(np.float32)
    flat = flat_model(model)
    np.testing.assert_allclose(answer(keras, flat, sample), answer(keras, model, sample), rtol=0, atol=1e-5)
    assert flat.inputs[0].name == "input_1"
