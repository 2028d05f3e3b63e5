"""The simulation against the file itself in the engines, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from converters.errors import ConversionError
from converters.tflite.process import ConverterProcess, ConvertRequest

pytestmark = pytest.mark.tensorflow


def branched(keras: Any) -> Any:
    """A small model with every kind of layer that the simulation knows."""
    layers = keras.layers
    keras.utils.set_random_seed(11)
    inputs = keras.Input((12, 12, 3), name="patch")
    first = layers.Conv2D(8, 3, padding="same", use_bias=False, name="stem")(inputs)
    first = layers.ReLU(max_value=6.0, name="stem_relu")(layers.BatchNormalization(name="stem_norm")(first))
    second = layers.DepthwiseConv2D(3, padding="same", name="depth")(layers.ZeroPadding2D(1)(first))
    second = layers.Dropout(0.3)(layers.Cropping2D(1)(second))
    merged = layers.Activation("relu", name="merged_relu")(layers.Add(name="merged")([first, second]))
    left = layers.SeparableConv2D(8, 3, padding="same", activation="relu", name="separable")(merged)
    right = layers.AveragePooling2D(2, name="mean")(layers.Conv2D(6, 1, name="right")(merged))
    joined = layers.Concatenate(name="joined")([layers.MaxPooling2D(2)(left), right])
    flat = layers.Flatten()(layers.Conv2D(8, 3, strides=2, activation="tanh", name="bent")(joined))
    return keras.Model(inputs, layers.Dense(5, activation="softmax", name="kinds")(flat))


@pytest.fixture(scope="module")
def made(keras: Any, converter: ConverterProcess, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """(standard model, ranges, path of the int8 file, 60 samples, what Keras itself answers)."""
    from converters.quantize.ranges import activation_ranges
    from converters.quantize.standard import standard_model

    folder = tmp_path_factory.mktemp("simulated")
    original = branched(keras)
    generator = np.random.default_rng(4)
    for layer in original.layers:
        # Weights as no training leaves them: channels of different size, biases, statistics that matter.
        layer.set_weights(
            [
                one * generator.uniform(0.3, 2, one.shape[-1]) + generator.uniform(0, 0.1, one.shape[-1])
                for one in layer.get_weights()
            ]
        )
    samples = generator.uniform(-1, 1, (60, 12, 12, 3)).astype(np.float32)
    samples[0, 0, 0] = (-1, 1, 0)
    model = standard_model(original)
    ranges = activation_ranges(model, samples, "minmax")
    model.save(folder / "model.keras")
    # Calibration that is far too narrow: whatever is right in the file comes from the ranges.
    np.save(folder / "samples.npy", samples[:5] / 4)
    converter.load(folder / "model.keras")
    request = ConvertRequest(folder / "int8.tflite", calibration=(folder / "samples.npy",), ranges=ranges)
    converter.convert(request)
    return model, ranges, request.output, samples, original.predict(samples, verbose=0)


def engine(path: Path, kernels: str) -> Any:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    resolver = {
        "xnnpack": OpResolverType.AUTO,
        "builtin": OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        "reference": OpResolverType.BUILTIN_REF,
    }[kernels]
    interpreter = Interpreter(str(path), experimental_op_resolver_type=resolver, num_threads=1)
    interpreter.allocate_tensors()
    return interpreter


def file_answers(path: Path, kernels: str, samples: Any) -> Any:
    interpreter = engine(path, kernels)
    (entry,), (end,) = interpreter.get_input_details(), interpreter.get_output_details()
    scale, zero = entry["quantization"]
    answers = []
    for sample in samples:
        stored = np.clip(np.floor(sample / np.float32(scale) + 0.5) + zero, -128, 127).astype(np.int8)
        interpreter.set_tensor(entry["index"], stored[None])
        interpreter.invoke()
        answers.append(interpreter.get_tensor(end["index"])[0])
    return np.stack(answers)


@pytest.mark.parametrize("kernels", ["xnnpack", "builtin", "reference"])
def test_the_simulation_answers_as_the_file_does_in_each_engine(made: Any, kernels: Any) -> None:
    from converters.quantize.simulate import simulate

    model, ranges, path, samples, _ = made
    simulated = np.round(simulate(model, ranges, kernels=kernels).predict(samples, verbose=0) * 256) - 128
    stored = file_answers(path, kernels, samples)
    assert len(np.unique(stored)) > 20  # answers that say something
    assert np.abs(simulated - stored).max() <= 2
    assert (simulated == stored).mean() >= 0.9


def test_the_file_has_the_ranges_that_were_asked_for_and_no_op_more(made: Any) -> None:
    _, ranges, path, _, _ = made
    interpreter = engine(path, "builtin")
    tensors = {one["index"]: one["quantization"] for one in interpreter.get_tensor_details()}
    ops = [(one["op_name"], tensors[one["outputs"][0]][0]) for one in interpreter._get_ops_details()]
    # ReLUs are in the kernels, the folded norm is gone, and nothing is requantized.
    assert sorted(name for name, _ in ops) == sorted(
        ["CONV_2D"] * 4
        + ["DEPTHWISE_CONV_2D"] * 2
        + ["PAD", "STRIDED_SLICE", "ADD", "MAX_POOL_2D", "AVERAGE_POOL_2D", "CONCATENATION", "TANH", "RESHAPE"]
        + ["FULLY_CONNECTED", "SOFTMAX"]
    )
    ends = {name: (low, high) for name, low, high in ranges}
    for name, op in (("stem_relu", 0), ("merged_relu", "ADD"), ("kinds_linear", "FULLY_CONNECTED")):
        scale = ops[op][1] if isinstance(op, int) else dict(ops)[op]
        assert scale == pytest.approx((ends[name][1] - ends[name][0]) / 255, rel=1e-6)
    (entry,) = interpreter.get_input_details()
    assert entry["quantization"][0] == pytest.approx(2 / 255, rel=1e-6)


def test_rounding_changes_the_answers_but_not_much(made: Any) -> None:
    from converters.quantize.simulate import simulate

    model, ranges, _, samples, wanted = made
    got = simulate(model, ranges).predict(samples, verbose=0)
    assert 1e-3 < np.abs(got - wanted).max() < 0.2


def test_a_simulation_leaves_the_model_as_it_is(made: Any) -> None:
    from converters.quantize.simulate import simulate

    model, ranges, _, samples, wanted = made
    simulate(model, ranges)
    assert model.predict(samples, verbose=0) == pytest.approx(wanted, abs=1e-5)


def test_one_layer_alone_is_rounded_where_only_it_is_asked_for(made: Any) -> None:
    from converters.quantize.simulate import simulate

    model, ranges, _, samples, wanted = made
    everything = np.abs(simulate(model, ranges).predict(samples, verbose=0) - wanted).mean()
    alone = np.abs(simulate(model, ranges, only={"right"}).predict(samples, verbose=0) - wanted).mean()
    nothing = np.abs(simulate(model, ranges, only=()).predict(samples, verbose=0) - wanted).max()
    assert nothing < 1e-5 < alone < everything


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda ranges: (*ranges, ("stm", 0.0, 1.0)), "no layer `stm`"),
        (lambda ranges: (*ranges, ("merged", 0.0, 1.0)), "no layer `merged`"),
        (lambda ranges: ranges[:-1], "Layers have no range"),
        (lambda ranges: ((ranges[0][0], 1.0, 2.0), *ranges[1:]), "is none"),
        (lambda ranges: ((ranges[0][0], 0.0, 0.0), *ranges[1:]), "is none"),
        (lambda ranges: ((ranges[0][0], 0.0, float("nan")), *ranges[1:]), "is none"),
        (lambda ranges: tuple((n, a, b * 2) if n == "right" else (n, a, b) for n, a, b in ranges), "shares its scale"),
    ],
    ids=["unknown", "inside a kernel", "missing", "without 0", "collapsed", "not finite", "against its neighbour"],
)
def test_ranges_that_no_file_can_have_are_refused(made: Any, change: Any, match: str) -> None:
    from converters.quantize.simulate import simulate

    model, ranges, _, _, _ = made
    with pytest.raises(ConversionError, match=match):
        simulate(model, change(ranges))


@pytest.mark.parametrize(
    ("rounding", "steps"),
    # Sums -3, 3, 5, -5 times 1/8 are -0.375, 0.375, 0.625, -0.625. Rounded twice they are first rounded to quarters,
    # halves away from zero: -0.5, 0.5, 0.75, -0.75.
    [("once", [0, 0, 1, -1]), ("twice, up", [0, 1, 1, -1]), ("twice, away", [-1, 1, 1, -1])],
)
def test_sums_are_rounded_as_each_engine_does_it(keras: Any, rounding: str, steps: list[int]) -> None:
    from converters.quantize.fake_layers import KernelScales, fake_layers

    dense = keras.layers.Dense(1, use_bias=False)
    dense.build((None, 1))
    dense.set_weights([np.ones((1, 1), np.float32)])
    scales = KernelScales(0.5, 2.0, np.array([0.125]))
    kernel = fake_layers().integer_kernel(dense, scales, rounding, keras.activations.linear)
    sums = np.array([[-3], [3], [5], [-5]], np.float32)
    assert np.asarray(kernel(sums * 0.5)).ravel().tolist() == [2.0 * one for one in steps]


@pytest.mark.parametrize(
    ("kind", "shape", "axis"),
    [("Conv2D", (3, 3, 2, 4), 3), ("DepthwiseConv2D", (3, 3, 2, 1), 2), ("Dense", (6, 5), 1)],
)
def test_kernels_are_stored_per_output_channel_with_halves_away_from_zero(kind: str, shape: Any, axis: int) -> None:
    from converters.quantize.fake_layers import stored_kernel

    kernel = np.zeros(shape, np.float32)
    channel = [slice(None)] * len(shape)
    for number in range(shape[axis]):
        channel[axis] = slice(number, number + 1)
        part = kernel[tuple(channel)].reshape(-1)
        part[:5] = np.array([127, 2.5, -2.5, 1.49, -127]) * 2.0**-number
        kernel[tuple(channel)] = part.reshape(kernel[tuple(channel)].shape)
    steps, scale = stored_kernel(kernel, kind)
    # By hand: the largest weight is 127 steps of 2 ** -number.
    assert scale.reshape(-1) == pytest.approx(2.0 ** -np.arange(shape[axis]))
    by_channel = np.moveaxis(steps, axis, 0).reshape(shape[axis], -1)
    assert (by_channel[:, :5] == [127, 3, -3, 1, -127]).all()


def test_a_channel_of_zeros_has_a_scale_above_zero() -> None:
    from converters.quantize.fake_layers import stored_kernel

    steps, scale = stored_kernel(np.zeros((1, 1, 2, 3), np.float32), "Conv2D")
    assert not steps.any()
    # What TensorFlow 2.21 writes into the file: 1e-6 over 254 steps.
    assert scale.reshape(-1) == pytest.approx([1e-6 / 254] * 3)
