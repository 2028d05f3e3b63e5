"""Quantization-aware training: what it trains, what it leaves, and that the file is what was trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from converters.errors import RecipeError, TrainingError
from converters.steps import Fit, Quantize
from converters.tflite.process import ConverterProcess, ConvertRequest

pytestmark = pytest.mark.tensorflow


def stripes(count: int, seed: int) -> tuple[Any, Any]:
    """Pictures (n, 8, 8, 1) uint8 of stripes: 0 upright, 1 lying, 2 none."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 3, count)
    wave = np.where(np.arange(8) % 4 < 2, 60, 190)
    pictures = np.stack([np.tile(wave, (8, 1)), np.tile(wave[:, None], (1, 8)), np.full((8, 8), 128)])[labels]
    noisy = np.clip(pictures + generator.normal(0, 45, pictures.shape), 20, 235)
    return noisy[..., None].astype(np.uint8), labels


def model_of(keras: Any) -> Any:
    keras.utils.set_random_seed(2)
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((8, 8, 1), name="photo"),
            layers.Rescaling(1 / 127.5, offset=-1.0, name="to_range"),
            layers.Conv2D(8, 3, padding="same", use_bias=False, name="stem"),
            layers.BatchNormalization(),
            layers.ReLU(name="stem_relu"),
            layers.AveragePooling2D(2),
            layers.Conv2D(8, 3, activation="relu", name="next"),
            layers.Flatten(),
            layers.Dense(3, activation="softmax", name="kinds"),
        ]
    )


@pytest.fixture(scope="module")
def original(keras: Any) -> Any:
    model = model_of(keras)
    inputs, labels = stripes(600, 0)
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    model.fit(inputs.astype(np.float32), labels, epochs=3, batch_size=32, verbose=0)
    return model


def train(model: Any, data: Any, epochs: int = 2, learning_rate: float = 1e-3) -> Any:
    from converters.quantize.aware import train_aware

    return train_aware(
        model, Quantize(epochs=epochs, learning_rate=learning_rate), data, fit=Fit(batch_size=32), seed=1
    )


@pytest.fixture(scope="module")
def examples() -> Any:
    from converters.train.batches import Examples

    inputs, labels = stripes(600, 0)
    return Examples((inputs,), labels)


@pytest.fixture(scope="module")
def aware(original: Any, examples: Any) -> Any:
    return train(original, examples)


def test_what_is_left_is_a_plain_model_without_batch_norm(aware: Any) -> None:
    assert [type(layer).__name__ for layer in aware.model.layers] == [
        "InputLayer",
        "Rescaling",
        "Conv2D",
        "ReLU",
        "AveragePooling2D",
        "Conv2D",
        "Flatten",
        "Dense",
        "Activation",
    ]
    assert all(type(layer).__module__.startswith("keras.") for layer in aware.model.layers)
    assert all(layer.trainable for layer in aware.model.layers)
    assert aware.notes == ()


def test_ranges_hold_zero_and_that_of_pixels_is_the_whole_one(aware: Any) -> None:
    ends = {name: (low, high) for name, low, high in aware.ranges}
    assert list(ends) == ["to_range", "stem_relu", "next", "kinds_linear"]
    # 0..255 behind / 127.5 - 1, though the samples hold 20..235 only.
    assert ends["to_range"] == pytest.approx((-1.0, 1.0))
    assert all(low <= 0 < high for low, high in ends.values())


def test_training_moves_the_weights_and_both_ends_of_the_ranges(original: Any, aware: Any) -> None:
    from converters.quantize.ranges import activation_ranges
    from converters.quantize.standard import standard_model

    before = standard_model(original)
    inputs = stripes(600, 0)[0][:200].astype(np.float32)
    measured = {name: ends for name, *ends in activation_ranges(before, inputs, "minmax")}
    learned = {name: ends for name, *ends in aware.ranges}
    assert learned["kinds_linear"][0] != measured["kinds_linear"][0]
    assert learned["kinds_linear"][1] != measured["kinds_linear"][1]
    for name in learned:
        assert learned[name] == pytest.approx(measured[name], rel=0.3, abs=0.1)
    for one, other in zip(before.get_weights(), aware.model.get_weights(), strict=True):
        assert 0 < np.abs(one - other).max() < 0.5


def test_the_given_model_stays_as_it_is(keras: Any, original: Any, examples: Any) -> None:
    before = [one.copy() for one in original.get_weights()]
    train(original, examples, epochs=1)
    assert all(np.array_equal(one, other) for one, other in zip(before, original.get_weights(), strict=True))
    assert all(layer.trainable for layer in original.layers)


def test_the_same_seed_gives_the_same_model(original: Any, examples: Any, aware: Any) -> None:
    again = train(original, examples)
    assert again.ranges == aware.ranges
    assert all(
        np.array_equal(one, other)
        for one, other in zip(again.model.get_weights(), aware.model.get_weights(), strict=True)
    )


@pytest.mark.parametrize("kernels", ["xnnpack", "builtin"])
def test_the_int8_file_answers_as_the_simulation_of_what_was_trained(
    aware: Any, converter: ConverterProcess, tmp_path: Path, kernels: Any
) -> None:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    from converters.quantize.simulate import simulate

    aware.model.save(tmp_path / "model.keras")
    pixels = stripes(20, 5)[0]
    np.save(tmp_path / "pixels.npy", pixels)
    converter.load(tmp_path / "model.keras")
    converter.convert(
        ConvertRequest(
            tmp_path / "int8.tflite",
            calibration=(tmp_path / "pixels.npy",),
            normalization=(127.5, 127.5),
            ranges=aware.ranges,
        )
    )
    resolver = OpResolverType.AUTO if kernels == "xnnpack" else OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = Interpreter(str(tmp_path / "int8.tflite"), experimental_op_resolver_type=resolver)
    interpreter.allocate_tensors()
    (entry,), (end,) = interpreter.get_input_details(), interpreter.get_output_details()
    scale, zero = entry["quantization"]
    assert scale == pytest.approx(2 / 255, rel=1e-6)
    test = stripes(400, 9)[0]
    answers = []
    for picture in test:
        value = (picture.astype(np.float32) / np.float32(127.5) - 1) / np.float32(scale)
        interpreter.set_tensor(entry["index"], np.clip(np.floor(value + 0.5) + zero, -128, 127).astype(np.int8)[None])
        interpreter.invoke()
        answers.append(interpreter.get_tensor(end["index"])[0])
    simulated = simulate(aware.model, aware.ranges, kernels=kernels).predict(test.astype(np.float32), verbose=0)
    # Both take the first of equal answers.
    assert (np.argmax(answers, 1) == simulated.argmax(1)).mean() >= 0.995


def test_weights_that_were_pruned_stay_zero(original: Any, examples: Any) -> None:
    from converters.quantize.standard import standard_model

    model = standard_model(original)
    kernel, bias = model.get_layer("next").get_weights()
    kernel[:, :, ::2] = 0
    model.get_layer("next").set_weights([kernel, bias])
    trained = train(model, examples, epochs=1).model.get_layer("next").get_weights()[0]
    assert not trained[:, :, ::2].any()
    assert np.abs(trained - kernel).max() > 0


def test_training_makes_up_for_weights_that_rounding_has_hurt(original: Any, examples: Any) -> None:
    from converters.quantize.ranges import activation_ranges
    from converters.quantize.simulate import simulate
    from converters.quantize.standard import standard_model

    model = standard_model(original)
    kernel, bias = model.get_layer("kinds_linear").get_weights()
    # One far weight in each output channel leaves the others 0 or 1 of 127 steps.
    kernel[:3] += np.eye(3) * np.abs(kernel).max() * 100
    model.get_layer("kinds_linear").set_weights([kernel, bias])
    inputs, labels = stripes(300, 7)
    inputs = inputs.astype(np.float32)

    def right(one: Any, ranges: Any) -> float:
        return float((simulate(one, ranges).predict(inputs, verbose=0).argmax(1) == labels).mean())

    before = right(model, activation_ranges(model, inputs[:200], "minmax"))
    trained = train(model, examples, epochs=4, learning_rate=3e-3)
    assert right(trained.model, trained.ranges) > before + 0.1


def test_a_step_without_epochs_is_refused(original: Any, examples: Any) -> None:
    from converters.quantize.aware import train_aware

    with pytest.raises(RecipeError, match="no quantization-aware training"):
        train_aware(original, Quantize(), examples, fit=Fit(), seed=0)


def test_batches_of_the_callers_own_will_do(original: Any) -> None:
    inputs, labels = stripes(96, 3)
    data = [(inputs[i : i + 32].astype(np.float32), labels[i : i + 32]) for i in range(0, 96, 32)]
    import tensorflow as tf

    def own() -> Any:
        yield from data

    signature = (tf.TensorSpec((None, 8, 8, 1), tf.float32), tf.TensorSpec((None,), tf.int64))
    trained = train(original, tf.data.Dataset.from_generator(own, output_signature=signature), epochs=1)
    assert [name for name, _, _ in trained.ranges] == ["to_range", "stem_relu", "next", "kinds_linear"]
    with pytest.raises(TrainingError, match="nothing to train on"):
        train(original, tf.data.Dataset.from_tensor_slices(data[0]).take(0), epochs=1)


def test_a_loss_that_is_no_number_ends_the_training(original: Any) -> None:
    from converters.train.batches import Examples

    inputs, labels = stripes(300, 0)
    floats = inputs.astype(np.float32)
    floats[251] = np.nan  # between two of the 200 samples that the ranges start from: 250 and 252
    with pytest.raises(TrainingError):
        train(original, Examples((floats,), labels), epochs=1)


def test_the_first_ranges_come_from_samples_of_all_classes(keras: Any) -> None:
    from converters.quantize.aware import _first_samples
    from converters.steps import Fit
    from converters.train.batches import Examples

    sorted_by_class = Examples((np.repeat(np.arange(5, dtype=np.float32), 100)[:, None],), np.repeat(np.arange(5), 100))
    (found,) = _first_samples(sorted_by_class, 50, Fit())
    assert found.shape == (50, 1)
    assert set(found.ravel()) == {0, 1, 2, 3, 4}
