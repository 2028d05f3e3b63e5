"""Training on labels: reproducible, silent, stopped where the loss is no number, and refused where nothing can come."""

from __future__ import annotations

import math
import subprocess
import sys
import textwrap
from typing import Any

import numpy as np
import pytest

from converters.errors import ConversionError, TrainingError
from converters.steps import Fit
from converters.train.batches import Examples
from converters.train.fit import Schedule, fit
from converters.train.loop import learning_rate_at
from edgeinfer.progress import Progress

pytestmark = pytest.mark.tensorflow
RANDOM = np.random.default_rng(0)
PIXELS = RANDOM.integers(0, 256, (90, 8, 8, 3), dtype=np.uint8)
LABELS = PIXELS.mean(axis=(1, 2)).argmax(axis=1)  # the strongest colour: what a pooled picture tells
EXAMPLES = Examples((PIXELS,), LABELS, (127.5, 40.0))
FLOATS = (PIXELS.astype(np.float32) - 127.5) / 40


def small(keras: Any, *, seed: int = 0, noisy: bool = True) -> Any:
    layers = keras.layers
    keras.utils.set_random_seed(seed)
    body = [layers.Conv2D(6, 3, name="stem"), layers.BatchNormalization(), layers.ReLU(), layers.Dropout(0.3)]
    if not noisy:
        body = [layers.Conv2D(6, 3, activation="relu", name="stem")]
    return keras.Sequential(
        [
            keras.Input((8, 8, 3), name="photo"),
            *body,
            layers.GlobalAveragePooling2D(),
            layers.Dropout(0.2 if noisy else 0.0),
            layers.Dense(3, activation="softmax", name="kinds"),
        ],
        name="small",
    )


def schedule(**changes: Any) -> Schedule:
    return Schedule(**{"epochs": 2, "learning_rate": 1e-2, "fit": Fit(batch_size=32), "seed": 5, **changes})


def same(one: Any, other: Any) -> bool:
    pairs = zip(one.get_weights(), other.get_weights(), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


def test_training_learns_what_can_be_learned(keras: Any) -> None:
    model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(3)])
    history = fit(model, EXAMPLES, schedule(epochs=40, learning_rate=0.3))
    assert len(history.losses) == 40
    assert history.losses[-1] < 0.3 < math.log(3) < history.losses[0] * 3
    assert (np.asarray(model(FLOATS)).argmax(axis=1) == LABELS).mean() > 0.9
    assert history.samples == 90
    assert history.seconds > 0


def test_one_seed_gives_the_same_weights_whatever_else_was_drawn(keras: Any) -> None:
    start = small(keras).get_weights()

    def trained(seed: int, noise: int) -> Any:
        # Dropout takes its own seed from Python's global generator when it is made.
        model = small(keras, seed=noise)
        model.set_weights(start)
        keras.utils.set_random_seed(noise)
        fit(model, EXAMPLES, schedule(seed=seed, fit=Fit(batch_size=32, augment=("flip", "shift"))))
        return model

    first = trained(5, 1)
    assert same(first, trained(5, 2))
    assert not same(first, trained(6, 1))


def test_training_on_does_not_repeat_the_draws_of_two_dropouts(keras: Any) -> None:
    model = small(keras)
    fit(model, EXAMPLES, schedule(epochs=1))
    states = [np.asarray(one) for one in model.variables if one.name == "seed_generator_state"]
    assert len(states) == 2
    assert states[0][0] != states[1][0]


@pytest.mark.parametrize("name", ["cosine", "constant"])
def test_the_learning_rate_is_the_one_that_is_told(keras: Any, name: Any) -> None:
    rates = []

    class Seen(keras.callbacks.Callback):
        def on_train_batch_begin(self, *_: Any, **__: Any) -> None:
            rates.append(float(np.asarray(self.model.optimizer.learning_rate)))

    plan = schedule(fit=Fit(batch_size=32, schedule=name))
    fit(small(keras), EXAMPLES, plan, callbacks=[Seen()])
    # Loshchilov and Hutter, equation 5, over 2 epochs of 3 batches; half way it is one half.
    expected = [0.01 * (1 + math.cos(math.pi * k / 6)) / 2 if name == "cosine" else 0.01 for k in range(6)]
    assert rates == pytest.approx(expected, rel=1e-5)
    assert [learning_rate_at(plan, k, 6) for k in range(6)] == pytest.approx(expected)


def test_the_callers_compilation_stays_as_it_is(keras: Any) -> None:
    model = small(keras)
    model.compile(keras.optimizers.SGD(0.5), "sparse_categorical_crossentropy")
    optimizer = model.optimizer
    fit(model, EXAMPLES, schedule(epochs=1))
    assert model.optimizer is optimizer
    assert np.asarray(optimizer.iterations) == 0


def test_progress_counts_every_batch_of_all_epochs(keras: Any) -> None:
    reports: list[Progress] = []
    fit(small(keras), EXAMPLES, schedule(name="tune"), progress=reports.append)
    assert [one.done for one in reports] == list(range(7))
    assert {one.total for one in reports} == {6}
    assert reports[1].step.startswith("tune 1/2, loss ")
    assert reports[6].step.startswith("tune 2/2, loss ")


def test_nothing_is_printed(keras: Any, capfd: pytest.CaptureFixture[str]) -> None:
    model = small(keras)
    capfd.readouterr()
    fit(model, EXAMPLES, schedule(epochs=1))
    assert capfd.readouterr().out == ""


def breaking(keras: Any, model: Any, at: int) -> Any:
    """A callback that makes the weights infinite before a batch, counted over all epochs."""

    class Breaking(keras.callbacks.Callback):
        seen = 0

        def on_train_batch_begin(self, *_: Any, **__: Any) -> None:
            if self.seen == at:
                model.get_layer("kinds").kernel.assign(np.full(model.get_layer("kinds").kernel.shape, np.nan))
            type(self).seen += 1

    return Breaking()


def test_a_loss_that_is_no_number_stops_at_once_with_the_weights_of_the_best_epoch(keras: Any) -> None:
    model = small(keras)
    kept: list[Any] = []

    class Keep(keras.callbacks.Callback):
        def on_epoch_end(self, *said: Any) -> None:
            kept.append((said[-1]["loss"], model.get_weights()))

    reports: list[Progress] = []
    with pytest.raises(TrainingError) as caught:
        fit(
            model,
            EXAMPLES,
            schedule(epochs=3),
            callbacks=[breaking(keras, model, 7), Keep()],
            progress=reports.append,
        )
    assert "epoch 3 of 3, batch 2 of 3" in caught.value.received
    # Step 7 of 9 by the formula.
    assert f"{0.01 * (1 + math.cos(math.pi * 7 / 9)) / 2:.3g}" in caught.value.received
    assert "learning_rate=0.001" in caught.value.next_step
    assert reports[-1].done == 7  # the eighth batch was not reported, and no ninth one was trained
    best = min(kept, key=lambda one: one[0])[1]
    assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), best, strict=True))


def test_before_the_first_epoch_ends_the_model_is_as_it_came(keras: Any) -> None:
    model = small(keras)
    with pytest.raises(TrainingError, match="as it came") as caught:
        fit(model, EXAMPLES, schedule(learning_rate=1e30))
    assert "epoch 1 of 2" in caught.value.received
    assert same(model, small(keras))


def test_weights_that_break_in_the_last_step_are_noticed(keras: Any) -> None:
    model = small(keras)

    class Last(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, **_: Any) -> None:
            if batch == 2:
                model.get_layer("kinds").bias.assign([np.inf, 0, 0])

    with pytest.raises(TrainingError) as caught:
        fit(model, EXAMPLES, schedule(epochs=1), callbacks=[Last()])
    assert "weights that are not finite" in caught.value.received
    assert same(model, small(keras))


def test_where_it_is_the_data_and_not_the_learning_rate_the_message_says_so(keras: Any) -> None:
    spoiled = FLOATS.copy()
    spoiled[41, 0, 0, 0] = np.nan
    with pytest.raises(TrainingError, match="values that are not finite") as caught:
        fit(small(keras), Examples((spoiled,), LABELS), schedule())
    assert "sample 41" in caught.value.received


def test_ctrl_c_passes_through(keras: Any) -> None:
    def interrupt(report: Progress) -> None:
        if report.done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(small(keras), EXAMPLES, schedule(), progress=interrupt)


def test_a_frozen_model_is_refused_and_so_is_its_clone(keras: Any) -> None:
    model = small(keras)
    model.trainable = False
    for frozen in (model, keras.models.clone_model(model)):
        with pytest.raises(TrainingError, match="can be trained") as caught:
            fit(frozen, EXAMPLES, schedule())
        assert "trainable" in caught.value.next_step


def test_layers_that_are_frozen_stay_as_they_are_and_the_others_learn(keras: Any) -> None:
    model, untouched = small(keras), small(keras)
    model.get_layer("stem").trainable = False
    fit(model, EXAMPLES, schedule(epochs=1))
    assert np.array_equal(model.get_layer("stem").get_weights()[0], untouched.get_layer("stem").get_weights()[0])
    assert not np.array_equal(model.get_layer("kinds").get_weights()[0], untouched.get_layer("kinds").get_weights()[0])
    assert not model.get_layer("stem").trainable


def test_a_model_that_is_broken_already_is_refused(keras: Any) -> None:
    model = small(keras)
    model.get_layer("kinds").bias.assign([np.nan, 0, 0])
    with pytest.raises(TrainingError, match="before it is trained"):
        fit(model, EXAMPLES, schedule())


def test_a_subclassed_model_is_refused(keras: Any) -> None:
    class Own(keras.Model):
        def call(self, inputs: Any) -> Any:
            return inputs

    with pytest.raises(ConversionError):
        fit(Own(), EXAMPLES, schedule())


def own_batches(keras: Any, kind: str) -> Any:
    import tensorflow as tf

    data = tf.data.Dataset.from_tensor_slices((FLOATS, LABELS)).batch(32)

    class Sequence(keras.utils.PyDataset):
        def __len__(self) -> int:
            return 3

        def __getitem__(self, index: int) -> Any:
            rows = slice(index * 32, index * 32 + 32)
            return FLOATS[rows], LABELS[rows]

    return {
        "dataset": lambda: data,
        "uncounted": lambda: data.filter(lambda *_: True),
        "weighted": lambda: data.map(lambda x, y: (x, y, tf.ones(tf.shape(y)))),
        "named": lambda: data.map(lambda x, y: ({"photo": x}, y)),
        "one hot": lambda: data.map(lambda x, y: (x, tf.one_hot(y, 3))),
        "sequence": lambda: Sequence(),
    }[kind]()


def test_the_callers_own_batches_train_the_same_model_in_every_form(keras: Any) -> None:
    histories, models = [], []
    for kind in ("dataset", "uncounted", "weighted", "named", "one hot", "sequence"):
        models.append(small(keras, noisy=False))
        histories.append(fit(models[-1], own_batches(keras, kind), schedule()))
    assert [one.samples for one in histories] == [90] * 6
    for one in histories[1:]:
        assert one.losses == pytest.approx(histories[0].losses, rel=1e-5)


def test_two_inputs_and_tokens_train(keras: Any) -> None:
    layers = keras.layers
    words, values = keras.Input((4,), dtype="int32", name="words"), keras.Input((2,), name="values")
    joined = layers.Concatenate()([layers.Flatten()(layers.Embedding(9, 2)(words)), values])
    model = keras.Model([words, values], layers.Dense(1)(joined))
    inputs = RANDOM.integers(0, 9, (40, 4)), RANDOM.normal(size=(40, 2))
    history = fit(model, Examples(inputs, inputs[1].sum(axis=1)), schedule(epochs=30, learning_rate=0.05))
    assert history.losses[-1] < history.losses[0] / 10


def misfits(keras: Any) -> dict[str, Any]:
    data = own_batches(keras, "dataset")
    return {
        "shape": Examples((PIXELS[:, :7],), LABELS),
        "inputs": Examples((PIXELS, PIXELS), LABELS),
        "classes": Examples((PIXELS,), LABELS + 1),
        "floats for classes": Examples((PIXELS,), LABELS.astype(np.float32)),
        "not batched": data.unbatch(),
        "no labels": data.map(lambda x, _: x),
        "endless": data.repeat(),
        "empty": data.take(0),
        "labels of another shape": data.map(lambda x, _: (x, x)),
        "another name": data.map(lambda x, y: ({"picture": x}, y)),
        "arrays": (PIXELS, LABELS),
    }


def test_data_that_does_not_fit_is_refused_before_any_training(keras: Any) -> None:
    model = small(keras)
    for name, data in misfits(keras).items():
        with pytest.raises(TrainingError) as caught:
            fit(model, data, schedule(learning_rate=1.0))
        assert caught.value.received, name
        assert caught.value.expected, name
    assert same(model, small(keras))


def test_a_class_beyond_the_outputs_in_the_callers_own_batches_is_no_traceback_of_tensorflows(keras: Any) -> None:
    with pytest.raises(TrainingError, match="TensorFlow stopped") as caught:
        fit(small(keras), own_batches(keras, "dataset").map(lambda x, y: (x, y + 1)), schedule())
    assert "label value of 3" in caught.value.received


def test_a_schedule_checks_itself() -> None:
    for changes in ({"epochs": 0}, {"learning_rate": 0.0}, {"learning_rate": math.nan}, {"seed": -1}):
        with pytest.raises(ConversionError):
            schedule(**changes)


@pytest.mark.slow
def test_under_a_strategy_two_replicas_train_what_one_process_trains() -> None:
    # One batch an epoch: Keras looks at a batch more under a strategy, so the order of the samples is another one.
    # Devices can be split before TensorFlow starts only, so this has a process of its own.
    code = """
    import os
    os.environ["TF_CPP_MIN_LOG_LEVEL"], os.environ["CUDA_VISIBLE_DEVICES"] = "3", ""
    import numpy as np, keras, tensorflow as tf
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    from converters.distill import distill
    from converters.steps import Distill, Fit
    from converters.train.batches import Examples
    from converters.train.fit import Schedule, fit
    x = np.random.default_rng(0).normal(size=(64, 6, 6, 3)); data = Examples((x,), np.arange(64) % 3)
    def model(width):
        keras.utils.set_random_seed(width)
        layers = keras.layers
        return keras.Sequential([keras.Input((6, 6, 3)), layers.Conv2D(width, 3, name="stem", kernel_regularizer="l2"),
                                 layers.GlobalAveragePooling2D(), layers.Dense(3, activation="softmax")])
    teacher = model(5)
    def runs():
        one, two = model(4), model(4)
        first = fit(one, data, Schedule(2, 1e-2, Fit(batch_size=64)))
        step = Distill(epochs=2, learning_rate=1e-2, attention={"stem": "stem"}, features={"stem": "stem"})
        second = distill(two, teacher, step, data, schedule=Schedule(2, 1e-2, Fit(batch_size=64)))
        return first.losses, second.losses, one.get_weights(), two.get_weights()
    alone = runs()
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    build = model
    def model(width):
        with strategy.scope():
            return build(width)
    together = runs()
    for a, b in zip(alone[:2], together[:2]):
        np.testing.assert_allclose(a, b, rtol=1e-4)
    for a, b in zip(alone[2] + alone[3], together[2] + together[3]):
        np.testing.assert_allclose(a, b, atol=2e-4)
    print("same")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=280, check=False
    )
    assert done.stdout.strip().endswith("same"), done.stderr[-2000:]
