"""The sheet of the demo says which answers are right: by colour, and by a mark for those who do not see it."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

PillowImage = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
DEMOS = Path(__file__).resolve().parents[2] / "demos"
CELL, MARK = 160, 22


@pytest.fixture
def sheets(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(DEMOS)
    return import_module("contact_sheet")


@pytest.fixture
def cells(sheets: Any, tmp_path: Path) -> list[np.ndarray]:
    """The cells of a right and a wrong answer to the same black picture: (height, 160, 3)."""
    PillowImage.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "black.png")
    answers = [
        sheets.Answer(tmp_path / "black.png", label="three", confidence=0.9, truth=truth, is_right=truth == "three")
        for truth in ("three", "eight")
    ]
    with PillowImage.open(sheets.contact_sheet(answers, tmp_path / "sheet.png")) as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    return [pixels[:, :CELL], pixels[:, CELL : 2 * CELL]]


def test_a_right_answer_has_a_green_frame_and_a_wrong_one_a_red_frame(cells: list[np.ndarray]) -> None:
    right, wrong = (cell[80, 6] for cell in cells)  # the left side, half way down
    assert right[1] > right[0]
    assert right[1] > right[2]
    assert wrong[0] > wrong[1]
    assert wrong[0] > wrong[2]


def test_the_mark_in_the_corner_is_another_shape(cells: list[np.ndarray]) -> None:
    shapes = [(cell[4 : 4 + MARK, CELL - 4 - MARK : CELL - 4].min(axis=2) == 255) for cell in cells]
    assert all(shape.any() for shape in shapes)
    assert not np.array_equal(*shapes)
    cross = shapes[1]
    assert (cross == cross[:, ::-1]).mean() > 0.9  # a tick has no such symmetry
    assert (shapes[0] == shapes[0][:, ::-1]).mean() < 0.9


def test_below_a_wrong_answer_stands_what_it_is(cells: list[np.ndarray]) -> None:
    second_lines = [cell[CELL + 22 :].min() < 255 for cell in cells]
    assert second_lines == [False, True]


def test_the_chosen_samples_are_spread_evenly_and_none_comes_twice(sheets: Any) -> None:
    assert sheets.chosen(23).tolist() == list(range(0, 23, 2))
    assert sheets.chosen(3).tolist() == [0, 1, 2]
