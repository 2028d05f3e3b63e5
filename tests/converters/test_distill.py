"""Distillation: the loss by the papers' formulas in NumPy, and what must not happen to either model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models

from converters.distill import distill
from converters.errors import RecipeError, TrainingError
from converters.steps import Distill, Fit
from converters.train.batches import Examples
from converters.train.fit import History, Schedule, fit
from converters.train.tflite_teacher import FileTeacher
from edgeinfer.progress import Progress

pytestmark = pytest.mark.tensorflow
RANDOM = np.random.default_rng(0)
COUNT = 24
PIXELS = RANDOM.integers(0, 256, (COUNT, 8, 8, 3), dtype=np.uint8)
NORMALIZATION = (127.5, 63.75)
INPUTS = ((PIXELS - 127.5) / 63.75).astype(np.float32)
LABELS = RANDOM.integers(0, 4, COUNT)
EXAMPLES = Examples((PIXELS,), LABELS, NORMALIZATION)
ALL = Fit(batch_size=COUNT)


def model(keras: Any, width: int, ending: str = "dense softmax", *, outputs: int = 4, decay: float = 0.0) -> Any:
    layers = keras.layers
    keras.utils.set_random_seed(width)
    regularizer = keras.regularizers.L2(decay) if decay else None
    ends = {
        "dense softmax": [layers.Dense(outputs, activation="softmax", name="last")],
        "dense sigmoid": [layers.Dense(outputs, activation="sigmoid", name="last")],
        "softmax layer": [layers.Dense(outputs, name="last"), layers.Softmax()],
        "activation layer": [layers.Dense(outputs, name="last"), layers.Activation("softmax")],
        "logits": [layers.Dense(outputs, name="last")],
    }[ending]
    made = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(width, 3, name="first", kernel_regularizer=regularizer),
            layers.BatchNormalization(name="norm", momentum=0.5),
            layers.ReLU(name="relu"),
            layers.Conv2D(width, 3, name="second"),
            layers.GlobalAveragePooling2D(name="pooled"),
            *ends,
        ],
        name=f"width_{width}",
    )
    for layer in made.layers:
        if layer.weights and layer.name != "norm":
            layer.set_weights([RANDOM.normal(size=one.shape) for one in layer.get_weights()])
    return made


def answers(keras: Any, of: Any, layer: str, *, training: bool = False) -> Any:
    """What a layer of the model returns, and for "last" the logits whatever stands behind them."""
    if layer == "last":
        kernel, bias = of.get_layer("last").get_weights()
        return answers(keras, of, "pooled", training=training) @ kernel + bias
    part = keras.Model(of.inputs[0], of.get_layer(layer).output)
    state = of.get_weights()
    result = np.asarray(part(INPUTS, training=training), np.float64)
    of.set_weights(state)  # a call in training moves BatchNorm's averages
    return result


def log_softmax(logits: Any) -> Any:
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def softmax(logits: Any) -> Any:
    return np.exp(log_softmax(logits))


def divergence(teacher: Any, student: Any, temperature: float) -> float:
    """T^2 KL(teacher || student), Hinton et al. 2015, section 2."""
    p, q = log_softmax(teacher / temperature), log_softmax(student / temperature)
    return float(temperature**2 * (np.exp(p) * (p - q)).sum(axis=1).mean())


def cross_entropy(logits: Any) -> float:
    return float(-log_softmax(logits)[np.arange(COUNT), LABELS].mean())


def taught(student: Any, teacher: Any, step: Distill, data: Any = EXAMPLES, **settings: Any) -> History:
    """Distill with all samples in a batch, or as the settings say."""
    plan = Schedule(step.epochs, step.learning_rate, settings.get("fit", ALL), settings.get("seed", 0), "distill")
    return distill(student, teacher, step, data, schedule=plan, progress=settings.get("progress"))


def first_loss(student: Any, teacher: Any, data: Any = EXAMPLES, **step: Any) -> float:
    """The loss of one batch with all samples, before anything was learned."""
    return taught(student, teacher, Distill(epochs=1, **step), data).losses[0]


@pytest.mark.parametrize("teacher_ending", ["dense softmax", "softmax layer", "activation layer", "logits"])
def test_the_loss_is_hintons_on_logits_wherever_the_softmax_stands(keras: Any, teacher_ending: str) -> None:
    for student_ending in ("dense softmax", "softmax layer", "activation layer", "logits"):
        teacher, student = model(keras, 6, teacher_ending), model(keras, 4, student_ending)
        own, guide = answers(keras, student, "last", training=True), answers(keras, teacher, "last")
        expected = 0.3 * cross_entropy(own) + 0.7 * divergence(guide, own, 3.0)
        assert first_loss(student, teacher, alpha=0.7, temperature=3.0) == pytest.approx(expected, rel=1e-4)


def test_features_and_attention_count_with_their_weight_at_every_alpha(keras: Any) -> None:
    for alpha in (0.0, 0.5, 1.0):
        teacher, student = model(keras, 6), model(keras, 4)
        same_width = keras.models.clone_model(teacher)
        own, guide = answers(keras, student, "last", training=True), answers(keras, teacher, "last")
        maps = [(answers(keras, one, "first") ** 2).sum(axis=-1).reshape(COUNT, -1) for one in (teacher, student)]
        units = [one / np.linalg.norm(one, axis=1, keepdims=True) for one in maps]
        # Zagoruyko and Komodakis 2017, equation 2: beta / 2 times the distance of the normalized maps.
        attention = 0.5 * np.linalg.norm(units[0] - units[1], axis=1).mean()
        labels_and_answers = (1 - alpha) * cross_entropy(own) + alpha * divergence(guide, own, 4.0)
        found = first_loss(student, teacher, alpha=alpha, attention={"first": "first"}, feature_weight=10.0)
        assert found == pytest.approx(labels_and_answers + 10 * attention, rel=1e-4)

        own = answers(keras, same_width, "last", training=True)
        features = ((answers(keras, teacher, "first") - answers(keras, same_width, "first")) ** 2).mean()
        expected = (1 - alpha) * cross_entropy(own) + alpha * divergence(guide, own, 4.0) + 10 * features
        found = first_loss(same_width, teacher, alpha=alpha, features={"first": "first"}, feature_weight=10.0)
        assert found == pytest.approx(expected, rel=1e-4)


def test_the_students_regularizers_count(keras: Any) -> None:
    teacher, student = model(keras, 6), model(keras, 4, decay=0.01)
    plain = keras.models.clone_model(student)
    plain.set_weights(student.get_weights())
    plain.get_layer("first").kernel_regularizer = None
    plain.get_layer("first").kernel.regularizer = None
    decay = 0.01 * float((student.get_layer("first").get_weights()[0] ** 2).sum())
    assert first_loss(student, teacher) == pytest.approx(first_loss(plain, teacher) + decay, rel=1e-4)


def test_outputs_that_are_each_a_yes_or_no_are_compared_one_by_one(keras: Any) -> None:
    teacher, student = model(keras, 6, "dense sigmoid"), model(keras, 4, "dense sigmoid")
    labels = RANDOM.integers(0, 2, (COUNT, 4))
    own, guide = answers(keras, student, "last", training=True), answers(keras, teacher, "last")
    p, q, chance = (1 / (1 + np.exp(-one)) for one in (guide / 4, own / 4, own))
    soft = 16 * (p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))).mean()
    hard = -(labels * np.log(chance) + (1 - labels) * np.log(1 - chance)).mean()
    found = first_loss(student, teacher, Examples((PIXELS,), labels, NORMALIZATION), alpha=0.5)
    assert found == pytest.approx(0.5 * soft + 0.5 * hard, rel=1e-4)


def test_values_are_compared_by_their_squared_difference(keras: Any) -> None:
    teacher, student = model(keras, 6, "logits"), model(keras, 4, "logits")
    labels = RANDOM.normal(size=(COUNT, 4))
    own, guide = answers(keras, student, "last", training=True), answers(keras, teacher, "last")
    expected = 0.25 * ((own - labels) ** 2).mean() + 0.75 * ((own - guide) ** 2).mean()
    found = first_loss(student, teacher, Examples((PIXELS,), labels, NORMALIZATION), alpha=0.75)
    assert found == pytest.approx(expected, rel=1e-4)


def test_a_student_comes_to_answer_as_its_teacher(keras: Any) -> None:
    teacher, student = model(keras, 6), model(keras, 6)
    student.get_layer("last").set_weights([one * 0 for one in student.get_layer("last").get_weights()])
    before = divergence(answers(keras, teacher, "last"), answers(keras, student, "last"), 1.0)
    step = Distill(epochs=60, learning_rate=0.3, alpha=1.0)
    history = taught(student, teacher, step)
    assert history.losses[-1] < history.losses[0] / 3
    assert history.samples == COUNT
    assert divergence(answers(keras, teacher, "last"), answers(keras, student, "last"), 1.0) < before / 3


def test_a_projection_between_widths_learns_along_and_does_not_stay(keras: Any) -> None:
    teacher, student = model(keras, 6), model(keras, 4)
    names = [one.path for one in student.variables]
    step = Distill(epochs=30, learning_rate=0.3, alpha=1.0, features={"second": "second", "pooled": "pooled"})
    history = taught(student, teacher, step)
    assert history.losses[-1] < history.losses[0] / 2
    assert [one.path for one in student.variables] == names
    assert not student.compiled
    keras.models.clone_model(student)  # the graph is what it was


def test_the_teacher_is_left_as_it_was_and_a_student_cloned_from_it_learns(keras: Any) -> None:
    teacher = model(keras, 6)
    teacher.get_layer("first").trainable = False
    before, flags = teacher.get_weights(), [layer.trainable for layer in teacher.layers]
    taught(model(keras, 4), teacher, Distill(epochs=1))
    assert all(np.array_equal(a, b) for a, b in zip(before, teacher.get_weights(), strict=True))
    assert [layer.trainable for layer in teacher.layers] == flags
    clone = keras.models.clone_model(teacher)
    kernel = clone.get_layer("last").get_weights()[0]
    taught(clone, teacher, Distill(epochs=1))
    assert not np.array_equal(clone.get_layer("last").get_weights()[0], kernel)


def test_a_student_that_is_frozen_is_refused(keras: Any) -> None:
    teacher = model(keras, 6)
    teacher.trainable = False
    with pytest.raises(TrainingError, match="can be trained"):
        first_loss(keras.models.clone_model(teacher), teacher)


def test_one_seed_gives_the_same_student_projections_included(keras: Any) -> None:
    def student(seed: int) -> Any:
        RANDOM.bit_generator.state = np.random.default_rng(9).bit_generator.state
        one, teacher = model(keras, 4), model(keras, 6)
        plan = Fit(batch_size=10, augment=("flip", "shift"))
        taught(one, teacher, Distill(epochs=2, features={"second": "second"}), fit=plan, seed=seed)
        return one.get_weights()

    first = student(1)
    assert all(np.array_equal(a, b) for a, b in zip(first, student(1), strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, student(2), strict=True))


def test_a_loss_that_is_no_number_leaves_the_student_as_it_came(keras: Any) -> None:
    student, reports = model(keras, 4), list[Progress]()
    before = student.get_weights()
    step = Distill(epochs=3, learning_rate=1e30, features={"second": "second"})
    with pytest.raises(TrainingError, match="no finite number") as caught:
        taught(student, model(keras, 6), step, fit=Fit(batch_size=6), seed=0, progress=reports.append)
    assert "learning rate" in caught.value.next_step
    assert reports[0].total == 12
    assert reports[0].step.startswith("distill 1/3")
    assert all(np.array_equal(a, b) for a, b in zip(before, student.get_weights(), strict=True))


def test_alpha_0_is_plain_training(keras: Any) -> None:
    student = model(keras, 4)
    plain = keras.models.clone_model(student)
    plain.set_weights(student.get_weights())
    own = taught(student, model(keras, 6), Distill(epochs=2, alpha=0.0), fit=Fit(batch_size=10), seed=3)
    alone = fit(plain, EXAMPLES, Schedule(2, 1e-3, Fit(batch_size=10), seed=3))
    assert own.losses == pytest.approx(alone.losses, rel=1e-4)


def refusals(keras: Any) -> dict[str, tuple[Any, Any, dict[str, Any]]]:
    wide, narrow = model(keras, 6), model(keras, 4)
    other = keras.Sequential([keras.Input((9, 9, 3)), keras.layers.Flatten(), keras.layers.Dense(4)])
    return {
        "count of classes": (narrow, model(keras, 6, outputs=5), {}),
        "inputs": (narrow, other, {}),
        "endings": (narrow, model(keras, 6, "dense sigmoid"), {}),
        "itself": (narrow, narrow, {}),
        "sizes": (narrow, wide, {"attention": {"first": "second"}}),
        "no map": (narrow, wide, {"attention": {"pooled": "pooled"}}),
        "feature sizes": (narrow, wide, {"features": {"first": "pooled"}}),
        "layers of a file": (narrow, Path("teacher.tflite"), {"features": {"first": "first"}}),
    }


def test_a_teacher_that_does_not_go_with_the_student_is_refused(keras: Any) -> None:
    for name, (student, teacher, settings) in refusals(keras).items():
        with pytest.raises(RecipeError) as caught:
            first_loss(student, teacher, **settings)
        assert caught.value.received, name
        assert caught.value.expected, name


@pytest.mark.parametrize(("pair", "whose"), [({"frist": "first"}, "teacher"), ({"first": "frist"}, "student")])
def test_a_layer_that_is_not_there_is_refused_with_the_one_that_was_meant(keras: Any, pair: Any, whose: str) -> None:
    with pytest.raises(RecipeError, match=f"The {whose} .* no layer `frist`") as caught:
        first_loss(model(keras, 4), model(keras, 6), features=pair)
    assert "`first`" in caught.value.next_step


def test_sample_weights_are_refused_and_not_forgotten(keras: Any) -> None:
    import tensorflow as tf

    data = tf.data.Dataset.from_tensor_slices((INPUTS, LABELS, np.ones(COUNT, np.float32))).batch(COUNT)
    with pytest.raises(TrainingError, match="sample weights"):
        first_loss(model(keras, 4), model(keras, 6), data)


def tiny_teacher(folder: Path, **options: Any) -> Path:
    path = folder / "teacher.tflite"
    path.write_bytes(tiny_models.classifier(**options))
    return path


def colour_logits() -> Any:
    """What `tiny_models.classifier` computes on [0, 1]: 8 times each colour's mean; "dark" is 8 / 4."""
    means = PIXELS.mean(axis=(1, 2)) / 255
    return np.concatenate([8 * means, np.full((COUNT, 1), 2.0)], axis=1)


@pytest.mark.parametrize(
    ("options", "tolerance"),
    [
        ({"dtype": "float32"}, 1e-3),
        ({"dtype": "float32", "activation": "none"}, 1e-3),
        ({"dtype": "int8", "activation": "none"}, 0.1),
    ],
    ids=["softmax", "logits", "int8 logits"],
)
def test_a_file_teaches_what_it_answers_on_the_models_own_input(
    keras: Any, tmp_path: Path, options: Any, tolerance: float
) -> None:
    student = model(keras, 4)
    data = Examples((PIXELS.astype(np.float32) / 255,), LABELS)
    inside, own = INPUTS.copy(), None
    try:
        INPUTS[...] = data.inputs[0]
        own = answers(keras, student, "last", training=True)
    finally:
        INPUTS[...] = inside
    expected = divergence(colour_logits(), own, 4.0)
    found = first_loss(student, tiny_teacher(tmp_path, **options), data, alpha=1.0)
    assert found == pytest.approx(expected, rel=tolerance)


@pytest.mark.parametrize("dtype", ["float32", "int8", "uint8"])
def test_pixels_go_into_a_file_as_its_own_metadata_says(keras: Any, tmp_path: Path, dtype: str) -> None:
    # The file was trained on [0, 1], the student on another range: both see the same pixels.
    path = tiny_teacher(tmp_path, dtype=dtype, normalization=(0.0, 255.0), activation="none")
    teacher = FileTeacher(path, EXAMPLES)
    (found,) = teacher.answer(INPUTS, False)
    assert np.asarray(found) == pytest.approx(colour_logits(), abs=1e-4 if dtype == "float32" else 0.1)


def test_an_int8_softmax_teaches_logits_as_close_as_its_steps_are(keras: Any, tmp_path: Path) -> None:
    path = tiny_teacher(tmp_path, dtype="int8", normalization=(0.0, 255.0))
    (found,) = FileTeacher(path, EXAMPLES).answer(INPUTS, False)
    shares = softmax(np.asarray(found, np.float64))
    assert shares == pytest.approx(softmax(colour_logits()), abs=0.02)


def test_a_file_with_another_count_of_classes_is_refused(keras: Any, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="different shapes") as caught:
        first_loss(model(keras, 4, outputs=5), tiny_teacher(tmp_path))
    assert "(1, 4)" in caught.value.received
    assert "(None, 5)" in caught.value.received
