"""Training on labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from converters.graph.network import functional_graph
from converters.train.batches import Examples
from converters.train.loop import History, Schedule, check_trainable, compile_for, run
from converters.train.source import open_batches
from edgeinfer.progress import ProgressReport

__all__ = ["History", "Schedule", "fit"]


def fit(
    model: Any,
    data: Examples | Any,
    schedule: Schedule,
    *,
    callbacks: Sequence[Any] = (),
    progress: ProgressReport | None = None,
) -> History:
    """Train a model on labels, in place.

    The loss goes by what the model ends in and by the labels: cross-entropy for a softmax, or for class numbers and
    logits; binary cross-entropy for a sigmoid, or for 0 and 1 and one logit; mean squared error for floats. Layers that
    are frozen stay so. Whatever the model was compiled with stays, and nothing of the optimizer is left on it. It
    trains under the `tf.distribute` strategy that it was made in.

    The same model, data and seed give the same weights on the same machine, bit by bit on a processor: nothing else has
    to be seeded, neither TensorFlow nor Keras. That leaves out custom layers that draw without a `SeedGenerator`, and
    the order of the caller's own batches.

    Args:
        model: Functional or Sequential, with one output.
        data: `Examples`, or batches (x, y) or (x, y, sample weights) of the model's own input, one epoch long: a
            `tf.data.Dataset` or a `keras.utils.PyDataset`.
        schedule: How long, how fast.
        callbacks: Keras callbacks, called before the loop's own. Their `model` shares all layers with `model`.
        progress: Called after every batch.

    Raises:
        TrainingError: The data does not fit the model, nothing of the model can be trained, or the loss is no finite
            number any more; then the model has the weights of its best epoch, or those that it came with.
        ConversionError: The model is neither functional nor Sequential.
    """
    import keras

    outputs = functional_graph(model).outputs
    check_trainable(model)
    batches = open_batches(model, data, schedule.fit, schedule.seed)
    with model.distribute_strategy.scope():
        # Another model of the same layers: compiling it leaves the caller's as it is.
        trainer = keras.Model(batches.inputs, outputs[0], name=model.name)
        compile_for(trainer, batches.goal.loss(), schedule, batches.steps)
    return run(trainer, model, batches, schedule, callbacks=callbacks, progress=progress)
