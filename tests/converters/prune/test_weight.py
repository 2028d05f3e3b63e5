"""Single zeros: how many, which, that they survive training, and that they survive int8."""

from __future__ import annotations

import gzip
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from converters.errors import ConversionError, RecipeError
from converters.prune.weight import WeightPlan, mask_callback, prune_weights, sparsity_of, weight_plan
from converters.steps import Prune

pytestmark = pytest.mark.tensorflow
Train = Callable[[Any, Sequence[Any]], None]
SAMPLES, BATCH = 64, 8


@pytest.fixture
def network(keras: Any) -> Any:
    """(8, 8, 3) through "stem", "depthwise", "wide", "pointwise" to "last"; kernels of different scale."""
    layers = keras.layers
    keras.utils.set_random_seed(5)
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(8, 3, padding="same", activation="relu", name="stem")(inputs)
    x = layers.BatchNormalization(name="scale")(layers.DepthwiseConv2D(3, name="depthwise")(x))
    x = layers.Conv2D(16, 3, activation="relu", name="wide")(x)
    x = layers.SeparableConv2D(8, 3, activation="relu", name="pointwise")(x)
    outputs = layers.Dense(4, activation="softmax", name="last")(layers.GlobalAveragePooling2D()(x))
    return keras.Model(inputs, outputs)


def unused(model: Any, callbacks: Sequence[Any]) -> None:
    raise AssertionError("one-shot pruning must not train")


def one_shot(model: Any, step: Prune, seed: int = 0) -> Any:
    return prune_weights(model, step, train=unused, steps_total=1, seed=seed)


def labelled() -> tuple[Any, Any]:
    random = np.random.default_rng(1)
    return random.normal(size=(SAMPLES, 8, 8, 3)).astype(np.float32), random.integers(0, 4, SAMPLES)


def trained(model: Any, callbacks: Sequence[Any], *, epochs: int = 2, **compiled: Any) -> None:
    model.compile("adam", "sparse_categorical_crossentropy", **compiled)
    model.fit(*labelled(), batch_size=BATCH, epochs=epochs, callbacks=list(callbacks), verbose=0, shuffle=False)


def kernels(model: Any) -> dict[str, Any]:
    """Return the kernels that can go, by layer."""
    names = ("stem", "wide", "last")
    found = {name: np.asarray(model.get_layer(name).kernel) for name in names}
    return {**found, "pointwise": np.asarray(model.get_layer("pointwise").pointwise_kernel)}


def zeros(model: Any) -> dict[str, int]:
    return {name: int(np.count_nonzero(kernel == 0)) for name, kernel in kernels(model).items()}


def test_one_shot_by_layer_leaves_the_largest_weights_of_every_kernel_as_they_were(network: Any) -> None:
    before = kernels(network)
    after = kernels(one_shot(network, Prune("weight", sparsity=0.75, scope="layer")))
    for name, kernel in before.items():
        threshold = np.sort(np.abs(kernel).ravel())[round(0.75 * kernel.size)]
        assert np.array_equal(after[name], np.where(np.abs(kernel) >= threshold, kernel, 0))


def test_one_shot_over_all_layers_has_one_threshold(network: Any) -> None:
    before = kernels(network)
    after = kernels(one_shot(network, Prune("weight", sparsity=0.5, scope="global")))
    together = np.sort(np.concatenate([np.abs(kernel).ravel() for kernel in before.values()]))
    threshold = together[round(0.5 * together.size)]
    for name, kernel in before.items():
        assert np.array_equal(after[name], np.where(np.abs(kernel) >= threshold, kernel, 0))
    shares = {name: np.mean(kernel == 0) for name, kernel in after.items()}
    assert max(shares.values()) - min(shares.values()) > 0.1


def test_everything_but_the_kernels_and_the_given_model_stay_as_they_were(network: Any) -> None:
    before = [np.array(one) for one in network.get_weights()]
    pruned = one_shot(network, Prune("weight", sparsity=0.9, scope="layer"))
    for one, other in zip(before, network.get_weights(), strict=True):
        assert np.array_equal(one, other)
    changed = {
        f"{layer.name}/{variable.name}"
        for layer in pruned.layers
        for variable, old in zip(layer.weights, network.get_layer(layer.name).weights, strict=True)
        if not np.array_equal(np.asarray(variable), np.asarray(old))
    }
    assert changed == {"stem/kernel", "wide/kernel", "pointwise/pointwise_kernel", "last/kernel"}


def test_two_of_four_leaves_out_the_layer_whose_input_is_no_multiple_and_says_so(network: Any) -> None:
    step = Prune("weight", pattern="2:4")
    (note,) = weight_plan(network, step).notes
    assert "`stem` keeps all its weights: 3 input channels" in note
    pruned = one_shot(network, step)
    # stem 3*3*3*8, wide 3*3*8*16, pointwise 16*8, last 8*4
    assert zeros(pruned) == {"stem": 0, "wide": 576, "pointwise": 64, "last": 16}
    wide = kernels(pruned)["wide"].reshape(9, 2, 4, 16)
    assert (np.count_nonzero(wide, axis=2) == 2).all()


def test_a_layers_own_share_beats_sparsity_and_pattern_and_skip_beats_both(network: Any) -> None:
    own = Prune("weight", sparsity=0.5, scope="layer", layers={"w*": 0.25, "last": 0.0}, skip=("stem",))
    assert zeros(one_shot(network, own)) == {"stem": 0, "wide": 288, "pointwise": 64, "last": 0}
    pattern = Prune("weight", pattern="1:4", layers={"wide": 0.25})
    assert zeros(one_shot(network, pattern)) == {"stem": 0, "wide": 288, "pointwise": 96, "last": 24}
    alone = Prune("weight", layers={"wide": 0.25})
    assert zeros(one_shot(network, alone)) == {"stem": 0, "wide": 288, "pointwise": 0, "last": 0}


def test_a_wrapped_layer_is_known_by_the_wrappers_name(keras: Any) -> None:
    layers = keras.layers
    model = keras.Sequential(
        [keras.Input((4, 8)), layers.TimeDistributed(layers.Dense(8), name="each"), layers.Dense(4, name="end")]
    )
    sparsity = sparsity_of(one_shot(model, Prune("weight", sparsity=0.5, skip=("each",))))
    assert [one.zeros for one in sparsity.layers] == [0, 16]


def test_a_nested_model_is_refused_with_the_way_out(keras: Any) -> None:
    inner = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4)])
    with pytest.raises(ConversionError, match="flat"):
        one_shot(keras.Sequential([keras.Input((4,)), inner]), Prune("weight", sparsity=0.5))


@pytest.mark.parametrize(
    ("step", "said"),
    [
        (Prune("channel", sparsity=0.5), 'structure="channel"'),
        (Prune("weight", sparsity=0.5, skip=("lst",)), "Did you mean `last`"),
        (Prune("weight", sparsity=0.5, layers={"wid": 0.1}), "Did you mean `wide`"),
        (Prune("weight", sparsity=0.5, layers={"depthwise": 0.1}), "matches no layer whose weights can be pruned"),
        (Prune("weight", sparsity=0.5, skip=("*",)), "no weight that this step could prune"),
        (Prune("weight", layers={"wide": 0.0}), "no weight that this step could prune"),
        (Prune("weight", pattern="3:5"), "`wide` keeps all its weights: 8 input channels are no multiple of 5"),
    ],
    ids=["channel", "skip", "layers", "depthwise", "all", "none", "pattern"],
)
def test_a_step_that_cannot_be_done_is_refused(network: Any, step: Prune, said: str) -> None:
    with pytest.raises(RecipeError) as caught:
        one_shot(network, step)
    assert said in str(caught.value)


@pytest.mark.parametrize(("steps_total", "seed"), [(0, 0), (10, -1), (10, 1.5)])
def test_numbers_that_make_no_sense_are_refused(network: Any, steps_total: int, seed: int) -> None:
    with pytest.raises(RecipeError, match=r"steps_total|seed"):
        prune_weights(
            network, Prune("weight", sparsity=0.5, epochs=1), train=unused, steps_total=steps_total, seed=seed
        )


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused(network: Any, value: float) -> None:
    kernel = np.array(network.get_layer("wide").kernel)
    kernel[0, 0, 0, 0] = value
    network.get_layer("wide").kernel.assign(kernel)
    with pytest.raises(ConversionError, match="`wide` cannot be ranked"):
        one_shot(network, Prune("weight", sparsity=0.5))


def test_training_that_diverges_is_refused_instead_of_handing_out_nan(network: Any) -> None:
    def diverge(model: Any, callbacks: Sequence[Any]) -> None:
        trained(model, callbacks)
        model.get_layer("last").kernel.assign(np.full((8, 4), np.nan))

    with pytest.raises(ConversionError, match="NaN or infinity after the training"):
        prune_weights(network, Prune("weight", sparsity=0.5, epochs=2), train=diverge, steps_total=16, seed=0)


@pytest.mark.parametrize(
    "step",
    [
        Prune("weight", sparsity=0.8, scope="layer", schedule="constant", epochs=2),
        Prune("weight", pattern="2:4", epochs=2),
    ],
    ids=["constant", "pattern"],
)
def test_zeros_are_there_from_the_first_step_and_adam_revives_none(network: Any, keras: Any, step: Prune) -> None:
    at_once = {name: kernel != 0 for name, kernel in kernels(one_shot(network, replace(step, epochs=0))).items()}
    seen: list[bool] = []

    def train(model: Any, callbacks: Sequence[Any]) -> None:
        def look(*_: object, **__: object) -> None:
            seen.append(all(not kernels(model)[name][~stays].any() for name, stays in at_once.items()))

        trained(model, [*callbacks, keras.callbacks.LambdaCallback(on_train_batch_begin=look, on_train_end=look)])

    pruned = prune_weights(network, step, train=train, steps_total=16, seed=0)
    assert seen == [True] * 17
    after = kernels(pruned)
    for name, stays in at_once.items():
        assert np.array_equal(after[name] != 0, stays)
        assert not np.allclose(after[name], kernels(network)[name] * stays, atol=1e-4)


def test_the_polynomial_schedule_takes_the_papers_share_after_every_step(network: Any, keras: Any) -> None:
    counts: list[int] = []

    def train(model: Any, callbacks: Sequence[Any]) -> None:
        def look(*_: object, **__: object) -> None:
            counts.append(zeros(model)["wide"])

        trained(model, [*callbacks, keras.callbacks.LambdaCallback(on_train_batch_end=look)])

    step = Prune("weight", sparsity=0.8, scope="layer", epochs=2)
    prune_weights(network, step, train=train, steps_total=16, seed=0)
    # 16 steps end the curve at 12; 1152 weights.
    wanted = [round(1152 * 0.8 * (1 - (1 - min(t, 12) / 12) ** 3)) for t in range(1, 17)]
    assert counts == wanted


def test_several_steps_in_one_call_of_keras_count_as_so_many(network: Any, caplog: pytest.LogCaptureFixture) -> None:
    def train(model: Any, callbacks: Sequence[Any]) -> None:
        trained(model, callbacks, steps_per_execution=4)
        assert zeros(model)["wide"] == round(0.8 * 1152)

    step = Prune("weight", sparsity=0.8, scope="layer", epochs=2)
    prune_weights(network, step, train=train, steps_total=16, seed=0)
    assert not caplog.records


def test_training_that_ends_early_is_pruned_to_the_exact_share_and_reported(
    network: Any, caplog: pytest.LogCaptureFixture
) -> None:
    step = Prune("weight", sparsity=0.8, scope="layer", epochs=2)
    with caplog.at_level(logging.WARNING):
        pruned = prune_weights(network, step, train=trained, steps_total=1000, seed=0)
    assert zeros(pruned)["wide"] == round(0.8 * 1152)
    assert "fewer than 1000 steps" in caplog.text


def test_the_same_seed_makes_the_same_model(network: Any, keras: Any) -> None:
    step = Prune("weight", sparsity=0.8, epochs=2)
    first, again = (prune_weights(network, step, train=trained, steps_total=16, seed=3) for _ in range(2))
    for one, other in zip(first.get_weights(), again.get_weights(), strict=True):
        assert np.array_equal(one, other)


def test_a_second_pruning_goes_on_from_the_zeros_of_the_first(network: Any) -> None:
    first = one_shot(network, Prune("weight", sparsity=0.5))
    second = one_shot(first, Prune("weight", sparsity=0.7))
    assert all((kernels(second)[name][kernel == 0] == 0).all() for name, kernel in kernels(first).items())
    assert sparsity_of(second).total == pytest.approx(0.7, abs=1e-3)


def test_later_training_revives_the_zeros_unless_the_callback_holds_them(network: Any) -> None:
    pruned = one_shot(network, Prune("weight", sparsity=0.8, scope="layer", skip=("last",)))
    wanted = {name: kernel == 0 for name, kernel in kernels(pruned).items()}
    biases = np.asarray(pruned.get_layer("last").bias)
    assert not biases.any()
    trained(pruned, [mask_callback(pruned)])
    assert all(np.array_equal(kernel == 0, wanted[name]) for name, kernel in kernels(pruned).items())
    assert np.asarray(pruned.get_layer("last").bias).all()
    trained(pruned, [])
    assert zeros(pruned)["wide"] < 10


def test_the_callback_holds_nothing_in_a_model_without_zeros(network: Any) -> None:
    trained(network, [mask_callback(network)])
    assert sparsity_of(network).zeros == 0


def test_a_plan_is_a_value(network: Any) -> None:
    step = Prune("weight", sparsity=0.5)
    assert weight_plan(network, step) == weight_plan(network, step)
    assert isinstance(weight_plan(network, step), WeightPlan)


def test_zeros_are_zeros_in_the_int8_file_and_make_it_pack_better(network: Any, converter: Any, tmp_path: Path) -> None:
    from ai_edge_litert.interpreter import Interpreter

    from converters.tflite.process import ConvertRequest

    pruned = one_shot(network, Prune("weight", sparsity=0.8, scope="layer"))
    # A channel of nothing but zeros has no range to take a scale from.
    kernel = np.array(pruned.get_layer("wide").kernel)
    kernel[..., 5] = 0
    pruned.get_layer("wide").kernel.assign(kernel)
    np.save(tmp_path / "samples.npy", labelled()[0])
    files = {}
    for name, model in (("dense", network), ("sparse", pruned)):
        model.save(tmp_path / f"{name}.keras")
        converter.load(tmp_path / f"{name}.keras")
        request = ConvertRequest(tmp_path / f"{name}.tflite", calibration=(tmp_path / "samples.npy",))
        files[name] = converter.convert(request).output
    interpreter = Interpreter(str(files["sparse"]))
    interpreter.allocate_tensors()
    tensors = interpreter.get_tensor_details()
    stored = {tuple(one["shape"]): one for one in tensors if one["dtype"] == np.int8 and len(one["shape"]) in (2, 4)}
    for name, shape in (
        ("stem", (8, 3, 3, 3)),
        ("wide", (16, 3, 3, 8)),
        ("pointwise", (8, 1, 1, 16)),
        ("last", (4, 8)),
    ):
        assert not stored[shape]["quantization_parameters"]["zero_points"].any()
        assert np.isfinite(stored[shape]["quantization_parameters"]["scales"]).all()
        # Keras has the output channels last, TFLite first.
        wanted = np.moveaxis(kernels(pruned)[name], -1, 0) == 0
        assert (interpreter.get_tensor(stored[shape]["index"])[wanted] == 0).all()
    sizes = {name: len(gzip.compress(path.read_bytes(), 9)) for name, path in files.items()}
    assert sizes["sparse"] < sizes["dense"] - 500
