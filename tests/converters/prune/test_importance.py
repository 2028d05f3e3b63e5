"""Importances against loops over single weights, finite differences and exact Jacobians."""

from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from converters.errors import ConversionError, TrainingError
from converters.steps import Prune

pytestmark = pytest.mark.tensorflow


def step(importance: Any) -> Prune:
    return Prune(sparsity=0.5, importance=importance)


@pytest.fixture(scope="module")
def small(keras: Any) -> SimpleNamespace:
    """A flat model with a residual pair, a depthwise layer, BatchNormalization and Flatten; its groups; examples."""
    from converters.graph.channels import channel_groups
    from converters.graph.flat import flat_model
    from converters.train.batches import Examples

    layers = keras.layers
    random = np.random.default_rng(5)
    inputs = keras.Input((4, 4, 2))
    first = layers.Conv2D(4, 3, padding="same", activation="sigmoid", name="first")(inputs)
    second = layers.Conv2D(4, 1, use_bias=False, name="second")(first)
    second = layers.BatchNormalization(name="norm")(second)
    x = layers.Add()([first, second])
    x = layers.DepthwiseConv2D(3, name="depthwise")(x)
    x = layers.Conv2D(3, 1, activation="tanh", name="third")(x)
    x = layers.Flatten()(x)
    model = flat_model(keras.Model(inputs, layers.Dense(3, activation="softmax", name="head")(x)))
    model.set_weights([random.normal(0.2, 0.5, w.shape) ** (2 if "vari" in w.path else 1) for w in model.weights])
    data = Examples((random.normal(size=(12, 4, 4, 2)).astype(np.float32),), random.integers(0, 3, 12))
    groups = channel_groups(model)
    by_maker = {name: group for group in groups for name in group.name.split(" + ")}
    return SimpleNamespace(model=model, groups=groups, by_maker=by_maker, data=data)


def kernel(model: Any, name: str) -> Any:
    return np.asarray(model.get_layer(name).kernel, dtype=np.float64)


def scores_of(small: SimpleNamespace, importance: str, maker: str, **more: Any) -> Any:
    from converters.prune.importance import importances

    return importances(small.model, small.groups, step(importance), **more)[small.by_maker[maker].name]


def test_the_l1_norm_adds_up_the_relative_norms_of_all_kernels_that_make_the_channel(small: SimpleNamespace) -> None:
    expected = np.zeros(4)
    for name in ("first", "second"):
        values = kernel(small.model, name)
        by_hand = np.zeros(4)
        for place in np.ndindex(values.shape):
            by_hand[place[-1]] += abs(values[place])
        expected += by_hand / by_hand.mean()
    assert small.by_maker["first"] is small.by_maker["second"]
    np.testing.assert_allclose(scores_of(small, "l1", "first"), expected, rtol=1e-9)


def test_the_l2_norm_is_the_root_of_the_squares(small: SimpleNamespace) -> None:
    norms = [np.sqrt((kernel(small.model, name) ** 2).sum(axis=(0, 1, 2))) for name in ("first", "second")]
    expected = sum(one / one.mean() for one in norms)
    np.testing.assert_allclose(scores_of(small, "l2", "second"), expected, rtol=1e-9)


def test_the_scale_of_the_batch_normalization_counts_where_there_is_one(small: SimpleNamespace) -> None:
    gamma = np.abs(np.asarray(small.model.get_layer("norm").gamma))
    # Two layers make these channels.
    np.testing.assert_allclose(scores_of(small, "batchnorm", "first"), 2 * gamma / gamma.mean(), rtol=1e-6)


def test_a_group_without_batch_normalization_has_its_relative_l2_norm(small: SimpleNamespace) -> None:
    norms = np.sqrt((kernel(small.model, "third") ** 2).sum(axis=(0, 1, 2)))
    np.testing.assert_allclose(scores_of(small, "batchnorm", "third"), norms / norms.mean(), rtol=1e-9)


def test_norms_do_not_care_how_large_a_layer_is_as_a_whole(keras: Any, small: SimpleNamespace) -> None:
    from converters.prune.importance import importances

    larger = keras.models.clone_model(small.model)
    larger.set_weights(small.model.get_weights())
    larger.get_layer("third").kernel.assign(100 * larger.get_layer("third").kernel)
    for importance in ("l1", "l2"):
        usual = importances(small.model, small.groups, step(importance))
        scaled = importances(larger, small.groups, step(importance))
        for name, scores in usual.items():
            np.testing.assert_allclose(scaled[name], scores, rtol=1e-5)


def by_differences(keras: Any, small: SimpleNamespace, readers: list[tuple[str, Any]]) -> float:
    """Return the slope of the mean loss as the weights that read one channel are scaled down to zero."""
    changed = keras.models.clone_model(small.model)
    losses = []
    for scale in (1 + 1e-2, 1 - 1e-2):
        changed.set_weights(small.model.get_weights())
        for name, places in readers:
            values = kernel(changed, name)
            values[places] *= scale
            changed.get_layer(name).kernel.assign(values)
        answers = np.asarray(changed(small.data.inputs[0], training=False), np.float64)
        losses.append(-np.log(answers[np.arange(12), small.data.labels]).mean())
    return float((losses[0] - losses[1]) / 2e-2)


def test_taylor_is_the_squared_slope_of_the_loss_along_the_weights_that_read_the_channel(
    keras: Any, small: SimpleNamespace
) -> None:
    scores = scores_of(small, "taylor", "first", data=small.data)
    everything = slice(None)
    for channel in range(4):
        # `second` reads the channels too, and makes the same ones again.
        readers = [(name, (everything, everything, channel)) for name in ("second", "third")]
        assert scores[channel] == pytest.approx(by_differences(keras, small, readers) ** 2, rel=2e-2, abs=1e-8)


def test_taylor_counts_all_places_of_a_flattened_channel(keras: Any, small: SimpleNamespace) -> None:
    scores = scores_of(small, "taylor", "third", data=small.data)
    for channel in range(3):
        # 2 x 2 places of 3 channels, channels last: rows channel, channel + 3, channel + 6, channel + 9 of the head.
        slope = by_differences(keras, small, [("head", (slice(channel, None, 3),))])
        assert scores[channel] == pytest.approx(slope**2, rel=2e-2, abs=1e-8)


def exact_hessian(small: SimpleNamespace) -> Any:
    """Return half the diagonal of J^T J times the squared weights of `third`, summed by channel, mean over samples."""
    import tensorflow as tf

    layer = small.model.get_layer("third")
    total = np.zeros(3)
    for sample in small.data.inputs[0]:
        with tf.GradientTape(persistent=True) as tape:
            outputs = small.model(sample[None], training=False)
        jacobians = tape.jacobian(outputs, [layer.kernel.value, layer.bias.value], experimental_use_pfor=False)
        for jacobian, weight in zip(jacobians, layer.weights, strict=True):
            diagonal = (np.asarray(jacobian, np.float64)[0] ** 2).sum(axis=0)
            contribution = diagonal * np.asarray(weight, np.float64) ** 2 / 2
            total += contribution.reshape(-1, 3).sum(axis=0) / 12
    return total


def test_hessian_is_the_exact_one_when_the_vectors_run_through_all_signs(
    small: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    from converters.prune import importance

    # The mean of (J^T v)^2 over all 8 vectors of three signs is the diagonal of J^T J: mixed terms cancel.
    signs = itertools.cycle(itertools.product((-1.0, 1.0), repeat=3))
    monkeypatch.setattr(importance, "_signs", lambda *_: np.array([next(signs)], np.float32))
    monkeypatch.setattr(importance, "_HESSIAN_BATCH", 1)
    scores = scores_of(small, "hessian", "third", data=small.data)
    np.testing.assert_allclose(scores, exact_hessian(small), rtol=1e-4)


def test_hessian_with_random_signs_comes_near_the_exact_one(
    small: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    from converters.prune import importance

    monkeypatch.setattr(importance, "_RANDOM_VECTORS", 200)  # sqrt(2 / 200) is 10 % of deviation
    scores = scores_of(small, "hessian", "third", data=small.data)
    np.testing.assert_allclose(scores, exact_hessian(small), rtol=0.3)


def test_hessian_reads_no_labels(small: SimpleNamespace) -> None:
    from converters.train.batches import Examples

    others = Examples(small.data.inputs, np.full(12, 99))
    one, other = (scores_of(small, "hessian", "third", data=data) for data in (small.data, others))
    np.testing.assert_array_equal(one, other)


def test_batches_of_the_callers_own_give_the_scores_of_the_same_examples(small: SimpleNamespace) -> None:
    import tensorflow as tf

    own = tf.data.Dataset.from_tensor_slices((small.data.inputs[0], small.data.labels)).batch(12)
    one = scores_of(small, "taylor", "third", data=own)
    np.testing.assert_allclose(one, scores_of(small, "taylor", "third", data=small.data), rtol=1e-4)


@pytest.mark.parametrize("importance", ["taylor", "hessian"])
def test_what_is_measured_needs_data_and_says_so(small: SimpleNamespace, importance: str) -> None:
    with pytest.raises(ConversionError, match="measured on data") as caught:
        scores_of(small, importance, "first")
    assert "l2" in caught.value.next_step


def test_labels_that_the_model_has_no_class_for_are_refused(small: SimpleNamespace) -> None:
    from converters.train.batches import Examples

    with pytest.raises(TrainingError, match="class that the model has not"):
        scores_of(small, "taylor", "first", data=Examples(small.data.inputs, np.full(12, 7)))


def test_weights_that_are_not_finite_are_refused_by_name(keras: Any, small: SimpleNamespace) -> None:
    from converters.prune.importance import importances

    broken = keras.models.clone_model(small.model)
    broken.set_weights([np.full(w.shape, np.nan) for w in small.model.weights])
    with pytest.raises(ConversionError, match="cannot be ranked"):
        importances(broken, small.groups, step("l1"))


def test_scoring_leaves_the_model_as_it_was(small: SimpleNamespace) -> None:
    before = [weight.copy() for weight in small.model.get_weights()]
    scores_of(small, "taylor", "first", data=small.data)
    scores_of(small, "hessian", "first", data=small.data)
    for one, other in zip(before, small.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
