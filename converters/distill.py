"""Distillation: a student learns from the labels and from what a teacher answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from converters.errors import RecipeError, TrainingError
from converters.graph.network import computable_order, functional_graph
from converters.settings import close_name
from converters.steps import Distill, Fit
from converters.train.answers import answer_models, answer_of
from converters.train.endings import find_ending, kind_on, only_output
from converters.train.labels import Goal, fits
from converters.train.loop import History, Schedule, check_trainable, compile_for, run
from converters.train.losses import distillation_losses
from converters.train.source import Batches, open_batches
from converters.train.tflite_teacher import FileTeacher
from edgeinfer.progress import ProgressReport

__all__ = ["distill"]

Shape = tuple[int | None, ...]

# What the teacher has to end in, by what the student is trained to.
_ENDINGS = {"classes": ("softmax", "linear"), "binary": ("sigmoid", "linear"), "values": ("linear",)}


@dataclass(frozen=True, slots=True, eq=False)
class _Pair:
    """Two layers whose outputs, symbolic tensors, are compared."""

    setting: str
    names: tuple[str, str]  # the teacher's, the student's
    teacher: Any
    student: Any

    @property
    def shapes(self) -> tuple[Shape, Shape]:
        return tuple(self.teacher.shape), tuple(self.student.shape)

    def __str__(self) -> str:
        said = [f"`{name}` {shape}" for name, shape in zip(self.names, self.shapes, strict=True)]
        return " and ".join(said)


def distill(
    student: Any,
    teacher: Any,
    step: Distill,
    data: Any,
    *,
    schedule: Schedule | None = None,
    callbacks: Sequence[Any] = (),
    progress: ProgressReport | None = None,
) -> History:
    """Train a student on labels and a teacher's answers, in place.

    The loss of a batch is

        (1 - alpha) * loss(labels, student) + alpha * T^2 * KL(softmax(teacher / T) || softmax(student / T))
        + feature_weight * (sum over `attention` + sum over `features`) + the student's own regularizers

    Teacher and student stand for their logits: a softmax or sigmoid that a model ends in is left out while it is
    compared, and only then. For outputs that are each a yes or no, sigmoid stands for softmax and the mean over the
    outputs is taken; for values (labels are floats, the student ends in neither) KL and T give way to the mean squared
    error between both. `features` compares by mean squared error over all elements, behind a 1x1 projection with bias
    where the widths differ; `attention` by the distance of the normalized maps, see `converters.train.losses`.

    The teacher is only asked, as at inference; its weights and its `trainable` flags stay as they are.

    Args:
        student: Functional or Sequential, with one output.
        teacher: Another such model with the same inputs and the same output shape; or the path of a `.tflite` file,
            whose answers come from the device's engine.
        step: The settings.
        data: As for `converters.train.fit.fit`, without sample weights.
        schedule: How it trains; its seed is that of the projections too. None takes epochs and rate from the step,
            and the defaults for the rest.
        callbacks: Keras callbacks, called before the loop's own. Their `model` is the student and its teacher together.
        progress: Called after every batch.

    Raises:
        RecipeError: The teacher does not go with the student, or a layer is not there or cannot be compared.
        TrainingError: As for `fit`.
        ConversionError: A model is neither functional nor Sequential.
        EdgeInferError: A teacher's file cannot be used, see `edgeinfer.runtime.runtime.Runtime`.

    Source: Hinton et al. 2015, arXiv:1503.02531, section 2; Zagoruyko and Komodakis 2017, arXiv:1612.03928, equation 2
    (its beta is `feature_weight`); Romero et al. 2015, arXiv:1412.6550, equation 3 (its half left out).
    """
    if teacher is student:
        raise RecipeError("A model cannot be its own teacher.", received="one model twice", expected="two models")
    only_output(student)
    check_trainable(student)
    schedule = schedule or Schedule(step.epochs, step.learning_rate, Fit(), 0, "distill")
    batches = open_batches(student, data, schedule.fit, schedule.seed)
    if batches.weighted:
        raise TrainingError(
            "Distillation knows no sample weights.",
            received="batches (x, y, sample weights)",
            expected="batches (x, y)",
            next_step="Leave them out: `data.map(lambda x, y, weights: (x, y))`.",
        )
    pairs = _pairs(student, teacher, step)
    with student.distribute_strategy.scope():
        guide = _guide(student, teacher, batches, pairs)
        trainer = _distiller(_learner(student, batches, pairs, schedule.seed), guide, step, batches.goal, pairs)
        compile_for(trainer, _label_losses(step, batches.goal, len(pairs)), schedule, batches.steps)
    return run(trainer, student, batches, schedule, callbacks=callbacks, progress=progress)


def _guide(student: Any, teacher: Any, batches: Batches, pairs: Sequence[_Pair]) -> Any:
    """Return the teacher as a Keras model that answers with a tuple: logits or values, then the layers of the pairs."""
    ends = _ENDINGS[batches.goal.task]
    answer: Callable[[Any, bool], tuple[Any, ...]]
    if isinstance(teacher, str | Path):
        file = FileTeacher(Path(teacher), batches.examples)
        name, kind, answer, jit = f"`{file.path}`", file.kind, file.answer, False
        _check_shapes(student, name, file.input_shapes, file.output_shape)
    else:
        name, jit = f"`{teacher.name}`", True
        inputs = functional_graph(teacher).inputs
        _check_shapes(student, name, [tuple(one.shape) for one in inputs], tuple(_single_output(teacher).shape))
        ending = find_ending(teacher)
        kind = kind_on(teacher, ending, batches.first()) if ending.kind == "unknown" else ending.kind
        _, answer = answer_of(
            teacher, _inputs_like(student, teacher, batches), ending, [p.teacher for p in pairs], kind
        )
    if kind not in ends:
        raise RecipeError(
            "The teacher's answers are of another kind than the student's.",
            received=f"teacher {name} ends in {kind}, the student is trained to {batches.goal.task}",
            expected=f"a teacher that ends in {' or '.join(ends)}",
        )
    return answer_models().teacher(answer, jit)


def _single_output(teacher: Any) -> Any:
    outputs = functional_graph(teacher).outputs
    if len(outputs) != 1:
        raise RecipeError(
            "A teacher has one output.", received=f"`{teacher.name}` with {len(outputs)}", expected="one output"
        )
    return outputs[0]


def _check_shapes(student: Any, name: str, inputs: Sequence[Shape], output: Shape) -> None:
    own = [tuple(one.shape) for one in functional_graph(student).inputs]
    if len(own) != len(inputs) or not all(fits(a[1:], b[1:]) for a, b in zip(own, inputs, strict=True)):
        raise RecipeError(
            "Teacher and student take different inputs.",
            received=f"teacher {name} {', '.join(map(str, inputs))}; student `{student.name}` "
            f"{', '.join(map(str, own))}",
            expected="the same shapes in the same order",
        )
    answer = tuple(only_output(student).shape)
    if not fits(answer[1:], output[1:]):
        raise RecipeError(
            "Teacher and student answer in different shapes.",
            received=f"teacher {name} {output}; student `{student.name}` {answer}",
            expected="the same shape: the same classes in the same order",
        )


def _inputs_like(student: Any, teacher: Any, batches: Batches) -> Any:
    """Return the teacher's symbolic inputs in the structure that batches hand over to the student."""
    import keras

    mine, others = functional_graph(student).inputs, functional_graph(teacher).inputs
    place = {id(one): other for one, other in zip(mine, others, strict=True)}
    return keras.tree.map_structure(lambda one: place[id(one)], batches.inputs)


def _learner(student: Any, batches: Batches, pairs: Sequence[_Pair], seed: int) -> Any:
    """Return the student as a Keras model that answers with a tuple; it holds the projections, the student does not."""
    import keras

    tensors = [pair.student for pair in pairs]
    graph, answer = answer_of(student, batches.inputs, batches.ending, tensors, batches.goal.kind)
    ends: list[Any] = []
    for number, pair in enumerate(pairs):
        wanted, own = pair.shapes
        if pair.setting == "attention" or wanted[-1] == own[-1]:
            ends.append(None)
            continue
        drawn = int(np.random.SeedSequence((seed, number)).generate_state(1)[0])
        # On the last axis of features, a dense layer is the 1x1 convolution, whatever their rank.
        start = keras.initializers.GlorotUniform(seed=drawn)
        ends.append(keras.layers.Dense(wanted[-1], kernel_initializer=start, name=f"projection_{number}"))
        ends[-1].build(own)
    return answer_models().student(answer, graph, ends)


def _distiller(learner: Any, guide: Any, step: Distill, goal: Goal, pairs: Sequence[_Pair]) -> Any:
    """Return the model that is trained.

    Keras weighs the labels with w and everything else with 1 - w. At w = 1/2 each part gets its own weight here, and
    `feature_weight` counts alike at every alpha, 0 included.
    """
    import keras

    own = distillation_losses()
    blank = (None,) * len(pairs)
    if goal.task == "values":
        answers = keras.distillation.FeatureDistillation((keras.losses.MeanSquaredError(), *blank))
    else:
        divergence = (own.classes if goal.task == "classes" else own.binary)(step.temperature)
        answers = keras.distillation.LogitsDistillation(step.temperature, (divergence, *blank))
    parts, weights = [answers], [2 * step.alpha]
    if pairs:
        kinds = {"attention": own.attention, "features": keras.losses.MeanSquaredError}
        parts.append(keras.distillation.FeatureDistillation((None, *(kinds[pair.setting]() for pair in pairs))))
        weights.append(2 * step.feature_weight)
    return answer_models().distiller(guide, learner, parts, weights, student_loss_weight=0.5)


def _label_losses(step: Distill, goal: Goal, pairs: int) -> tuple[Any, ...]:
    """Return the loss of the labels on logits, with the weight that `_distiller` leaves it, and nothing for pairs."""
    loss, weight = replace(goal, from_logits=goal.task != "values").loss(), 2 * (1 - step.alpha)
    return (lambda labels, answers: weight * loss(labels, answers), *(lambda *_: 0.0,) * pairs)


def _pairs(student: Any, teacher: Any, step: Distill) -> list[_Pair]:
    named = [(setting, *pair) for setting in ("attention", "features") for pair in getattr(step, setting)]
    if named and isinstance(teacher, str | Path):
        raise RecipeError(
            "A teacher that is a file answers, and shows nothing of its layers.",
            received=f"`{teacher}`, {named[0][0]}={{{named[0][1]!r}: {named[0][2]!r}}}",
            expected="a Keras model for `attention` and `features`",
        )
    return [_pair(setting, teacher, one, student, other) for setting, one, other in named]


def _pair(setting: str, teacher: Any, one: str, student: Any, other: str) -> _Pair:
    pair = _Pair(
        setting, (one, other), _layer_output(teacher, one, "teacher"), _layer_output(student, other, "student")
    )
    shapes = pair.shapes
    if setting == "attention" and min(map(len, shapes)) < 3:
        raise RecipeError(
            "Layers without positions have no attention map.",
            received=str(pair),
            expected="(batch, height, width, channels) or (batch, steps, channels)",
            next_step="Compare them as `features`.",
        )
    # The batch and the channels may differ, or are checked elsewhere.
    if not fits(shapes[0][1:-1], shapes[1][1:-1]) or None in (shapes[0][-1], shapes[1][-1]):
        raise RecipeError(
            f"`{setting}` compares layers position by position.",
            received=str(pair),
            expected="the same sizes in all but the last axis",
            next_step="Choose layers of the same stage of both models, e.g. before the same downsampling.",
        )
    return pair


def _layer_output(model: Any, name: str, whose: str) -> Any:
    import keras

    graph = functional_graph(model)
    layers = {layer.name: layer for layer in graph.layers}
    if name not in layers:
        close = close_name(name, layers)
        raise RecipeError(
            f"The {whose} `{model.name}` has no layer `{name}`.",
            received=name,
            expected=", ".join([*layers][:20]),
            next_step=close or "Layers of a model inside it are reached after `converters.graph.flat.flat_model`.",
        )
    calls = [node for node in computable_order(graph) if node.operation is layers[name]]
    outputs = calls[0].outputs if len(calls) == 1 else []
    if len(outputs) != 1 or not isinstance(outputs[0], keras.KerasTensor):
        raise RecipeError(
            f"The layer `{name}` of the {whose} has not one output.",
            received=f"{len(calls)} calls",
            expected="a layer that is called once and returns one tensor",
        )
    return outputs[0]
