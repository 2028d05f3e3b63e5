"""The steps that change the Keras model: from disk to disk, each done once, and the same whenever it is done."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import colours
import numpy as np
import pytest
import tiny_models

from converters.compress import Workshop, advance, check_training, open_workshop, step_key, step_seed
from converters.errors import ConversionError, RecipeError, TrainingError
from converters.recipe import Distill, FineTune, Fit, Prune, Quantize, Recipe, Verify
from converters.stages import Stage
from converters.train.batches import Examples
from edgeinfer.errors import DamagedModelError, InputFileError
from edgeinfer.progress import Progress

FIT = Fit(batch_size=32)
THINNER = Prune(sparsity=0.5, align=4)
RECIPE = Recipe((replace(THINNER, epochs=1), Distill(epochs=1), Quantize()), fit=FIT)
NO_TRAINING = Recipe((THINNER, Prune("weight", sparsity=0.5), Quantize()), fit=FIT)
AGAIN = "taken from a former run"


def examples(count: int = 96, seed: int = 5) -> Examples:
    x, y = colours.pictures(count, seed)
    return Examples((x,), y)


@dataclass
class Work:
    """One run: what it was given, and the stages that it went through."""

    work: Workshop
    stages: list[Stage] = field(default_factory=list)

    def weights(self, keras: Any, number: int = -1) -> list[Any]:
        return colours.weights_of(keras, self.stages[number].path)

    def taken(self) -> list[bool]:
        return [AGAIN in stage.notes for stage in self.stages[1:]]


def go(model: Any, recipe: Recipe, folder: Path, **given: Any) -> Work:
    """Do all the training steps of a recipe."""
    folder.mkdir(exist_ok=True)
    data = given.get("data", examples())
    work, first = open_workshop(model, recipe, data, given.get("teacher"), folder, given.get("progress"))
    run = Work(work, [first])
    for place, _ in recipe.training:
        run.stages.append(advance(work, place, run.stages))
    return run


def same(one: list[Any], other: list[Any]) -> bool:
    return len(one) == len(other) and all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


# --- what a recipe needs --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ((FineTune(), Quantize()), "FineTune trains"),
        ((Prune(sparsity=0.5), Distill(), Quantize()), "Distill trains"),
        ((Prune(sparsity=0.5, epochs=1), Quantize()), "Prune trains"),
        ((Prune(sparsity=0.5, importance="taylor"), Quantize()), "Prune trains"),
        ((Quantize(epochs=1),), "Quantize trains"),
    ],
    ids=["FineTune", "Distill", "Prune", "taylor", "Quantize"],
)
def test_a_step_that_trains_needs_training_data(steps: Any, words: str) -> None:
    with pytest.raises(RecipeError, match=words) as caught:
        check_training(Recipe(steps), None, None)
    assert "--train" in caught.value.next_step
    assert caught.value.exit_code == 2
    check_training(Recipe(steps), "data", None)


def test_what_does_not_train_needs_no_training_data() -> None:
    check_training(Recipe((Prune(sparsity=0.5), Quantize(ranges="mse"))), None, None)
    check_training(Recipe.int8(), None, None)


@pytest.mark.parametrize("steps", [(Distill(), Quantize()), (FineTune(), Distill(), Prune(sparsity=0.5), Quantize())])
def test_a_model_that_is_still_whole_cannot_teach_itself(steps: Any, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="only teach itself") as caught:
        check_training(Recipe(steps), "data", None)
    assert "--teacher" in caught.value.next_step
    (tmp_path / "teacher.keras").touch()
    check_training(Recipe(steps), "data", tmp_path / "teacher.keras")


def test_a_teacher_whom_nobody_asks_is_refused() -> None:
    with pytest.raises(RecipeError, match="no step asks it"):
        check_training(Recipe((FineTune(), Quantize())), "data", "teacher.keras")


def test_a_teacher_that_is_not_there_is_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(InputFileError, match="teacher does not exist"):
        check_training(RECIPE, "data", tmp_path / "none.keras")


# --- going on -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(keras: Any, colour_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Work:
    """The recipe from its beginning to its end, in a folder of its own."""
    return go(colour_model, RECIPE, tmp_path_factory.mktemp("finished"))


@pytest.mark.tensorflow
def test_every_step_leaves_a_model_and_what_it_was_made_of(finished: Work) -> None:
    folder = finished.work.folder
    assert [stage.path.name for stage in finished.stages] == ["0-original.keras", "1-prune.keras", "2-distill.keras"]
    assert [stage.step for stage in finished.stages] == ["original", "prune", "distill"]
    names = {path.name for path in folder.iterdir()}
    assert names == {f"{name}.{end}" for name in ("0-original", "1-prune", "2-distill") for end in ("keras", "json")}
    assert finished.taken() == [False, False]
    assert all(stage.seconds > 0 for stage in finished.stages[1:])
    assert any("16 of 32 channels" in note for note in finished.stages[1].notes)
    assert any("in one epoch" in note for note in finished.stages[2].notes)


@pytest.mark.tensorflow
def test_the_pruned_model_is_half_as_wide_and_was_trained(keras: Any, colour_model: Path, finished: Work) -> None:
    original, pruned, distilled = (keras.models.load_model(stage.path) for stage in finished.stages)
    widths = [
        model.get_layer("stem").filters + model.get_layer("one").filters for model in (original, pruned, distilled)
    ]
    assert widths == [32, 16, 16]
    assert same(original.get_weights(), colours.weights_of(keras, colour_model))
    assert not np.array_equal(pruned.get_layer("one").kernel, distilled.get_layer("one").kernel)


@pytest.mark.tensorflow
def test_a_run_that_was_interrupted_goes_on_and_comes_to_the_same_weights(
    keras: Any, colour_model: Path, finished: Work, tmp_path: Path
) -> None:
    def interrupt(said: Progress) -> None:
        if said.step.startswith("distill") and said.done >= 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        go(colour_model, RECIPE, tmp_path / "work", progress=interrupt)
    assert not (tmp_path / "work" / "2-distill.keras").exists()
    run = go(colour_model, RECIPE, tmp_path / "work")
    assert run.taken() == [True, False]
    for number in range(3):
        assert same(run.weights(keras, number), finished.weights(keras, number))
    assert run.stages[1].seconds > 0  # what it took when it was done


@pytest.mark.tensorflow
def test_a_run_that_is_finished_is_taken_as_a_whole(keras: Any, colour_model: Path, finished: Work) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.work.folder.iterdir()}
    run = go(colour_model, RECIPE, finished.work.folder)
    assert run.taken() == [True, True]
    assert {path: path.stat().st_mtime_ns for path in finished.work.folder.iterdir()} == before


@pytest.fixture
def thinned(keras: Any, colour_model: Path, tmp_path: Path) -> Work:
    """A finished run that takes no time: nothing in it trains."""
    return go(colour_model, NO_TRAINING, tmp_path / "work")


def changed(steps: Any, seed: int = 0) -> Recipe:
    return replace(NO_TRAINING, steps=(*steps, Quantize()), seed=seed)


@pytest.mark.tensorflow
@pytest.mark.parametrize(
    ("recipe", "taken"),
    [
        (NO_TRAINING, [True, True]),
        (changed(NO_TRAINING.steps[:2], seed=1), [False, False]),
        (replace(NO_TRAINING, fit=Fit(batch_size=16)), [False, False]),
        (changed((replace(THINNER, sparsity=0.25), NO_TRAINING.steps[1])), [False, False]),
        (changed((THINNER, Prune("weight", sparsity=0.25))), [True, False]),
        (changed((THINNER,)), [True]),
        (replace(NO_TRAINING, steps=(*NO_TRAINING.steps[:2], Quantize("float16"), Verify())), [True, True]),
        (replace(NO_TRAINING, target="raspberrypi"), [True, True]),
    ],
    ids=["same", "seed", "fit", "first step", "second step", "one step less", "quantization", "target"],
)
def test_only_what_a_step_is_made_of_counts(
    colour_model: Path, thinned: Work, recipe: Recipe, taken: list[bool]
) -> None:
    assert go(colour_model, recipe, thinned.work.folder).taken() == taken


@pytest.mark.tensorflow
def test_a_gate_that_was_let_out_costs_no_training_behind_it(colour_model: Path, tmp_path: Path) -> None:
    def recipe(max_drop: float) -> Recipe:
        return Recipe((THINNER, Verify(max_drop=max_drop), Prune("weight", sparsity=0.5), Quantize()))

    go(colour_model, recipe(0.0), tmp_path / "work")
    assert go(colour_model, recipe(0.1), tmp_path / "work").taken() == [True, True]


@pytest.mark.tensorflow
def test_another_model_or_other_data_or_another_teacher_is_another_run(
    keras: Any, colour_model: Path, thinned: Work, tmp_path: Path
) -> None:
    folder = thinned.work.folder
    model = keras.models.load_model(colour_model)
    assert go(model, NO_TRAINING, folder).taken() == [True, True]  # the same model, live
    other = examples()
    other.inputs[0][50, 0, 0, 0] ^= 1
    assert go(model, NO_TRAINING, folder, data=other).taken() == [False, False]
    assert go(model, NO_TRAINING, folder, teacher=colours.network(keras)).taken() == [False, False]
    go(model, NO_TRAINING, folder)
    weights = model.get_weights()
    weights[0][0, 0, 0, 0] += 1
    model.set_weights(weights)
    assert go(model, NO_TRAINING, folder).taken() == [False, False]


@pytest.mark.tensorflow
def test_a_step_whose_file_was_damaged_is_done_again(keras: Any, colour_model: Path, thinned: Work) -> None:
    wanted = [thinned.weights(keras, number) for number in range(3)]
    thinned.stages[1].path.write_bytes(b"PK\x03\x04 half of a zip")
    run = go(colour_model, NO_TRAINING, thinned.work.folder)
    assert run.taken() == [False, True]
    assert all(same(run.weights(keras, number), wanted[number]) for number in range(3))


@pytest.mark.tensorflow
def test_a_step_whose_file_is_another_model_is_done_again(keras: Any, colour_model: Path, thinned: Work) -> None:
    wanted = thinned.weights(keras)
    for number, source in ((2, 1), (0, 1)):
        thinned.stages[number].path.write_bytes(thinned.stages[source].path.read_bytes())
    run = go(colour_model, NO_TRAINING, thinned.work.folder)
    assert run.taken() == [True, False]
    assert same(run.weights(keras), wanted)
    assert same(run.weights(keras, 0), colours.weights_of(keras, colour_model))


@pytest.mark.tensorflow
def test_what_a_killed_run_had_not_finished_goes(colour_model: Path, thinned: Work) -> None:
    folder = thinned.work.folder
    (folder / ".7-prune.unfinished.keras").write_bytes(b"half")
    go(colour_model, NO_TRAINING, folder)
    assert not list(folder.glob(".*"))


def test_every_step_of_every_seed_draws_from_a_seed_of_its_own(tmp_path: Path) -> None:
    seeds = [
        step_seed(Workshop(replace(RECIPE, seed=seed), None, None, tmp_path, None), place)
        for seed in (*range(50), 10**12)
        for place in range(10)
    ]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= one < 2**31 for one in seeds)


def test_the_key_of_a_step_is_made_of_the_steps_up_to_it(tmp_path: Path) -> None:
    first = Stage("original", tmp_path / "0-original.keras", 0.0, (), "a")

    def key(recipe: Recipe, place: int, start: str = "a") -> str:
        return step_key(Workshop(recipe, None, None, tmp_path, None), place, [replace(first, key=start)])

    longer = replace(RECIPE, steps=(*RECIPE.steps, Verify()))
    assert key(RECIPE, 0) == key(longer, 0)
    assert key(RECIPE, 1) == key(longer, 1)
    assert len({key(RECIPE, 0), key(RECIPE, 1), key(RECIPE, 0, "b"), key(replace(RECIPE, seed=1), 0)}) == 4
    assert key(Recipe.from_json(json.loads(json.dumps(RECIPE.to_json()))), 1) == key(RECIPE, 1)


# --- what the steps do ----------------------------------------------------------------------------


def kernels(keras: Any, stage: Stage) -> dict[str, Any]:
    """The kernels of a saved model by layer."""
    layers = keras.models.load_model(stage.path).layers
    return {layer.name: layer.kernel.numpy() for layer in layers if hasattr(layer, "kernel")}


@pytest.mark.tensorflow
@pytest.mark.parametrize("behind", [Distill(epochs=1), FineTune(epochs=1)], ids=["Distill", "FineTune"])
def test_training_behind_a_pruning_of_weights_keeps_its_zeros(
    keras: Any, colour_model: Path, behind: Any, tmp_path: Path
) -> None:
    run = go(colour_model, Recipe((Prune("weight", sparsity=0.6), behind, Quantize()), fit=FIT), tmp_path / "work")
    before, after = kernels(keras, run.stages[1]), kernels(keras, run.stages[2])
    assert before.keys() == {"stem", "one", "two", "colour"}
    zeros = sum(int((kernel == 0).sum()) for kernel in before.values())
    assert zeros / sum(kernel.size for kernel in before.values()) == pytest.approx(0.6, abs=0.01)
    for name, kernel in before.items():
        assert np.array_equal(kernel == 0, after[name] == 0)
        assert not np.array_equal(kernel, after[name])


@pytest.mark.tensorflow
def test_training_between_rounds_of_a_later_pruning_keeps_the_zeros_too(
    keras: Any, colour_model: Path, tmp_path: Path
) -> None:
    zeros = []
    for name, behind in (("untrained", THINNER), ("trained", replace(THINNER, epochs=1))):
        run = go(colour_model, Recipe((Prune("weight", sparsity=0.6), behind, Quantize()), fit=FIT), tmp_path / name)
        zeros.append({layer: kernel == 0 for layer, kernel in kernels(keras, run.stages[2]).items()})
    assert sum(int(kernel.sum()) for kernel in zeros[0].values()) > 50
    for layer, kernel in zeros[0].items():
        assert np.array_equal(kernel, zeros[1][layer])


@pytest.mark.tensorflow
def test_a_second_pruning_of_other_weights_keeps_the_zeros_of_the_first(
    keras: Any, colour_model: Path, tmp_path: Path
) -> None:
    first = Prune("weight", layers={"one": 0.75})  # type: ignore[arg-type]
    second = Prune("weight", layers={"two": 0.5}, epochs=1)  # type: ignore[arg-type]
    run = go(colour_model, Recipe((first, second, Quantize()), fit=FIT), tmp_path / "work")
    before, after = kernels(keras, run.stages[1])["one"], kernels(keras, run.stages[2])["one"]
    assert (before == 0).mean() == pytest.approx(0.75, abs=0.01)
    assert np.array_equal(before == 0, after == 0)


@pytest.mark.tensorflow
def test_the_teacher_is_the_model_as_it_was_before_the_first_prune(
    keras: Any, colour_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taught: list[Any] = []
    real = __import__("converters.distill", fromlist=["distill"]).distill

    def distill(student: Any, teacher: Any, *rest: Any, **settings: Any) -> Any:
        taught.append(teacher.get_weights())
        return real(student, teacher, *rest, **settings)

    monkeypatch.setattr("converters.distill.distill", distill)
    steps = (FineTune(epochs=1), THINNER, Distill(epochs=1), Prune("weight", sparsity=0.5), Distill(epochs=1))
    run = go(colour_model, Recipe((*steps, Quantize()), fit=FIT), tmp_path / "work", data=examples(32))
    assert len(taught) == 2
    for weights in taught:
        assert same(weights, run.weights(keras, 1))
        assert not same(weights, run.weights(keras, 0))


@pytest.mark.tensorflow
def test_a_teacher_of_ones_own_is_asked_live_or_from_a_file(keras: Any, colour_model: Path, tmp_path: Path) -> None:
    recipe = Recipe((Distill(epochs=1, alpha=1.0), Quantize()), fit=FIT)
    teacher = colours.network(keras, seed=8)
    teacher.save(tmp_path / "teacher.keras")
    teacher.save_weights(tmp_path / "before.weights.h5")
    results = [
        go(colour_model, recipe, tmp_path / f"work {number}", teacher=one, data=examples(32)).weights(keras)
        for number, one in enumerate((teacher, tmp_path / "teacher.keras", None))
        if one is not None
    ]
    assert same(*results)


@pytest.mark.tensorflow
def test_weights_are_pruned_at_once_where_batches_do_not_say_how_many_they_are(
    keras: Any, colour_model: Path, tmp_path: Path
) -> None:
    import tensorflow as tf

    unknown = tf.data.Dataset.from_tensor_slices((colours.floats(32), colours.pictures(32)[1])).batch(16)
    unknown = unknown.filter(lambda *_: True)
    run = go(colour_model, changed((Prune("weight", sparsity=0.5),)), tmp_path / "work", data=unknown)
    assert any("50.0% of the weights are zero" in note for note in run.stages[1].notes)
    with pytest.raises(TrainingError, match="how many batches") as caught:
        go(colour_model, changed((Prune("weight", sparsity=0.5, epochs=1),)), tmp_path / "other", data=unknown)
    assert "assert_cardinality" in caught.value.next_step


@pytest.mark.tensorflow
@pytest.mark.parametrize("second", [Prune(macs=0.3, align=1), Prune("block", macs=0.3)], ids=["channel", "block"])
def test_a_budget_is_a_share_of_the_original_model(
    keras: Any, colour_model: Path, second: Prune, tmp_path: Path
) -> None:
    from converters.graph.cost import costs

    run = go(colour_model, Recipe((Prune(macs=0.6, align=1), second, Quantize())), tmp_path / "work")
    whole, once, twice = (costs(keras.models.load_model(stage.path)).macs for stage in run.stages)
    assert 0.5 * whole < once <= 0.6 * whole
    assert twice <= 0.3 * whole


@pytest.mark.tensorflow
def test_a_loss_that_is_no_number_is_an_error_and_the_finished_steps_stay(
    keras: Any, colour_model: Path, tmp_path: Path
) -> None:
    recipe = Recipe((THINNER, FineTune(epochs=2, learning_rate=1e30), Quantize()), fit=FIT)
    with pytest.raises(TrainingError, match="no finite number") as caught:
        go(colour_model, recipe, tmp_path / "work")
    assert caught.value.exit_code == 3
    names = {path.name for path in (tmp_path / "work").iterdir()}
    assert names == {"0-original.json", "0-original.keras", "1-prune.json", "1-prune.keras"}
    mended = replace(recipe, steps=(THINNER, FineTune(epochs=1), Quantize()))
    assert go(colour_model, mended, tmp_path / "work").taken() == [True, False]


# --- refused before the first step ----------------------------------------------------------------


def opened(model: Any, recipe: Recipe, folder: Path, data: Any = None, teacher: Any = None) -> None:
    data = examples() if data is None else data
    try:
        open_workshop(model, recipe, data, teacher, folder, None)
    finally:
        assert list(folder.iterdir()) == []


@pytest.mark.tensorflow
def test_a_teacher_with_other_classes_is_refused(keras: Any, colour_model: Path, tmp_path: Path) -> None:
    layers = keras.layers
    five = keras.Sequential([keras.Input((8, 8, 3)), layers.Flatten(), layers.Dense(5, activation="softmax")])
    small = keras.Sequential([keras.Input((4, 4, 3)), layers.Flatten(), layers.Dense(4, activation="softmax")])
    for teacher, shape in ((five, "(5,)"), (small, "(4, 4, 3)")):
        with pytest.raises(RecipeError, match="something else than the model") as caught:
            opened(colour_model, RECIPE, tmp_path, teacher=teacher)
        assert shape in caught.value.received


@pytest.mark.tensorflow
def test_a_teacher_that_is_a_file_is_looked_at_too(keras: Any, colour_model: Path, tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "five.tflite").write_bytes(tiny_models.classifier(classes=5))
    (tmp_path / "text.tflite").write_bytes(b"no model at all")
    with pytest.raises(RecipeError, match="something else than the model"):
        opened(colour_model, RECIPE, tmp_path / "work", teacher=tmp_path / "five.tflite")
    with pytest.raises(DamagedModelError, match=r"text\.tflite"):
        opened(colour_model, RECIPE, tmp_path / "work", teacher=tmp_path / "text.tflite")


@pytest.mark.tensorflow
def test_what_is_no_teacher_is_refused(keras: Any, colour_model: Path, tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    with pytest.raises(ConversionError, match="no Keras 3 model"):
        opened(colour_model, RECIPE, tmp_path / "work", teacher=5)
    with pytest.raises(ConversionError, match="no SavedModel"):
        opened(colour_model, RECIPE, tmp_path / "work", teacher=tmp_path)
    keras.models.load_model(colour_model).export(tmp_path / "saved", verbose=False)
    with pytest.raises(RecipeError, match="The teacher is a SavedModel"):
        opened(colour_model, RECIPE, tmp_path / "work", teacher=tmp_path / "saved")
    with pytest.raises(RecipeError, match="The model is a SavedModel"):
        opened(tmp_path / "saved", RECIPE, tmp_path / "work")


@pytest.mark.tensorflow
def test_a_model_whose_layers_cannot_be_seen_or_kept_is_refused(keras: Any, tmp_path: Path) -> None:
    class Own(keras.Model):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.dense = keras.layers.Dense(4)

        def call(self, inputs: Any) -> Any:
            return self.dense(keras.ops.reshape(inputs, (-1, 192)))

    @keras.saving.register_keras_serializable()
    class Thrice(keras.layers.Layer):  # type: ignore[misc]
        def call(self, inputs: Any) -> Any:
            return 3 * inputs

    own = Own()
    own(np.zeros((1, 8, 8, 3), np.float32))
    with pytest.raises(ConversionError, match="code of its own"):
        opened(own, RECIPE, tmp_path)
    for layer in (Thrice(name="mine"), keras.layers.Lambda(lambda x: 3 * x, name="mine")):
        body = [keras.Input((8, 8, 3)), layer, keras.layers.Flatten(), keras.layers.Dense(4, activation="softmax")]
        with pytest.raises(RecipeError, match="hold no code") as caught:
            opened(keras.Sequential(body), RECIPE, tmp_path)
        assert "layer `mine`" in caught.value.received


@pytest.mark.tensorflow
def test_training_data_that_does_not_fit_is_refused(keras: Any, colour_model: Path, tmp_path: Path) -> None:
    import tensorflow as tf

    x, y = colours.floats(8), colours.pictures(8)[1]
    batches = tf.data.Dataset.from_tensor_slices((x[:, :4], y)).batch(4)
    endless = tf.data.Dataset.from_tensor_slices((x, y)).batch(4).repeat()
    for data, words in (
        (batches, "does not fit the inputs"),
        (endless, "never ends"),
        (batches.map(lambda one, _: one), "no labels"),
        (iter([(x, y)]), "no training data"),
        ((x, None), "no training data"),
        (Examples((x,), y + 1), "class that the model has not"),
    ):
        with pytest.raises(TrainingError, match=words):
            opened(colour_model, RECIPE, tmp_path, data=data)


@pytest.mark.tensorflow
def test_a_model_that_is_frozen_is_refused_where_it_shall_be_trained(
    keras: Any, colour_model: Path, tmp_path: Path
) -> None:
    model = keras.models.load_model(colour_model)
    model.trainable = False
    with pytest.raises(TrainingError, match="Nothing of the model"):
        opened(model, RECIPE, tmp_path)
    go(model, NO_TRAINING, tmp_path / "work")


@pytest.mark.tensorflow
def test_a_layer_that_shall_stay_float_must_be_there(keras: Any, colour_model: Path, tmp_path: Path) -> None:
    recipe = replace(RECIPE, steps=(*RECIPE.steps[:2], Quantize(fallback={"stemm": "float32"})))  # type: ignore[arg-type]
    with pytest.raises(RecipeError, match="names no layer") as caught:
        opened(colour_model, recipe, tmp_path)
    assert "`stem`" in caught.value.next_step
