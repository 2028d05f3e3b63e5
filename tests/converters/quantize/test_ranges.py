"""Activation ranges: which tensors get one, and how far it reaches."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from converters.errors import CalibrationError, ConversionError
from converters.quantize.ranges import activation_ranges, narrowed, squared_error

BINS = 4096


def eight_bits(values: Any, low: float, high: float) -> Any:
    """Every value as an asymmetric 8-bit tensor of this range holds it, step by step from the definition."""
    scale = (high - low) / 255
    zero = round(-low / scale)
    stored = np.rint(np.asarray(values) / scale).astype(int) + zero
    stored[stored < 0] = 0
    stored[stored > 255] = 255
    return scale * (stored - zero)


def histogram(values: Any) -> tuple[Any, float, tuple[float, float]]:
    low, high = min(float(values.min()), 0.0), max(float(values.max()), 0.0)
    kept = values[values != 0]
    return np.histogram(kept, BINS, (low, high))[0].astype(float), float(values.size - kept.size), (low, high)


@settings(deadline=None)
@given(
    low=st.floats(-50, 0),
    high=st.floats(0.01, 50),
    values=st.lists(st.floats(-60, 60), min_size=1, max_size=20),
)
def test_the_squared_error_is_that_of_the_definition(low: float, high: float, values: list[float]) -> None:
    by_hand = sum((one - other) ** 2 for one, other in zip(values, eight_bits(values, low, high), strict=True))
    ours = squared_error(np.array(values), np.ones(len(values)), (low, high))
    assert ours == pytest.approx(by_hand, rel=1e-9, abs=1e-12)


def test_the_percentile_leaves_out_one_in_ten_thousand_at_either_end() -> None:
    values = np.random.default_rng(0).normal(size=200_000)
    low, high = narrowed(*histogram(values), kind="percentile")
    # Up to the width of a part of the histogram.
    width = (values.max() - values.min()) / BINS
    assert low == pytest.approx(np.quantile(values, 0.0001), abs=2 * width)
    assert high == pytest.approx(np.quantile(values, 0.9999), abs=2 * width)
    assert values.min() + 0.1 < low
    assert high < values.max() - 0.1


def test_one_value_far_out_does_not_stretch_a_percentile() -> None:
    values = np.abs(np.random.default_rng(1).normal(size=100_000))
    values[0] = 100.0
    low, high = narrowed(*histogram(values), kind="percentile")
    assert low == 0.0
    assert high == pytest.approx(np.quantile(values, 0.9999), abs=2 * 100 / BINS)


def test_zeros_count_among_the_values_of_a_percentile() -> None:
    # 1 of 20000 values is not 0: less than one in ten thousand, so it is left out.
    values = np.zeros(20_000)
    values[7] = 5.0
    assert narrowed(*histogram(values), kind="percentile")[1] <= 5.0 * (1 - 1 / BINS)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", ["normal", "laplace", "relu", "outlier"])
def test_mse_comes_close_to_the_best_range_that_brute_force_finds(kind: str, seed: int) -> None:
    random = np.random.default_rng(seed)
    values = {
        "normal": random.normal(size=3000),
        "laplace": random.laplace(size=3000) + 0.5,
        "relu": np.maximum(random.normal(size=3000), 0),
        "outlier": np.append(random.normal(size=2999), 25.0),
    }[kind]

    def cost(low: float, high: float) -> float:
        return float(np.square(values - eight_bits(values, low, high)).sum())

    low, high = min(values.min(), 0.0), max(values.max(), 0.0)
    grid = np.linspace(0.04, 1.0, 25)
    best = min(cost(low * one, high * other) for one in (grid if low < 0 else grid[:1]) for other in grid)
    assert cost(*narrowed(*histogram(values), kind="mse")) <= 1.03 * best
    assert cost(*narrowed(*histogram(values), kind="mse")) <= 1.001 * cost(low, high)


def test_mse_clips_what_lies_far_out_and_keeps_what_does_not() -> None:
    random = np.random.default_rng(3)
    flat = random.uniform(-1, 1, 5000)
    assert narrowed(*histogram(flat), kind="mse")[1] >= 0.95 * flat.max()
    # With steps of 45 / 255, rounding a million values costs 1e6 * 0.18^2 / 12 = 2600; cutting the one at 20 costs 400.
    stretched = np.append(random.normal(size=1_000_000), 40.0)
    assert 5 < narrowed(*histogram(stretched), kind="mse")[1] < 30


@settings(deadline=None)
@given(
    values=st.lists(st.floats(-10, 10, width=32), min_size=1, max_size=50),
    kind=st.sampled_from(["minmax", "percentile", "mse"]),
)
def test_a_range_holds_zero_and_stays_within_what_was_seen(values: list[float], kind: Any) -> None:
    counts, zeros, span = histogram(np.array(values))
    low, high = narrowed(counts, zeros, span, kind)
    assert span[0] <= low <= 0 <= high <= span[1]


@pytest.fixture(scope="module")
def network(keras: Any) -> Any:
    layers = keras.layers
    keras.utils.set_random_seed(4)
    inputs = keras.Input((8, 8, 3), name="photo")
    values = layers.Conv2D(4, 3, padding="same", name="stem")(inputs)
    values = layers.ReLU(name="stem_relu")(values)
    pooled = layers.MaxPooling2D(2, name="pool")(values)
    left = layers.Conv2D(4, 1, activation="relu", name="left")(pooled)
    right = layers.Conv2D(4, 1, name="right")(pooled)
    joined = layers.Concatenate(name="joined")([left, right])
    flat = layers.Dropout(0.5)(layers.Flatten(name="flat")(joined))
    return keras.Model(inputs, layers.Softmax(name="answer")(layers.Dense(3, name="logits")(flat)))


@pytest.fixture(scope="module")
def photos() -> Any:
    return np.random.default_rng(0).normal(size=(70, 8, 8, 3)).astype(np.float32)


@pytest.mark.tensorflow
def test_minmax_is_what_keras_itself_computes_with_zero(keras: Any, network: Any, photos: Any) -> None:
    ranges = {name: (low, high) for name, low, high in activation_ranges(network, photos, "minmax")}
    for name in ("stem_relu", "logits"):
        seen = np.asarray(keras.Model(network.inputs, network.get_layer(name).output)([photos]))
        assert ranges[name] == pytest.approx((min(float(seen.min()), 0), max(float(seen.max()), 0)), rel=1e-5)
    assert ranges["photo"] == pytest.approx((photos.min(), photos.max()))


@pytest.mark.tensorflow
def test_a_relu_has_the_range_of_both_and_fixed_or_moved_tensors_have_none(network: Any, photos: Any) -> None:
    names = [name for name, _, _ in activation_ranges(network, photos, "minmax")]
    # The stem's ReLU is computed by the stem; pooling, concatenation and flattening move; a softmax is 0..1 by itself.
    assert names == ["photo", "stem_relu", "left", "right", "logits"]


@pytest.mark.tensorflow
@pytest.mark.parametrize("kind", ["minmax", "percentile", "mse"])
def test_what_is_joined_has_one_range(network: Any, photos: Any, kind: Any) -> None:
    ranges = {name: (low, high) for name, low, high in activation_ranges(network, photos, kind)}
    assert ranges["left"] == ranges["right"]


@pytest.mark.tensorflow
@pytest.mark.parametrize("kind", ["percentile", "mse"])
def test_narrower_ranges_leave_the_input_alone(network: Any, photos: Any, kind: Any) -> None:
    far = photos**5
    wide = {name: span for name, *span in activation_ranges(network, far, "minmax")}
    narrow = {name: span for name, *span in activation_ranges(network, far, kind)}
    assert list(narrow) == list(wide)
    assert narrow["photo"] == wide["photo"]
    # So few values make the squared error of a clipped one too dear; what "mse" clips is told from histograms above.
    assert (narrow["stem_relu"][1] < wide["stem_relu"][1]) == (kind == "percentile")


@pytest.mark.tensorflow
def test_a_layer_that_is_called_twice_has_the_range_of_both_calls(keras: Any, photos: Any) -> None:
    inputs = keras.Input((2,), name="two")
    grow = keras.layers.Dense(2, use_bias=False, name="grow")
    model = keras.Model(inputs, grow(grow(inputs)))
    grow.set_weights([np.array([[3.0, 0.0], [0.0, 3.0]], np.float32)])
    ranges = activation_ranges(model, np.array([[1.0, -0.5]], np.float32), "minmax")
    assert ranges == (("two", -0.5, 1.0), ("grow", -4.5, 9.0))


@pytest.mark.tensorflow
def test_a_summand_has_its_own_range_and_not_that_of_the_sum(keras: Any) -> None:
    inputs = keras.Input((4, 4, 2), name="x")
    one, three = (keras.layers.Conv2D(2, 1, use_bias=False, name=name) for name in ("one", "three"))
    model = keras.Model(inputs, keras.layers.Add(name="sum")([one(inputs), three(inputs)]))
    for layer, factor in ((one, 1), (three, 3)):
        layer.set_weights([factor * np.eye(2, dtype=np.float32)[None, None]])
    samples = np.linspace(-1, 1, 64, dtype=np.float32).reshape(2, 4, 4, 2)
    ranges = {name: (low, high) for name, low, high in activation_ranges(model, samples, "minmax")}
    assert ranges["one"] == pytest.approx((-1, 1))
    assert ranges["three"] == pytest.approx((-3, 3))
    assert ranges["sum"] == pytest.approx((-4, 4))


@pytest.mark.tensorflow
def test_a_tensor_that_is_always_zero_gets_some_range(keras: Any) -> None:
    model = keras.Sequential([keras.Input((2,), name="two"), keras.layers.ReLU(name="dead")])
    ranges = activation_ranges(model, np.array([[-1.0, -0.5]], np.float32), "mse")
    assert [name for name, low, high in ranges if low < high and low <= 0 <= high] == ["two", "dead"]


@pytest.mark.tensorflow
def test_ranges_are_those_that_the_simulation_takes(network: Any, photos: Any) -> None:
    from converters.quantize.simulate import simulate

    for kind in ("minmax", "percentile", "mse"):
        twin = simulate(network, activation_ranges(network, photos, kind))
        assert np.abs(np.asarray(twin(photos)) - np.asarray(network(photos))).max() < 0.1


@pytest.mark.tensorflow
def test_what_cannot_be_is_refused(keras: Any, network: Any, photos: Any) -> None:
    with pytest.raises(ConversionError, match="not known"):
        activation_ranges(network, photos, "median")  # type: ignore[arg-type]
    with pytest.raises(CalibrationError, match="do not fit"):
        activation_ranges(network, photos[:, :4], "minmax")
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, name="broken")])
    model.layers[0].set_weights([np.full((2, 2), np.inf, np.float32), np.zeros(2, np.float32)])
    with pytest.raises(ConversionError, match="`broken` is not finite"):
        activation_ranges(model, np.ones((3, 2), np.float32), "minmax")


@pytest.mark.tensorflow
def test_several_inputs_have_one_array_each(keras: Any, small_models: dict[str, Any]) -> None:
    model = keras.models.load_model(small_models["two_inputs"])
    random = np.random.default_rng(0)
    samples = [random.normal(size=(5, *one.shape[1:])).astype(np.float32) for one in model.inputs]
    ranges = {name: span for name, *span in activation_ranges(model, samples, "minmax")}
    (convolution,) = [one.name for one in model.layers if "conv" in one.name]
    # The numbers go into the concatenation beside the convolution's output, so both have one range.
    assert ranges["ant"] == ranges[convolution]
    assert ranges["ant"][1] >= samples[1].max()
    assert ranges["zebra"] == pytest.approx([samples[0].min(), samples[0].max()])
    with pytest.raises(CalibrationError, match="different numbers of samples"):
        activation_ranges(model, [samples[0], samples[1][:3]], "minmax")
