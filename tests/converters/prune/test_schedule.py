"""The way to the final sparsity, against the paper's formula."""

from __future__ import annotations

import pytest

from converters.errors import RecipeError
from converters.prune.schedule import SparsitySchedule


@pytest.mark.parametrize(
    ("step", "wanted"),
    # 400 steps, so the curve ends at 300: 1 - (1 - t / 300)^3 by hand.
    [(0, 0.0), (75, 0.578125), (150, 0.875), (225, 0.984375), (300, 1.0), (399, 1.0)],
)
def test_the_polynomial_schedule_is_the_cubic_of_the_paper_and_ends_at_three_quarters(step: int, wanted: float) -> None:
    assert SparsitySchedule("polynomial", 400).progress(step) == pytest.approx(wanted, abs=1e-12)


def test_the_constant_schedule_is_complete_before_the_first_step_and_never_due_again() -> None:
    schedule = SparsitySchedule("constant", 400)
    assert schedule.progress(0) == 1.0
    assert schedule.due(0, -1)
    assert not any(schedule.due(step, 0) for step in range(1, 401))


def test_the_polynomial_schedule_is_updated_about_a_hundred_times_and_at_its_very_end() -> None:
    schedule, last, updates = SparsitySchedule("polynomial", 4004), -1, []
    for step in range(4005):
        if schedule.due(step, last):
            updates.append(step)
            last = step
    assert updates[:3] == [0, 30, 60]
    assert updates[-1] == 3003
    assert len(updates) == 102


def test_steps_that_jump_over_the_end_make_the_last_update_all_the_same() -> None:
    schedule = SparsitySchedule("polynomial", 40)
    assert schedule.due(35, 28)
    assert schedule.progress(35) == 1.0
    assert not schedule.due(40, 35)


def test_a_training_of_one_step_reaches_the_final_sparsity_with_it() -> None:
    schedule = SparsitySchedule("polynomial", 1)
    assert (schedule.progress(0), schedule.progress(1)) == (0.0, 1.0)


@pytest.mark.parametrize("steps", [0, -3, 2.5, True])
def test_a_number_of_steps_that_is_none_is_refused(steps: int) -> None:
    with pytest.raises(RecipeError, match="steps_total"):
        SparsitySchedule("polynomial", steps)
