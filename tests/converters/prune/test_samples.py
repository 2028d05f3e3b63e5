"""The part of the training data on which pruning measures."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from converters.errors import TrainingError

pytestmark = pytest.mark.tensorflow


@pytest.fixture(scope="module")
def two(keras: Any) -> Any:
    """A model with two inputs, "zebra" before "ant"."""
    layers = keras.layers
    zebra, ant = keras.Input((3,), name="zebra"), keras.Input((2,), name="ant")
    return keras.Model([zebra, ant], layers.Dense(2)(layers.Concatenate()([zebra, ant])))


@pytest.fixture(scope="module")
def one(keras: Any) -> Any:
    return keras.Sequential([keras.Input((2, 2, 1)), keras.layers.Flatten(), keras.layers.Dense(2)])


def drawn(model: Any, data: Any, count: int = 64, batch: int = 8) -> list[Any]:
    from converters.prune.samples import labelled_batches

    return list(labelled_batches(model, data, count, batch))


def test_data_that_lies_sorted_by_class_comes_from_all_classes_in_every_batch(one: Any) -> None:
    from converters.train.batches import Examples

    data = Examples((np.zeros((6000, 2, 2, 1), np.float32),), np.arange(6000) // 2000)
    found = drawn(one, data, 1024, 32)
    assert sum(len(labels) for _, labels in found) == 1024
    for _, labels in found:
        assert set(np.asarray(labels).tolist()) == {0, 1, 2}


def test_fewer_samples_than_asked_for_come_once_each(one: Any) -> None:
    from converters.train.batches import Examples

    found = drawn(one, Examples((np.zeros((11, 2, 2, 1), np.float32),), np.arange(11)))
    assert sorted(np.concatenate([np.asarray(labels) for _, labels in found]).tolist()) == list(range(11))


def test_pixels_are_normalized(one: Any) -> None:
    from converters.train.batches import Examples

    data = Examples((np.full((4, 2, 2, 1), 255, np.uint8),), np.zeros(4, np.int64), (127.5, 127.5))
    ((inputs,), _), *_ = drawn(one, data)
    np.testing.assert_allclose(inputs, 1.0)


def test_batches_by_input_name_come_in_the_models_order(two: Any) -> None:
    import tensorflow as tf

    named = {"ant": np.full((4, 2), 2.0, np.float32), "zebra": np.full((4, 3), 3.0, np.float32)}
    data = tf.data.Dataset.from_tensor_slices((named, np.zeros(4))).batch(4)
    ((zebra, ant), _), *_ = drawn(two, data)
    assert (zebra.shape, ant.shape) == ((4, 3), (4, 2))


def test_a_model_with_a_dict_of_inputs_is_fed_by_its_keys(keras: Any) -> None:
    from converters.prune.samples import model_outputs

    layers = keras.layers
    wide, narrow = keras.Input((3,), name="wide"), keras.Input((2,), name="narrow")
    joined = layers.Concatenate()([layers.Dense(1, name="of_wide")(wide), layers.Dense(1, name="of_narrow")(narrow)])
    model = keras.Model({"wide": wide, "narrow": narrow}, joined)
    batch = {"wide": np.ones((4, 3), np.float32), "narrow": np.full((4, 2), 2.0, np.float32)}
    ((inputs, _),) = drawn(model, [(batch, np.zeros(4))])
    np.testing.assert_allclose(model_outputs(model, inputs)[0], model(batch), rtol=1e-6)


def test_of_the_callers_own_batches_no_more_are_read_than_needed(one: Any) -> None:
    import tensorflow as tf

    data = tf.data.Dataset.from_tensor_slices((np.zeros((4, 2, 2, 1), np.float32), np.zeros(4))).batch(4).repeat()
    assert len(drawn(one, data, count=10)) == 3


def test_a_sequence_of_batches_has_an_end(keras: Any, one: Any) -> None:
    class Own(keras.utils.PyDataset):
        def __len__(self) -> int:
            return 2

        def __getitem__(self, number: int) -> Any:
            return np.full((4, 2, 2, 1), number, np.float32), np.zeros(4)

    found = drawn(one, Own(), count=100)
    assert [float(inputs[0][0, 0, 0, 0]) for inputs, _ in found] == [0.0, 1.0]


@pytest.mark.parametrize(
    "data",
    [[np.zeros((4, 2, 2, 1))], [], [({"other": np.zeros((4, 2))}, np.zeros(4))], [((1, 2, 3), np.zeros(4))]],
    ids=["no labels", "no batch", "other names", "too many inputs"],
)
def test_data_that_is_no_batches_for_this_model_is_refused(one: Any, data: Any) -> None:
    with pytest.raises(TrainingError):
        drawn(one, data)
