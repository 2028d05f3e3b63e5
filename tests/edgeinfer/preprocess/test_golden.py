"""This machine agrees with the golden vectors, and a machine that does not is found out."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest

from edgeinfer.model.metadata import Filter
from edgeinfer.preprocess import libraries, tensor
from edgeinfer.preprocess.golden import check_golden, golden_picture

pytestmark = pytest.mark.device


@pytest.mark.parametrize("library", ["opencv", "pillow"])
def test_this_machine_agrees_with_the_golden_vectors(library, monkeypatch):
    if library == "opencv":
        pytest.importorskip("cv2", reason="OpenCV is not installed")
    else:
        monkeypatch.setattr(libraries, "opencv", lambda: None)
    wrong = [result for result in check_golden() if not result.ok]
    assert wrong == []


def test_every_filter_mode_and_kind_of_tensor_has_a_vector():
    names = " ".join(result.name for result in check_golden())
    tensors = ("stretch", "letterbox", "crop", "grey", "int8 by flipping", "int8 by table", "float32")
    for word in (*get_args(Filter), *tensors, "quantize", "JPEG"):
        assert word in names


def test_the_picture_is_the_formula():
    picture = golden_picture()
    assert picture.shape == (9, 13, 3)
    assert picture[0, 0].tolist() == [0, 85, 170]
    assert picture[8, 12, 2] == (37 * 12 + 61 * 8 + 85 * 2 + 7 * 12 * 8) % 256


def test_red_and_blue_exchanged_are_found_out(monkeypatch):
    draw = tensor.draw
    monkeypatch.setattr(tensor, "draw", lambda image, *rest: draw(np.ascontiguousarray(image[..., ::-1]), *rest))
    assert not all(result.ok for result in check_golden())


def test_rows_and_columns_exchanged_are_found_out(monkeypatch):
    draw = tensor.draw
    monkeypatch.setattr(tensor, "draw", lambda image, *rest: draw(image[::-1], *rest))
    assert not all(result.ok for result in check_golden())
