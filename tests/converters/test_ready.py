"""The last work on the Keras model before the converter."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import colours
import numpy as np
import pytest

from converters.compress import open_workshop
from converters.ready import ready_for_int8
from converters.recipe import Fit, Quantize, Recipe
from converters.stages import Stage
from converters.train.batches import Examples

pytestmark = pytest.mark.tensorflow


def ready(model: Any, step: Quantize, folder: Path, samples: Any = None) -> Stage:
    folder.mkdir(exist_ok=True)
    x, y = colours.pictures(96, 5)
    recipe = Recipe((step,), fit=Fit(batch_size=32))
    work, first = open_workshop(model, recipe, Examples((x,), y), None, folder, None)
    return ready_for_int8(work, 0, [first], colours.floats(40) if samples is None else samples)


def answers(keras: Any, path: Path) -> Any:
    return keras.models.load_model(path, compile=False).predict(colours.floats(20, seed=9), verbose=0)


def test_equalizing_folds_and_changes_no_answer(keras: Any, colour_model: Path, tmp_path: Path) -> None:
    stage = ready(colour_model, Quantize(equalize=True), tmp_path / "work")
    assert stage.path.name == "1-ready-for-int8.keras"
    assert (stage.step, stage.ranges) == ("quantize", ())
    assert stage.notes[0].startswith("equalized the channels of ")
    assert all(note.startswith("not equalized: ") for note in stage.notes[1:])
    made = keras.models.load_model(stage.path)
    assert not [layer for layer in made.layers if type(layer).__name__ == "BatchNormalization"]
    assert answers(keras, stage.path) == pytest.approx(answers(keras, colour_model), abs=1e-3)


def test_ranges_are_chosen_from_the_samples(keras: Any, colour_model: Path, tmp_path: Path) -> None:
    percentile = ready(colour_model, Quantize(ranges="percentile"), tmp_path / "a")
    assert percentile.notes == ("ranges chosen by percentile",)
    assert len(percentile.ranges) >= 4
    assert all(low <= 0 <= high and low < high for _, low, high in percentile.ranges)
    narrow = ready(colour_model, Quantize(ranges="percentile"), tmp_path / "b", samples=colours.floats(40) / 8)
    assert narrow.ranges != percentile.ranges


def test_biases_are_corrected_with_the_samples(keras: Any, colour_model: Path, tmp_path: Path) -> None:
    plain = ready(colour_model, Quantize(equalize=True), tmp_path / "a")
    stage = ready(colour_model, Quantize(equalize=True, correct_bias=True), tmp_path / "b")
    assert stage.notes == (*plain.notes, "biases corrected")
    first, second = (keras.models.load_model(one.path) for one in (plain, stage))
    assert np.array_equal(first.get_layer("one").kernel, second.get_layer("one").kernel)
    assert not np.array_equal(first.get_layer("one").bias, second.get_layer("one").bias)


def test_training_for_int8_leaves_a_plain_model_and_ranges(keras: Any, colour_model: Path, tmp_path: Path) -> None:
    stage = ready(colour_model, Quantize(epochs=1), tmp_path / "work")
    assert stage.notes[0].startswith("trained for int8")
    assert len(stage.ranges) >= 4
    made = keras.models.load_model(stage.path)
    assert all(type(layer).__module__.startswith("keras.") for layer in made.layers)
    assert (answers(keras, stage.path).argmax(axis=1) == colours.pictures(20, 9)[1]).all()


def test_it_is_taken_from_a_former_run_where_step_and_samples_are_the_same(
    keras: Any, colour_model: Path, tmp_path: Path
) -> None:
    folder, step = tmp_path / "work", Quantize(ranges="mse")
    first = ready(colour_model, step, folder)
    again = ready(colour_model, step, folder)
    assert again == replace(first, notes=(*first.notes, "taken from a former run"))
    for other in (
        ready(colour_model, step, folder, samples=colours.floats(40, seed=5)),
        ready(colour_model, replace(step, equalize=True), folder),
    ):
        assert "taken from a former run" not in other.notes
