"""Block pruning: the branch whose absence the outputs notice least goes first."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from converters.errors import ConversionError, RecipeError
from converters.steps import Prune

pytestmark = pytest.mark.tensorflow

_SCALES = (1.0, 0.01, 0.3, 0.1)


@pytest.fixture(scope="module")
def model(keras: Any) -> Any:
    """Four residual branches, each with its last layer scaled by 1, 0.01, 0.3 and 0.1."""
    layers = keras.layers
    keras.utils.set_random_seed(4)
    inputs = keras.Input((4, 4, 3))
    x = layers.Conv2D(4, 1, name="stem")(inputs)
    for number in range(4):
        branch = layers.Conv2D(8, 3, padding="same", activation="relu", name=f"b{number}_wide")(x)
        branch = layers.Conv2D(4, 1, name=f"b{number}_back")(branch)
        x = layers.Add(name=f"b{number}_add")([x, branch])
    model = keras.Model(inputs, layers.Dense(3, name="head")(layers.GlobalAveragePooling2D()(x)), name="ladder")
    for number, scale in enumerate(_SCALES):
        layer = model.get_layer(f"b{number}_back")
        layer.kernel.assign(scale * layer.kernel)
    return model


@pytest.fixture(scope="module")
def data(keras: Any) -> Any:
    from converters.train.batches import Examples

    return Examples((np.random.default_rng(1).normal(size=(20, 4, 4, 3)).astype(np.float32),), np.zeros(20, np.int64))


BRANCH_MACS = 16 * (9 * 4 * 8 + 8 * 4)
WHOLE_MACS = 16 * 3 * 4 + 4 * BRANCH_MACS + 12


def pruned(model: Any, *, data: Any = None, tune: Any = None, **settings: Any) -> Any:
    from converters.prune.block import prune_blocks

    return prune_blocks(model, Prune(structure="block", **settings), data=data, tune=tune)


def left(result: Any) -> set[int]:
    names = {layer.name for layer in result.model.layers}
    return {number for number in range(4) if f"b{number}_wide" in names}


def test_a_block_is_worth_the_change_of_the_outputs_without_it(keras: Any, model: Any, data: Any) -> None:
    from converters.graph.blocks import residual_blocks
    from converters.graph.flat import flat_model
    from converters.prune.block import block_importances

    flat = flat_model(model)
    scores = block_importances(flat, residual_blocks(flat), data=data)
    silent = keras.models.clone_model(model)
    for number in range(4):
        silent.set_weights(model.get_weights())
        for weight in silent.get_layer(f"b{number}_back").weights:
            weight.assign(np.zeros(weight.shape))
        change = np.asarray(silent(data.inputs[0])) - np.asarray(model(data.inputs[0]))
        assert scores[f"b{number}_add"] == pytest.approx(float((change**2).mean()), rel=1e-4)


@pytest.mark.parametrize("with_data", [True, False], ids=["measured", "by weights"])
def test_the_least_important_blocks_go(model: Any, data: Any, with_data: bool) -> None:
    result = pruned(model, data=data if with_data else None, sparsity=0.5)
    assert left(result) == {0, 2}
    assert result.removed == {"b1_add": 1, "b3_add": 1}
    assert result.model.name == "ladder"
    assert any("ranked by their weights" in note for note in result.notes) is not with_data


def test_at_least_one_block_goes(model: Any) -> None:
    assert left(pruned(model, sparsity=0.05)) == {0, 2, 3}


def test_a_budget_takes_as_few_blocks_as_it_needs(model: Any, data: Any) -> None:
    from converters.graph.cost import costs

    assert costs(model).macs == WHOLE_MACS
    result = pruned(model, data=data, macs=0.76)
    assert left(result) == {0, 2, 3}
    assert costs(result.model).macs == WHOLE_MACS - BRANCH_MACS
    assert left(pruned(model, data=data, macs=0.74)) == {0, 2}


def test_a_block_that_need_not_have_gone_stays(keras: Any) -> None:
    layers = keras.layers
    inputs = keras.Input((4, 4, 4))
    small = layers.Conv2D(4, 1, kernel_initializer="zeros", name="small")(inputs)
    x = layers.Add(name="small_add")([inputs, small])
    large = layers.Conv2D(4, 3, padding="same", kernel_initializer="ones", name="large")(x)
    x = layers.Add(name="large_add")([x, large])
    model = keras.Model(inputs, layers.GlobalAveragePooling2D()(x))
    # 16 places: 256 and 2304 multiply-accumulates. The small one is worth nothing, but half is not had with it.
    assert pruned(model, macs=0.5).removed == {"large_add": 1}


def test_budgets_of_parameters_and_bytes_hold(model: Any, data: Any) -> None:
    from converters.graph.cost import costs

    branch, whole = (9 * 4 * 8 + 8) + (8 * 4 + 4), costs(model).parameters
    assert pruned(model, data=data, parameters=0.6).model.count_params() == whole - 2 * branch
    stored = 12 + 4 * 4 + 12 + 4 * 3 + 4 * (9 * 4 * 8 + 4 * 8 + 8 * 4 + 4 * 4)
    assert left(pruned(model, data=data, size_bytes=stored - 1)) == {0, 2, 3}


def test_rounds_take_the_same_number_in_the_end_and_train_after_each(model: Any, data: Any) -> None:
    seen = []

    def tune(live: Any, number: int) -> Any:
        seen.append((number, len([layer for layer in live.layers if layer.name.endswith("_wide")])))
        return live

    result = pruned(model, data=data, tune=tune, sparsity=0.5, rounds=2)
    assert seen == [(0, 3), (1, 2)]
    assert left(result) == {0, 2}


def test_skipped_blocks_stay_and_shares_by_layer_beat_the_sparsity(model: Any, data: Any) -> None:
    result = pruned(model, data=data, sparsity=0.3, skip=("b1_*",), layers={"b0_wide": 0, "b2_*": 0.9})
    assert left(result) == {0, 1}


def test_a_budget_out_of_reach_names_one_within_reach(model: Any, data: Any) -> None:
    with pytest.raises(RecipeError) as caught:
        pruned(model, data=data, macs=0.2, skip=("b0_*",))
    least = (WHOLE_MACS - 3 * BRANCH_MACS) / WHOLE_MACS
    reachable = float(caught.value.expected.removeprefix("at least "))
    assert least <= reachable < least + 0.002
    assert "b0_add" in caught.value.next_step
    assert left(pruned(model, data=data, macs=reachable, skip=("b0_*",))) == {0}


def test_a_model_without_residual_branches_is_refused(keras: Any) -> None:
    plain = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    with pytest.raises(ConversionError, match="No block"):
        pruned(plain, sparsity=0.5)


def test_a_pattern_that_matches_nothing_is_refused(model: Any) -> None:
    with pytest.raises(RecipeError, match="matches no layer"):
        pruned(model, sparsity=0.5, skip=("c0_*",))


def test_a_step_for_channels_is_refused(model: Any) -> None:
    from converters.prune.block import prune_blocks

    with pytest.raises(RecipeError, match="another step"):
        prune_blocks(model, Prune(sparsity=0.5))
