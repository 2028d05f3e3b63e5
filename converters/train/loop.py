"""The one loop that all training runs in: known length, silent, with progress, stopped where the loss is no number."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converters.errors import TrainingError
from converters.settings import check_above_zero, check_whole
from converters.steps import Fit
from converters.train.batches import Examples
from converters.train.source import Batches
from edgeinfer.progress import Progress, ProgressReport

__all__ = ["History", "Schedule", "check_trainable", "compile_for", "learning_rate_at", "run"]

_ROWS_AT_ONCE = 256


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long and how fast a model is trained.

    Attributes:
        epochs: Passes over the training data.
        learning_rate: Of Adam, at the start.
        fit: Batch size, how the learning rate falls, augmentation.
        seed: Of the order of the samples, the augmentation, and all layers that draw (Dropout and the like).
        name: What progress calls it.
    """

    epochs: int
    learning_rate: float
    fit: Fit
    seed: int = 0
    name: str = "train"

    def __post_init__(self) -> None:
        check_whole("epochs", self.epochs, 1, 100_000)
        check_above_zero("learning_rate", self.learning_rate)
        check_whole("seed", self.seed, 0, (1 << 63) - 1)


@dataclass(frozen=True, slots=True)
class History:
    """What a training was.

    Attributes:
        losses: Mean loss of each epoch, as the samples passed; not that of the finished model.
        seconds: All epochs together.
        samples: Samples of one epoch.
    """

    losses: tuple[float, ...]
    seconds: float
    samples: int


def learning_rate_at(schedule: Schedule, step: int, steps: int) -> float:
    """Return the learning rate of a step, counted from 0, of a training of `steps` in all.

    Source: Loshchilov and Hutter 2017, arXiv:1608.03983, equation 5, with one period and a minimum of 0:
    rate * (1 + cos(pi * step / steps)) / 2.
    """
    if schedule.fit.schedule == "constant":
        return schedule.learning_rate
    return schedule.learning_rate * (1 + math.cos(math.pi * min(step, steps) / steps)) / 2


def check_trainable(model: Any) -> None:
    """Refuse a model that training would leave as it is, or could only make worse.

    Raises:
        TrainingError: All its weights are frozen, there are none, or one is not finite.
    """
    if not model.trainable_weights:
        frozen = [layer.name for layer in model._flatten_layers() if layer.weights and not layer.trainable]
        raise TrainingError(
            f"Nothing of the model `{model.name}` can be trained.",
            received=f"{len(frozen)} frozen layers" if frozen else "no weights",
            expected="at least one layer with `trainable=True`",
            next_step="`model.trainable = True` lets all layers learn. A model cloned from a frozen one is frozen, too."
            if frozen
            else "",
        )
    if not _is_finite(model.get_weights()):
        raise TrainingError(
            f"The model `{model.name}` has weights that are not finite before it is trained.",
            received="NaN or infinite weights",
            expected="finite weights",
            next_step="Take the model from before whatever training broke it.",
        )


def compile_for(trainer: Any, loss: Any, schedule: Schedule, steps: int) -> None:
    """Give a model the optimizer of a training; called in the scope of the model's own strategy.

    Args:
        trainer: What will be trained.
        loss: As its `compile` takes it.
        schedule: How long, how fast.
        steps: Batches of an epoch.
    """
    import keras

    rate: Any = schedule.learning_rate
    if schedule.fit.schedule == "cosine":
        rate = keras.optimizers.schedules.CosineDecay(rate, schedule.epochs * steps)
    trainer.compile(optimizer=keras.optimizers.Adam(rate), loss=loss, jit_compile=_jit())


def _jit() -> Any:
    """Return whether XLA compiles the training step: Keras decides where there is an accelerator.

    On processors alone its code is the slower one: an epoch of ResNet-8 takes 1.4 times as long with it (x86-64).
    """
    import tensorflow as tf

    others = [device for device in tf.config.list_logical_devices() if device.device_type != "CPU"]
    return "auto" if others else False


def run(
    trainer: Any,
    model: Any,
    batches: Batches,
    schedule: Schedule,
    *,
    callbacks: Sequence[Any] = (),
    progress: ProgressReport | None = None,
) -> History:
    """Train, and stop at once where the loss is no finite number.

    Args:
        trainer: A compiled Keras model that holds the layers of `model`, and maybe more.
        model: Whose weights count; it has those of its best epoch again after a stop.
        batches: Of `model`.
        schedule: How long, how fast.
        callbacks: Keras callbacks, called before the loop's own.
        progress: Called after every batch.

    Raises:
        TrainingError: The loss is no finite number, or TensorFlow gave up.
    """
    import tensorflow as tf

    _reset_draws(trainer, schedule.seed)
    watch = _Watch(trainer, model, batches, schedule, progress)
    started = time.perf_counter()
    try:
        trainer.fit(
            batches.data,
            epochs=schedule.epochs,
            verbose=0,
            shuffle=False,
            callbacks=[*callbacks, _callback(watch)],
        )
    except tf.errors.OpError as error:
        raise TrainingError(
            "TensorFlow stopped the training.",
            received=f"{type(error).__name__}: {_first_line(error)}",
            next_step="Make `batch_size` smaller."
            if isinstance(error, tf.errors.ResourceExhaustedError)
            else "Class numbers that the model has not, and batches that cannot be read, are what does it.",
        ) from error
    seconds = time.perf_counter() - started
    samples = batches.samples if batches.samples is not None else watch.samples
    return History(tuple(watch.losses), seconds, samples)


def _first_line(error: Any) -> str:
    lines = [line.strip() for line in str(error.message).splitlines() if line.strip()]
    said = [line for line in lines if not line.startswith(("Detected at node", "File ", "Graph execution error"))]
    return (said or lines or [""])[0][:300]


def _reset_draws(trainer: Any, seed: int) -> None:
    """Set the state of every layer that draws; without it two trainings of one model would draw differently."""
    states = [one for one in trainer.variables if one.name == "seed_generator_state"]
    for number, state in enumerate(states):
        # A number of its own for each: two Dropout layers of one shape must not drop the same.
        drawn = int(np.random.SeedSequence((seed, number)).generate_state(1)[0])
        state.assign(np.array([drawn, 0], state.dtype))


def _is_finite(weights: Sequence[NDArray[Any]]) -> bool:
    return all(np.isfinite(one).all() for one in weights if one.dtype.kind == "f")


class _Watch:
    """What the loop does between two batches."""

    def __init__(
        self, trainer: Any, model: Any, batches: Batches, schedule: Schedule, progress: ProgressReport | None
    ) -> None:
        self.losses: list[float] = []
        self.samples = 0
        self._trainer, self._model, self._batches, self._schedule = trainer, model, batches, schedule
        self._report: Callable[[Progress], None] = progress or (lambda _: None)
        self._best: list[NDArray[Any]] = model.get_weights()
        self._epoch = 0

    def begin_epoch(self, epoch: int) -> None:
        self._epoch = epoch
        if epoch == 0:  # building the graph takes seconds; something should stand there meanwhile
            self._report(Progress(f"{self._schedule.name} 1/{self._schedule.epochs}", 0, self._steps))

    def end_batch(self, batch: int, loss: float) -> None:
        if not math.isfinite(loss):
            self._stop(batch, f"loss {loss}")
        said = f"{self._schedule.name} {self._epoch + 1}/{self._schedule.epochs}, loss {loss:.4f}"
        self._report(Progress(said, self._epoch * self._batches.steps + batch + 1, self._steps))

    def end_epoch(self, loss: float) -> None:
        weights = self._model.get_weights()
        if not _is_finite(weights):  # the last step can break them, and no loss would tell
            self._stop(self._batches.steps - 1, "weights that are not finite")
        if loss < min(self.losses, default=math.inf):
            self._best = weights
        self.losses.append(loss)
        # Keras weighs the mean loss with the batches' sizes, so their sum is the number of samples.
        self.samples = round(float(np.asarray(self._trainer.metrics[0].count)))

    @property
    def _steps(self) -> int:
        return self._schedule.epochs * self._batches.steps

    def _stop(self, batch: int, what: str) -> None:
        self._model.set_weights(self._best)
        _check_finite_inputs(self._batches.examples)
        step = self._epoch * self._batches.steps + batch
        rate = learning_rate_at(self._schedule, step, self._steps)
        kept = f"has the weights of epoch {int(np.argmin(self.losses)) + 1}" if self.losses else "is as it came"
        raise TrainingError(
            f"The loss of the training is no finite number any more; the model {kept}.",
            received=f"{what} in epoch {self._epoch + 1} of {self._schedule.epochs}, batch {batch + 1} of "
            f"{self._batches.steps}, at a learning rate of {rate:.3g}",
            expected="a finite loss",
            next_step=f"Lower the learning rate: `learning_rate={min(self._schedule.learning_rate / 10, 1e-3):.3g}`.",
        )


def _callback(watch: _Watch) -> Any:
    import keras

    class Watching(keras.callbacks.Callback):  # type: ignore[misc]
        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002
            watch.begin_epoch(epoch)

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            watch.end_batch(batch, float(logs["loss"]))

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002
            watch.end_epoch(float(logs["loss"]))

    return Watching()


def _check_finite_inputs(examples: Examples | None) -> None:
    """Say so where it is the data and not the learning rate; looked for late, because it reads all of it."""
    for number, array in enumerate(examples.inputs if examples is not None else ()):
        if array.dtype.kind != "f":
            continue
        for start in range(0, len(array), _ROWS_AT_ONCE):
            bad = ~np.isfinite(array[start : start + _ROWS_AT_ONCE])
            if bad.any():
                sample = start + int(np.argmax(bad.reshape(len(bad), -1).any(axis=1)))
                raise TrainingError(
                    "The training data holds values that are not finite.",
                    received=f"NaN or infinite in sample {sample} of input {number}",
                    expected="finite floats",
                )
