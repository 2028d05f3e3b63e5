"""Key points, worked out by hand from stored numbers; and a public model against its published points."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest
from echo import Recorder, answers, metadata, output
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeinfer.errors import InputError, MetadataError, ModelError, WrongTaskError
from edgeinfer.model.metadata import ModelMetadata, OutputSpec, Resize
from edgeinfer.pipeline import Pipeline
from edgeinfer.postprocess.pose import COCO_KEYPOINTS, pose_post
from edgeinfer.preprocess.geometry import View, place
from edgeinfer.preprocess.tensor import stretch
from edgeinfer.results import Keypoints
from edgeinfer.runtime.runtime import Runtime

pytestmark = pytest.mark.device

SQUARE = place(Resize(), (192, 192), (192, 192)).view
ONE = output("points", (1, 1, 17, 3))
SIX = output("bodies", (1, 6, 56))


def rows(y: float, x: float, confidence: float, points: int = 17) -> np.ndarray:
    return np.tile(np.array([y, x, confidence], np.float32), (points, 1))


def pose_of(spec: OutputSpec, stored: np.ndarray, view: View = SQUARE, **given: object) -> Keypoints:
    return pose_post(metadata(spec, size=view.tensor_size), **given)(answers((spec, stored)), view)  # type: ignore[arg-type]


# --- finished points ------------------------------------------------------------------------------


def test_shares_of_the_tensor_become_pixels_of_the_picture() -> None:
    view = place(Resize(), (640, 480), (192, 192)).view
    found = pose_of(ONE, rows(0.25, 0.5, 0.75), view)
    assert found.xy.shape == (1, 17, 2)
    assert np.unique(found.xy.reshape(-1, 2), axis=0).tolist() == [[320, 120]]
    assert np.unique(found.confidence).tolist() == [0.75]
    assert found.names == COCO_KEYPOINTS


def test_letterbox_bars_are_taken_off() -> None:
    view = place(Resize("letterbox"), (200, 100), (100, 100)).view  # the picture lies in rows 25 to 75
    found = pose_of(ONE, rows(0.5, 0.1, 1.0), view)
    assert found.xy[0, 0].tolist() == pytest.approx([20, 50])


def test_a_region_is_put_back_into_its_picture() -> None:
    view = place(Resize(), (100, 50), (192, 192)).view.within((640, 480), (300, 200, 400, 250))
    assert pose_of(ONE, rows(0.5, 0.5, 1.0), view).xy[0, 0].tolist() == pytest.approx([350, 225])


def test_points_outside_the_picture_stay_outside() -> None:
    assert pose_of(ONE, rows(-0.5, 1.5, 1.0)).xy[0, 0].tolist() == [288, -96]


def test_quantized_points_are_dequantized() -> None:
    # scale 1/256, zero point 0: 64, 128 and 192 are a quarter, a half and three quarters.
    found = pose_of(output("points", (1, 1, 17, 3), "uint8", (1 / 256, 0)), np.tile([64, 128, 192], (17, 1)))
    assert found.xy[0, 0].tolist() == [96, 48]
    assert found.confidence[0, 0] == 0.75


def bodies(*scores: float) -> np.ndarray:
    """Six rows; body i has all points at share (0.1 * i, 0.05 * i)."""
    stored = np.zeros((6, 56), np.float32)
    for row, score in enumerate(scores):
        stored[row, :51] = rows(0.05 * row, 0.1 * row, 0.5).reshape(-1)
        stored[row, 55] = score
    return stored


def test_bodies_below_the_score_are_not_there() -> None:
    found = pose_of(SIX, bodies(0.9, 0.1, 0.25, 0.0, 0.6))
    assert len(found) == 3
    np.testing.assert_allclose(found.xy[:, 0], [[0, 0], [0.2 * 192, 0.1 * 192], [0.4 * 192, 0.2 * 192]], rtol=1e-6)


def test_nobody_is_an_answer() -> None:
    found = pose_of(SIX, bodies(0.1, 0.2))
    assert len(found) == 0
    assert found.xy.shape == (0, 17, 2)


def test_every_body_is_there_where_no_score_is_asked() -> None:
    assert len(pose_of(SIX, bodies(0.1), body_score=0.0)) == 6


def test_the_role_allows_other_numbers_of_points() -> None:
    spec = output("points", (1, 1, 4, 3), role="keypoints")
    found = pose_of(spec, rows(0.5, 0.5, 1.0, points=4), names=("a", "b", "c", "d"))
    assert found.xy.shape == (1, 4, 2)
    assert found.names == ("a", "b", "c", "d")


def test_other_numbers_of_points_have_no_names_of_their_own() -> None:
    spec = output("bodies", (1, 2, 3 * 5 + 5), role="keypoints")
    stored = np.ones((2, 20), np.float32)
    assert pose_of(spec, stored).names == ()
    assert len(pose_of(spec, stored)) == 2


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place_in_row", [0, 1, 2])
def test_a_point_that_is_no_number_is_an_error(wrong: float, place_in_row: int) -> None:
    stored = rows(0.5, 0.5, 0.5)
    stored[7, place_in_row] = wrong
    with pytest.raises(ModelError, match="not a number"):
        pose_of(ONE, stored)


def test_a_confidence_beyond_its_ends_is_brought_back() -> None:
    # scale 1/100: 255 would be 2.55.
    found = pose_of(output("points", (1, 1, 17, 3), "uint8", (1 / 100, 0)), np.tile([50, 50, 255], (17, 1)))
    assert np.unique(found.confidence).tolist() == [1.0]


def test_a_body_whose_score_is_no_number_is_kept() -> None:
    assert len(pose_of(SIX, bodies(math.nan))) == 1


def test_a_kept_error_does_not_block_the_model() -> None:
    model, post = Recorder(ONE), pose_post(metadata(ONE, size=(192, 192)))
    with pytest.raises(ModelError) as kept:
        post(model.answer(np.full((17, 3), np.nan, np.float32)), SQUARE)
    assert len(post(model.answer(rows(0.5, 0.5, 0.5)), SQUARE)) == 1, kept


# --- heat maps ------------------------------------------------------------------------------------


def one_point(
    cell: tuple[int, int], shift: tuple[float, float], score: float, cells: tuple[int, int] = (9, 9), points: int = 3
) -> tuple[np.ndarray, np.ndarray]:
    """Heat maps and offsets: point 1 in this (row, column), shifted by (y, x) pixels; the others in cell (0, 0)."""
    heat = np.full((*cells, points), -8.0, np.float32)
    heat[0, 0] = 0.0
    heat[0, 0, 1] = -8.0
    heat[(*cell, 1)] = score
    offsets = np.full((*cells, 2 * points), 100.0, np.float32)
    offsets[0, 0] = 0.0
    offsets[(*cell, 1)] = shift[0]
    offsets[(*cell, points + 1)] = shift[1]
    return heat, offsets


HEAT, OFFSETS = output("a", (1, 9, 9, 3)), output("b", (1, 9, 9, 6))
POSENET = place(Resize(), (257, 257), (257, 257)).view


def test_a_point_is_the_highest_cell_and_its_offset() -> None:
    heat, offsets = one_point((2, 5), (3.0, -4.0), math.log(3))
    found = pose_post(metadata(HEAT, OFFSETS, size=(257, 257)))(answers((HEAT, heat), (OFFSETS, offsets)), POSENET)
    # Stride 32: row 2 * 32 + 3, column 5 * 32 - 4; half a pixel from a pixel's left edge to its centre.
    assert found.xy[0].tolist() == [[0.5, 0.5], [156.5, 67.5], [0.5, 0.5]]
    assert found.confidence[0].tolist() == pytest.approx([0.5, 0.75, 0.5])  # the sigmoid of 0, ln 3, 0


def test_the_order_of_the_outputs_does_not_matter() -> None:
    heat, offsets = one_point((2, 5), (3.0, -4.0), 1.0)
    found = pose_post(metadata(OFFSETS, HEAT, size=(257, 257)))(answers((OFFSETS, offsets), (HEAT, heat)), POSENET)
    assert found.xy[0, 1].tolist() == [156.5, 67.5]


def test_probabilities_are_taken_as_they_are() -> None:
    heat, offsets = one_point((1, 1), (0.0, 0.0), 0.875)
    spec = output("a", (1, 9, 9, 3), activation="sigmoid")
    found = pose_post(metadata(spec, OFFSETS, size=(257, 257)))(answers((spec, heat), (OFFSETS, offsets)), POSENET)
    assert found.confidence[0, 1] == 0.875


def test_sides_that_are_no_multiple_and_one_share_the_pixels() -> None:
    heat, offsets = one_point((3, 1), (0.0, 0.0), 1.0, cells=(8, 8))
    specs = output("a", (1, 8, 8, 3)), output("b", (1, 8, 8, 6))
    view = place(Resize(), (256, 256), (256, 256)).view
    outputs = answers((specs[0], heat), (specs[1], offsets))
    assert pose_post(metadata(*specs, size=(256, 256)))(outputs, view).xy[0, 1].tolist() == [32.5, 96.5]


@given(
    st.integers(2, 6),
    st.integers(2, 6),
    st.integers(1, 4),
    st.integers(0, 2**32 - 1),
    st.sampled_from(["int8", "float32"]),
)
@settings(max_examples=25, deadline=None)
def test_it_is_a_loop_over_all_cells(height: int, width: int, points: int, seed: int, dtype: str) -> None:
    rng = np.random.default_rng(seed)
    quantization = (0.0625, 3) if dtype == "int8" else (0.0, 0)
    heat_spec = output("heat", (1, height, width, points), dtype, quantization, role="heatmap")
    offset_spec = output("offsets", (1, height, width, 2 * points), dtype, quantization, role="offsets")
    heat = rng.integers(-128, 128, heat_spec.shape[1:]).astype(dtype)
    offsets = rng.integers(-128, 128, offset_spec.shape[1:]).astype(dtype)
    size = (width - 1) * 16 + 1, (height - 1) * 16 + 1
    outputs = answers((heat_spec, heat), (offset_spec, offsets))
    found = pose_post(metadata(heat_spec, offset_spec, size=size))(outputs, place(Resize(), size, size).view)
    real = (lambda value: (float(value) - 3) * 0.0625) if dtype == "int8" else float
    for point in range(points):
        best = max(range(height * width), key=lambda cell: (heat[cell // width, cell % width, point], -cell))
        y, x = divmod(best, width)
        assert found.xy[0, point].tolist() == pytest.approx(
            [x * 16 + real(offsets[y, x, points + point]) + 0.5, y * 16 + real(offsets[y, x, point]) + 0.5], abs=1e-4
        )
        assert found.confidence[0, point] == pytest.approx(1 / (1 + math.exp(-real(heat[y, x, point]))), abs=1e-5)


def test_an_offset_that_is_no_number_is_an_error() -> None:
    heat, offsets = one_point((2, 5), (math.nan, 0.0), 1.0)
    with pytest.raises(ModelError, match="not a number"):
        pose_post(metadata(HEAT, OFFSETS, size=(257, 257)))(answers((HEAT, heat), (OFFSETS, offsets)), POSENET)


def test_a_heat_map_of_no_numbers_is_an_error() -> None:
    heat, offsets = one_point((2, 5), (0.0, 0.0), math.nan)
    with pytest.raises(ModelError, match="not a number"):
        pose_post(metadata(HEAT, OFFSETS, size=(257, 257)))(answers((HEAT, heat), (OFFSETS, offsets)), POSENET)


def test_further_outputs_of_posenet_are_left_alone() -> None:
    # Its four outputs: heat maps, offsets, and two displacements of 16 edges each.
    specs = [output(name, (1, 9, 9, channels)) for name, channels in zip("abcd", (17, 34, 32, 32), strict=True)]
    assert callable(pose_post(metadata(*specs, size=(257, 257))))


# --- which outputs --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "outputs",
    [
        [output("row", (1, 1000))],
        [output("few points", (1, 1, 5, 3))],
        [output("yolo", (1, 56, 8400))],
        [output("rows", (1, 8400, 56))],
        [output("a", (1, 9, 9, 3)), output("b", (1, 9, 9, 5))],
        [output("a", (1, 9, 9, 3)), output("b", (1, 9, 9, 6)), output("c", (1, 9, 9, 12))],
        [output("one", (1, 1, 17, 3)), output("other", (1, 1, 17, 3))],
    ],
    ids=["a row", "other points", "channels first", "many rows", "no pair", "two pairs", "two answers"],
)
def test_other_outputs_are_refused_by_name_shape_and_type(outputs: list[OutputSpec]) -> None:
    with pytest.raises(WrongTaskError, match="no key points") as caught:
        pose_post(metadata(*outputs))
    assert all(f"`{one.name}` {one.shape} {one.dtype}" in caught.value.received for one in outputs)
    assert "Pipeline" in caught.value.next_step


def test_a_model_without_a_picture_is_refused() -> None:
    with pytest.raises(WrongTaskError, match="no key points"):
        pose_post(ModelMetadata("pose", (), (ONE,)))


def test_names_that_do_not_fit_are_an_error() -> None:
    with pytest.raises(MetadataError, match="names do not fit") as caught:
        pose_post(metadata(ONE), names=("nose",))
    assert (caught.value.received, caught.value.expected) == ("1 names", "17, one per point")


@pytest.mark.parametrize("score", [-0.1, 1.1, math.nan])
def test_a_score_that_is_no_share_is_an_error(score: float) -> None:
    with pytest.raises(InputError, match="body_score"):
        pose_post(metadata(SIX), body_score=score)


# --- a public model -------------------------------------------------------------------------------


def test_the_squat_agrees_with_the_published_points(test_data: Path) -> None:
    folder = test_data / "coral"
    runtime = Runtime(folder / "movenet_single_pose_lightning_ptq.tflite")
    found = Pipeline(runtime, pre=stretch(runtime.input), post=pose_post(runtime.metadata))(folder / "squat.bmp")
    with (folder / "movenet_single_pose_lightning_ptq_reference.csv").open() as file:
        truth = [(float(row["keypoint_x"]), float(row["keypoint_y"])) for row in csv.DictReader(file)]
    shares = found.xy[0] / (500, 610)  # the picture's size
    assert np.abs(shares - truth).mean() <= 0.010
