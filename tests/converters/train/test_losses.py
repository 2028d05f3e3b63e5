"""Distances between teacher and student, against NumPy and the papers' formulas."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from converters.train.losses import distillation_losses

pytestmark = pytest.mark.tensorflow
SEEDS = st.integers(0, 2**32 - 1)


def softmax(logits: Any) -> Any:
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)


def sigmoid(logits: Any) -> Any:
    return 1 / (1 + np.exp(-logits))


def logits_of(seed: int, shape: tuple[int, ...] = (4, 5)) -> Any:
    return np.random.default_rng(seed).normal(0, 5, (2, *shape)).astype(np.float32)


@settings(max_examples=20, deadline=None)
@given(SEEDS, st.floats(0.5, 20))
def test_classes_are_compared_as_hinton_says(keras: Any, seed: int, temperature: float) -> None:
    teacher, student = logits_of(seed)
    p, q = softmax(teacher.astype(np.float64) / temperature), softmax(student.astype(np.float64) / temperature)
    expected = temperature**2 * (p * np.log(p / q)).sum(axis=-1).mean()
    loss = keras.distillation.LogitsDistillation(temperature, distillation_losses().classes(temperature))
    assert float(loss.compute_loss(teacher, student)) == pytest.approx(expected, rel=1e-3, abs=1e-4)


@settings(max_examples=20, deadline=None)
@given(SEEDS, st.floats(1, 20))
def test_yes_or_no_outputs_are_compared_one_by_one(keras: Any, seed: int, temperature: float) -> None:
    teacher, student = logits_of(seed)
    p, q = sigmoid(teacher.astype(np.float64) / temperature), sigmoid(student.astype(np.float64) / temperature)
    expected = temperature**2 * (p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))).mean()
    loss = keras.distillation.LogitsDistillation(temperature, distillation_losses().binary(temperature))
    assert float(loss.compute_loss(teacher, student)) == pytest.approx(expected, rel=1e-3, abs=1e-4)


def gradient(loss: Any, teacher: Any, student: Any) -> Any:
    import tensorflow as tf

    variable = tf.Variable(student)
    with tf.GradientTape() as tape:
        value = loss(tf.constant(teacher), variable)
    return np.asarray(tape.gradient(value, variable))


def test_a_student_that_is_sure_of_the_wrong_class_still_learns(keras: Any) -> None:
    # d KL / d student = softmax(student) - softmax(teacher); clipped probabilities would leave 0.
    found = gradient(distillation_losses().classes(1.0), [[40.0, 0.0]], [[0.0, 40.0]])
    assert found == pytest.approx(np.array([[-1.0, 1.0]]), abs=1e-5)


def test_the_gradient_stays_as_large_at_any_temperature(keras: Any) -> None:
    # Hinton et al., equation 4: at high temperature T^2 times the gradient is (z_student - z_teacher) / n, zero-meaned.
    teacher, student = np.array([[1.0, 0.0, -1.0]], np.float32), np.array([[0.0, 0.0, 0.0]], np.float32)
    for temperature in (100.0, 400.0):
        found = gradient(
            lambda t, s, scale=temperature: distillation_losses().classes(scale)(t / scale, s / scale), teacher, student
        )
        assert found == pytest.approx((student - teacher) / 3, abs=3e-3)


def attention(features: Any) -> Any:
    energy = (features.astype(np.float64) ** 2).sum(axis=-1).reshape(len(features), -1)
    return energy / np.linalg.norm(energy, axis=1, keepdims=True)


@settings(max_examples=15, deadline=None)
@given(SEEDS, st.floats(1e-3, 1e3))
def test_attention_is_zagoruykos_equation_2_whatever_the_widths_and_the_scale(
    keras: Any, seed: int, scale: float
) -> None:
    random = np.random.default_rng(seed)
    teacher = random.normal(size=(3, 4, 5, 7)).astype(np.float32)
    student = (scale * random.normal(size=(3, 4, 5, 2))).astype(np.float32)
    expected = np.linalg.norm(attention(student) - attention(teacher), axis=1).mean() / 2
    assert float(distillation_losses().attention()(teacher, student)) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("factor", [1.0, 0.0], ids=["a copy of the teacher", "a dead layer"])
def test_attention_has_a_finite_gradient_where_a_norm_is_zero(keras: Any, factor: float) -> None:
    teacher = np.random.default_rng(0).normal(size=(2, 3, 3, 4)).astype(np.float32)
    loss = distillation_losses().attention()
    # A dead layer's map is all zeros; the teacher's has length 1.
    assert float(loss(teacher, factor * teacher)) == pytest.approx(0.0 if factor else 0.5, abs=1e-6)
    assert np.isfinite(gradient(loss, teacher, factor * teacher)).all()
