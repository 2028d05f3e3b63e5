"""Targets: what is known of devices, and what a wrong name is told."""

from __future__ import annotations

import pytest

from converters.errors import RecipeError
from converters.targets import TARGETS, target
from edgeinfer.model.ops import ceilings


def test_every_target_is_found_by_its_name() -> None:
    assert [target(one.name) for one in TARGETS] == list(TARGETS)


def test_the_names_are_all_different() -> None:
    assert len({one.name for one in TARGETS}) == len(TARGETS)


def test_a_raspberry_pi_must_run_the_file_in_litert_and_in_tflite_runtime() -> None:
    assert set(target("raspberrypi").engines) == {"litert", "tflite-runtime"}


def test_dense_weights_have_one_scale_exactly_where_an_engine_refuses_the_other_form() -> None:
    # TensorFlow 2.21 writes FULLY_CONNECTED version 12 for dynamic range Dense with one scale per channel.
    for one in TARGETS:
        refused = any(ceilings(engine).versions["FULLY_CONNECTED"] < 12 for engine in one.engines)
        assert one.per_tensor_dense == refused, one.name


def test_every_target_says_where_its_facts_come_from() -> None:
    assert all(one.description and one.source for one in TARGETS)


def test_an_unknown_name_is_told_all_names_and_the_closest_one() -> None:
    with pytest.raises(RecipeError, match='"cpu", "raspberrypi"') as caught:
        target("Raspberry-Pi")
    assert caught.value.next_step == 'Did you mean "raspberrypi"?'


def test_a_name_like_no_other_gets_no_guess() -> None:
    with pytest.raises(RecipeError) as caught:
        target("toaster")
    assert caught.value.next_step == ""
