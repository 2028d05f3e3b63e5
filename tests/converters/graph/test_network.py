"""A model as numbered calls, and the same model built again from them, whole or with calls replaced."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from converters.errors import ConversionError
from converters.graph.network import Slot, read_network, rebuild

pytestmark = pytest.mark.tensorflow


def answers(keras: Any, model: Any, *inputs: Any) -> list[Any]:
    """All outputs of a model at inference, as arrays."""
    packed = keras.tree.pack_sequence_as(model.input, [keras.ops.convert_to_tensor(one) for one in inputs])
    made = keras.tree.flatten(model(packed, training=False))
    return [keras.ops.convert_to_numpy(one) for one in made]


def numbers(*shape: int) -> Any:
    return np.random.default_rng(sum(shape)).normal(0, 1, shape).astype(np.float32)


@pytest.fixture(scope="module")
def branched(keras: Any) -> Any:
    """Two branches over an Add: stem -> (left, itself) -> add -> logits."""
    layers = keras.layers
    keras.utils.set_random_seed(3)
    inputs = keras.Input((6, 6, 2), name="patch")
    stem = layers.Conv2D(4, 3, padding="same", name="stem")(inputs)
    left = layers.Conv2D(4, 1, name="left")(stem)
    added = layers.Add(name="add")([left, stem])
    return keras.Model(inputs, layers.Dense(3, name="logits")(layers.Flatten(name="flat")(added)), name="branched")


@pytest.fixture(scope="module")
def two_ends(keras: Any) -> Any:
    """One Dense called on both inputs; the second input is an output as well."""
    zebra, ant = keras.Input((4,), name="zebra"), keras.Input((4,), name="ant")
    shared = keras.layers.Dense(4, name="shared")
    return keras.Model([zebra, ant], {"sum": keras.layers.Add(name="sum")([shared(zebra), shared(ant)]), "own": ant})


def test_every_call_is_a_node_behind_the_nodes_that_it_needs(branched: Any) -> None:
    network = read_network(branched)
    names = [node.name for node in network.nodes]
    assert sorted(names) == ["add", "flat", "left", "logits", "stem"]
    assert names.index("stem") < names.index("left") < names.index("add") < names.index("flat") < names.index("logits")
    assert [node.index for node in network.nodes] == [0, 1, 2, 3, 4]
    assert [node.kind for node in network.nodes if node.name == "left"] == ["Conv2D"]


def test_tensors_know_their_shape_producer_and_consumers(branched: Any) -> None:
    network = read_network(branched)
    stem = next(node for node in network.nodes if node.name == "stem")
    assert network.shapes[stem.outputs[0]] == (None, 6, 6, 4)
    assert {node.name for node in network.consumers(stem.outputs[0])} == {"left", "add"}
    assert network.producer(stem.outputs[0]) is stem
    assert network.producer(network.inputs[0]) is None
    assert network.shapes[network.outputs[0]] == (None, 3)


def test_a_layer_that_is_called_twice_makes_two_nodes(two_ends: Any) -> None:
    network = read_network(two_ends)
    calls = network.calls(two_ends.get_layer("shared"))
    assert len(calls) == 2
    assert {node.inputs[0] for node in calls} == set(network.inputs)


def test_an_input_can_be_an_output(two_ends: Any) -> None:
    network = read_network(two_ends)
    # Keras sorts the keys of a dict: "own" comes before "sum".
    assert network.outputs[0] == network.inputs[1]


def test_constants_stand_in_the_arguments_and_are_no_tensors(keras: Any) -> None:
    inputs = keras.Input((4,))
    node = read_network(keras.Model(inputs, inputs * 3.0)).nodes[0]
    assert (node.kind, node.args, node.inputs) == ("Multiply", (Slot(0), 3.0), (0,))


def test_tensors_among_keyword_arguments_are_inputs_too(keras: Any) -> None:
    query, value = keras.Input((3, 4)), keras.Input((5, 4))
    attention = keras.layers.MultiHeadAttention(2, 2)
    node = read_network(keras.Model([query, value], attention(query, value=value))).nodes[0]
    assert node.inputs == (0, 1)
    assert node.kwargs is not None
    assert node.kwargs["value"] == Slot(1)


def test_a_model_built_again_gives_the_same_answers_from_weights_of_its_own(keras: Any, branched: Any) -> None:
    again = rebuild(read_network(branched))
    sample = numbers(2, 6, 6, 2)
    np.testing.assert_array_equal(answers(keras, again, sample)[0], answers(keras, branched, sample)[0])
    assert not {id(one) for one in again.weights} & {id(one) for one in branched.weights}
    assert (again.name, again.inputs[0].name, again.output_names) == ("branched", "patch", ["logits"])
    assert [layer.name for layer in again.layers] == [layer.name for layer in branched.layers]


def test_training_the_new_model_leaves_the_old_one_alone(keras: Any, branched: Any) -> None:
    sample = numbers(2, 6, 6, 2)
    before = answers(keras, branched, sample)[0]
    again = rebuild(read_network(branched))
    again.compile("sgd", "mse")
    again.fit(sample, np.zeros((2, 3)), verbose=0)
    np.testing.assert_array_equal(answers(keras, branched, sample)[0], before)
    assert np.abs(answers(keras, again, sample)[0] - before).max() > 1e-4


def test_names_order_and_structure_of_inputs_and_outputs_stay(keras: Any, two_ends: Any) -> None:
    again = rebuild(read_network(two_ends))
    assert [one.name for one in again.input] == ["zebra", "ant"]
    assert sorted(again.output) == ["own", "sum"]
    assert again.output_names == two_ends.output_names
    first, second = numbers(2, 4), numbers(3, 4)[:2]
    for one, other in zip(answers(keras, again, first, second), answers(keras, two_ends, first, second), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_shared_layer_stays_one_layer(two_ends: Any) -> None:
    again = rebuild(read_network(two_ends))
    # 4 x 4 weights and 4 biases, once.
    assert again.count_params() == 20


def test_operations_and_their_constants_survive(keras: Any) -> None:
    inputs = keras.Input((4,))
    rows = keras.ops.mean(inputs * np.array([1, 2, 3, 4], np.float32) + 3.0, axis=-1, keepdims=True)
    model = keras.Model(inputs, keras.ops.concatenate([rows, inputs[:, 1:3]], axis=-1))
    sample = numbers(2, 4)
    by_hand = np.concatenate([(sample * [1, 2, 3, 4] + 3).mean(-1, keepdims=True), sample[:, 1:3]], axis=-1)
    np.testing.assert_allclose(answers(keras, rebuild(read_network(model)), sample)[0], by_hand, rtol=1e-5)
    assert len(read_network(model).nodes) == 5


def test_inputs_in_a_dict_stay_in_a_dict(keras: Any) -> None:
    inputs = {"zebra": keras.Input((2,), name="zebra"), "ant": keras.Input((3,), name="ant")}
    model = keras.Model(inputs, keras.layers.Concatenate()([inputs["zebra"], inputs["ant"]]))
    again = rebuild(read_network(model))
    given = {"zebra": np.zeros((1, 2), np.float32), "ant": np.ones((1, 3), np.float32)}
    assert keras.ops.convert_to_numpy(again(given)).tolist() == [[0, 0, 1, 1, 1]]


def test_a_number_lets_one_input_of_the_node_through_and_drops_what_only_it_needed(keras: Any, branched: Any) -> None:
    network = read_network(branched)
    add = next(node for node in network.nodes if node.name == "add")
    # The Add reads [left, stem]: its second input is the skip.
    without = rebuild(network, {add.index: 1})
    assert "left" not in {layer.name for layer in without.layers}
    stem = keras.Model(branched.input, branched.get_layer("stem").output)
    sample = numbers(2, 6, 6, 2)
    middle = answers(keras, stem, sample)[0].reshape(2, -1)
    kernel, bias = branched.get_layer("logits").get_weights()
    np.testing.assert_allclose(answers(keras, without, sample)[0], middle @ kernel + bias, atol=1e-5)


def test_a_layer_takes_the_place_of_another_with_the_call_s_tensors(keras: Any, branched: Any) -> None:
    network = read_network(branched)
    places = {node.name: node.index for node in network.nodes}
    wider = keras.layers.Conv2D(7, 3, padding="same", name="wide")
    narrow = keras.layers.Conv2D(4, 1, name="narrow")
    again = rebuild(network, {places["stem"]: lambda x: narrow(wider(x))})
    assert {"wide", "narrow"} <= {layer.name for layer in again.layers}
    assert "stem" not in {layer.name for layer in again.layers}
    np.testing.assert_array_equal(again.get_layer("left").get_weights()[0], branched.get_layer("left").get_weights()[0])


def test_the_other_arguments_of_the_call_go_to_the_layer_that_replaces(keras: Any) -> None:
    query, value = keras.Input((3, 4)), keras.Input((5, 4))
    attention = keras.layers.MultiHeadAttention(2, 2, name="old")
    model = keras.Model([query, value], attention(query, value=value, use_causal_mask=True))
    seen: dict[str, Any] = {}

    def spy(first: Any, **others: Any) -> Any:
        seen.update(others)
        return first

    rebuild(read_network(model), {0: spy})
    assert seen["use_causal_mask"] is True
    assert seen["value"].shape == (None, 5, 4)


def test_a_layer_that_knows_no_training_takes_the_place_of_one_that_does(keras: Any) -> None:
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.Dropout(0.5)(inputs, training=True))
    again = rebuild(read_network(model), {0: keras.layers.Dense(2, name="dense")})
    assert again.output_shape == (None, 2)


def test_the_name_of_an_output_stays_where_its_layer_goes(branched: Any) -> None:
    network = read_network(branched)
    again = rebuild(network, {network.nodes[-1].index: 0})
    assert again.output_names == ["logits"]
    assert again.output_shape == (None, 144)


def test_a_layer_behind_a_changed_one_must_be_replaced_as_well(keras: Any, branched: Any) -> None:
    network = read_network(branched)
    places = {node.name: node.index for node in network.nodes}
    with pytest.raises(ConversionError, match="do not fit") as caught:
        rebuild(network, {places["flat"]: keras.layers.GlobalAveragePooling2D()})
    assert "logits" in caught.value.message


def test_a_model_within_the_model_is_named_and_the_way_out(keras: Any) -> None:
    inner = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)], name="inner")
    inputs = keras.Input((4,))
    with pytest.raises(ConversionError, match="`inner`") as caught:
        read_network(keras.Model(inputs, inner(inputs)))
    assert "flat_model" in caught.value.next_step


def test_a_subclassed_model_is_refused_with_the_way_out(keras: Any) -> None:
    class Own(keras.Model):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(name="own")
            self.dense = keras.layers.Dense(2)

        def call(self, inputs: Any) -> Any:
            return self.dense(inputs)

    model = Own()
    model(np.zeros((1, 3), np.float32))
    with pytest.raises(ConversionError, match="`own`") as caught:
        read_network(model)
    assert "`Own`" in caught.value.received
    assert "keras.Model(inputs, outputs)" in caught.value.next_step


def test_a_functional_model_that_computes_something_else_is_refused(keras: Any) -> None:
    class Twice(keras.Model):  # type: ignore[misc]
        def call(self, inputs: Any, training: Any = None, mask: Any = None) -> Any:
            return 2 * super().call(inputs, training=training, mask=mask)

    inputs = keras.Input((3,))
    with pytest.raises(ConversionError, match="code of its own"):
        read_network(Twice(inputs, keras.layers.Dense(2)(inputs)))


def test_a_sequential_model_without_an_input_is_refused(keras: Any) -> None:
    with pytest.raises(ConversionError, match="does not know its input") as caught:
        read_network(keras.Sequential([keras.layers.Dense(2)]))
    assert "keras.Input" in caught.value.next_step


def test_a_sequential_model_whose_layer_says_no_shape_is_refused(keras: Any) -> None:
    class Shapeless(keras.layers.Layer):  # type: ignore[misc]
        def call(self, inputs: Any) -> Any:
            raise NotImplementedError

    with pytest.raises(ConversionError, match="shapes inside") as caught:
        read_network(keras.Sequential([keras.Input((2,)), Shapeless()]))
    assert "compute_output_shape" in caught.value.next_step


def test_what_is_no_model_is_refused() -> None:
    with pytest.raises(ConversionError, match="no Keras 3 model"):
        read_network("model.keras")
