"""Placing by hand calculation; filters against plain arithmetic written here."""

from __future__ import annotations

import doctest
import platform

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeinfer.errors import InputError
from edgeinfer.model.metadata import Resize
from edgeinfer.preprocess import geometry, libraries
from edgeinfer.preprocess.geometry import View, cut, draw, place, resize_into

pytestmark = pytest.mark.device

# OpenCV 5's wheel brings Arm's own kernels, whose weights are coarser.
ARM = platform.machine() == "aarch64"

FILTERS = ["nearest", "bilinear", "bilinear-antialias", "bicubic-antialias", "lanczos-antialias"]
sizes = st.tuples(st.integers(1, 5000), st.integers(1, 5000))


@pytest.fixture(params=["opencv", "pillow"])
def library(request, monkeypatch):
    if request.param == "opencv":
        pytest.importorskip("cv2", reason="OpenCV is not installed")
    else:
        monkeypatch.setattr(libraries, "opencv", lambda: None)


def noise(width, height, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def resized(image, width, height, filter_name):
    out = np.zeros((height, width, 3), np.uint8)
    resize_into(image, out, filter_name)
    return out


def four_pixels(image, width, height):
    """Bilinear as the textbook has it, in float64: half-pixel centres, edge pixels repeated."""

    def axis(length, count):
        position = np.clip((np.arange(count) + 0.5) * length / count - 0.5, 0, length - 1)
        low = np.floor(position).astype(int)
        return low, np.minimum(low + 1, length - 1), position - low

    top, bottom, down = axis(image.shape[0], height)
    left, right, along = axis(image.shape[1], width)
    along, down = along[None, :, None], down[:, None, None]
    rows = [image[row].astype(float) for row in (top, bottom)]
    upper, lower = (row[:, left] * (1 - along) + row[:, right] * along for row in rows)
    return upper * (1 - down) + lower * down


class TestPlace:
    def test_stretch_takes_all_of_both(self):
        placed = place(Resize("stretch"), (1280, 720), (224, 224))
        assert (placed.source, placed.target, placed.bars) == ((0, 0, 1280, 720), (0, 0, 224, 224), ())
        assert placed.view.scale == (224 / 1280, 224 / 720)
        assert placed.view.offset == (0.0, 0.0)

    @pytest.mark.parametrize(("image", "tensor", "target"), [
        ((1280, 720), (224, 224), (0, 49, 224, 175)),  # 720 * 224 / 1280 = 126; (224 - 126) / 2 = 49
        ((720, 1280), (224, 224), (49, 0, 175, 224)),
        ((13, 9), (6, 6), (0, 1, 6, 5)),               # 9 * 6 / 13 = 4.15 -> 4
        ((4, 1), (6, 6), (0, 2, 6, 4)),                # 1 * 6 / 4 = 1.5 -> 2, halves go up
        ((640, 480), (300, 301), (0, 38, 300, 263)),   # 480 * 300 / 640 = 225; (301 - 225) / 2 = 38, above
        ((7, 4), (10, 9), (0, 1, 10, 7)),              # 4 * 10 / 7 = 5.71 -> 6; 3 / 2: one above, two below
        ((10_000, 1), (224, 224), (0, 111, 224, 112)),  # 0.02 -> at least 1; 223 / 2 = 111
        ((1, 10_000), (224, 224), (111, 0, 112, 224)),
        ((1, 1), (224, 160), (32, 0, 192, 160)),
        ((300, 200), (150, 100), (0, 0, 150, 100)),
    ])  # fmt: skip
    def test_letterbox_by_hand(self, image, tensor, target):
        assert place(Resize("letterbox"), image, tensor).target == target

    @pytest.mark.parametrize(("image", "tensor", "source"), [
        ((1280, 720), (224, 224), (280, 0, 1000, 720)),
        ((720, 1280), (224, 224), (0, 280, 720, 1000)),
        ((13, 9), (6, 6), (2, 0, 11, 9)),
        ((13, 9), (3, 2), (0, 0, 13, 9)),              # 13 * 2 / 3 = 8.67 -> 9: all of it
        ((640, 480), (320, 200), (0, 40, 640, 440)),   # 640 * 200 / 320 = 400; 80 / 2 = 40
        ((10_000, 1), (224, 224), (4999, 0, 5000, 1)),
        ((1, 1), (300, 100), (0, 0, 1, 1)),
    ])  # fmt: skip
    def test_crop_by_hand(self, image, tensor, source):
        assert place(Resize("crop"), image, tensor).source == source

    @given(sizes, sizes, st.sampled_from(["stretch", "letterbox", "crop"]))
    def test_the_view_maps_the_corners_of_the_target_to_those_of_the_source(self, image, tensor, mode):
        placed = place(Resize(mode), image, tensor)
        assert np.allclose(placed.view.to_image([placed.target]), [placed.source], rtol=1e-6, atol=1e-3)

    @given(sizes, sizes, st.sampled_from(["stretch", "letterbox", "crop"]))
    def test_target_and_bars_cover_the_tensor_once(self, image, tensor, mode):
        placed = place(Resize(mode), image, tensor)
        boxes = (placed.target, *placed.bars)
        assert sum((right - left) * (bottom - top) for left, top, right, bottom in boxes) == tensor[0] * tensor[1]
        left, top, right, bottom = placed.target
        assert 0 <= left < right <= tensor[0]
        assert 0 <= top < bottom <= tensor[1]
        left, top, right, bottom = placed.source
        assert 0 <= left < right <= image[0]
        assert 0 <= top < bottom <= image[1]

    @given(st.integers(1, 3000), st.integers(1, 3000), sizes)
    def test_letterbox_keeps_the_aspect_ratio_within_half_a_pixel(self, width, height, tensor):
        left, top, right, bottom = place(Resize("letterbox"), (width, height), tensor).target
        scale = min(tensor[0] / width, tensor[1] / height)
        assert abs((right - left) - max(1, width * scale)) <= 0.5 + 1e-9
        assert abs((bottom - top) - max(1, height * scale)) <= 0.5 + 1e-9


class TestView:
    @given(
        st.tuples(st.floats(0.01, 100), st.floats(0.01, 100)),
        st.tuples(st.floats(-500, 500), st.floats(-500, 500)),
        st.lists(st.tuples(*[st.floats(0, 4000)] * 4), max_size=5),
    )
    def test_the_way_there_and_back_is_the_same_point(self, scale, offset, boxes):
        view = View((4000, 4000), (224, 224), scale, offset)
        image = np.array(boxes, np.float64).reshape(-1, 4)
        tensor = image * [*scale, *scale] + [*offset, *offset]
        assert np.allclose(view.to_image(tensor), image, rtol=1e-6, atol=1e-3)

    def test_points_come_back_as_float32_of_the_same_shape(self):
        view = View((200, 100), (100, 100), (0.5, 0.5), (0.0, 25.0))
        points = view.to_image(np.array([[50, 50], [0, 25]]))
        assert points.dtype == np.float32
        assert points.tolist() == [[100.0, 50.0], [0.0, 0.0]]

    def test_no_boxes_are_no_boxes(self):
        assert View((2, 2), (2, 2), (1.0, 1.0), (0.0, 0.0)).to_image(np.empty((0, 4))).shape == (0, 4)

    @pytest.mark.parametrize("shape", [(4,), (2, 3), (1, 2, 4)], ids=str)
    def test_other_shapes_are_refused(self, shape):
        with pytest.raises(InputError, match="neither points nor boxes"):
            View((2, 2), (2, 2), (1.0, 1.0), (0.0, 0.0)).to_image(np.zeros(shape))

    def test_a_view_that_cannot_be_is_refused(self):
        for scale, size in (((0.0, 1.0), (2, 2)), ((1.0, 1.0), (0, 2)), ((1.0, float("inf")), (2, 2))):
            with pytest.raises(InputError):
                View(size, (2, 2), scale, (0.0, 0.0))


@pytest.mark.usefixtures("library")
class TestFilters:
    def test_nearest_takes_the_pixel_under_the_centre(self):
        # 7 of 2: centres lie at 1/7, 3/7, 5/7, 7/7, ...; at exactly 1 the pixel to the right begins.
        row = np.array([[10, 20]], np.uint8)[..., None].repeat(3, axis=2)
        assert resized(row, 7, 1, "nearest")[0, :, 0].tolist() == [10, 10, 10, 20, 20, 20, 20]
        # 2 of 5: centres lie at 1.25 and 3.75.
        row = np.arange(5, dtype=np.uint8)[None, :, None].repeat(3, axis=2)
        assert resized(row, 2, 1, "nearest")[0, :, 0].tolist() == [1, 3]

    @pytest.mark.parametrize(("image", "tensor"), [
        ((640, 480), (224, 224)), ((31, 17), (50, 64)), ((224, 300), (224, 224)), ((1, 1), (9, 7)),
        ((10_000, 1), (224, 3)), ((1, 40_000), (2, 224)),
    ])  # fmt: skip
    def test_bilinear_is_the_mean_of_four_pixels(self, image, tensor):
        picture = noise(*image)
        difference = np.abs(resized(picture, *tensor, "bilinear") - four_pixels(picture, *tensor))
        assert difference.max() <= (1.6 if ARM else 1.0 + 1e-6)  # Pillow rounds down

    @pytest.mark.parametrize("filter_name", FILTERS)
    def test_an_even_picture_stays_even(self, filter_name):
        picture = np.full((37, 53, 3), (10, 128, 255), np.uint8)
        assert (resized(picture, 20, 30, filter_name) == (10, 128, 255)).all()

    def test_antialiasing_averages_where_bilinear_does_not(self):
        stripes = np.zeros((8, 64, 3), np.uint8)
        stripes[:, 1::4] = (
            255  # one column in four: 63.75 on average, and bilinear to an eighth looks at columns 3, 4, 11, 12, ...
        )
        assert resized(stripes, 8, 8, "bilinear").max() == 0
        assert abs(resized(stripes, 8, 8, "bilinear-antialias")[:, 2:6].mean() - 63.75) < 2

    @pytest.mark.parametrize("filter_name", FILTERS)
    def test_a_picture_of_the_right_size_is_copied(self, filter_name):
        assert np.array_equal(resized(noise(20, 10), 20, 10, filter_name), noise(20, 10))

    @pytest.mark.parametrize("filter_name", FILTERS)
    @pytest.mark.parametrize("view", [
        lambda image: image[..., ::-1], lambda image: image[::-1, ::-1], lambda image: image[3:-2, 5:-7],
        lambda image: image[::2, ::3], lambda image: image.transpose(1, 0, 2),
    ], ids=["bgr", "turned", "part", "every second", "transposed"])  # fmt: skip
    def test_strides_do_not_matter(self, filter_name, view):
        part = view(noise(60, 40))
        whole = np.ascontiguousarray(part)
        assert np.array_equal(resized(part, 16, 12, filter_name), resized(whole, 16, 12, filter_name))

    @pytest.mark.parametrize("filter_name", FILTERS)
    def test_a_part_of_a_larger_array_is_written_in_place(self, filter_name):
        canvas = np.full((30, 30, 3), 7, np.uint8)
        resize_into(noise(60, 40), canvas[5:17, 8:24], filter_name)
        assert np.array_equal(canvas[5:17, 8:24], resized(noise(60, 40), 16, 12, filter_name))
        canvas[5:17, 8:24] = 7
        assert (canvas == 7).all()

    def test_a_picture_that_is_read_only_is_resized(self):
        picture = noise(60, 40)
        picture.flags.writeable = False
        assert np.array_equal(resized(picture, 16, 12, "bilinear"), resized(noise(60, 40), 16, 12, "bilinear"))

    @pytest.mark.parametrize("size", [(60, 40), (40, 60)], ids=["above and below", "left and right"])
    def test_bars_are_the_pad_and_nothing_else_is(self, size):
        resize = Resize("letterbox", "bilinear", pad=114)
        placed = place(resize, size, (24, 24))
        out = np.zeros((24, 24, 3), np.uint8)
        draw(np.full((size[1], size[0], 3), 200, np.uint8), placed, resize, out)
        assert (out == 114).all(axis=2).sum() == 24 * 8  # 16 of 24 are picture
        assert (out == 200).all(axis=2).sum() == 24 * 16


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 60), st.integers(1, 60))
def test_bilinear_differs_by_one_grey_level_between_the_libraries_and_two_on_arm(width, height, new_width, new_height):
    pytest.importorskip("cv2")
    picture = noise(width, height)
    by_opencv, by_pillow = (np.zeros((new_height, new_width, 3), np.uint8) for _ in range(2))
    geometry._resize_opencv(picture, by_opencv)
    geometry._resize_pillow(picture, by_pillow, "bilinear")
    assert np.abs(by_opencv.astype(int) - by_pillow).max() <= (2 if ARM else 1)


def test_the_examples_in_the_docstrings_are_right():
    assert doctest.testmod(geometry).failed == 0


# --- a part of a picture ---------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["stretch", "letterbox", "crop"])
@settings(max_examples=60)
@given(
    size=st.tuples(st.integers(1, 3000), st.integers(1, 3000)),
    tensor=st.tuples(st.integers(1, 640), st.integers(1, 640)),
    x=st.floats(0, 1),
    y=st.floats(0, 1),
)
def test_a_point_comes_back_to_half_a_pixel(
    mode: str, size: tuple[int, int], tensor: tuple[int, int], x: float, y: float
) -> None:
    placement = place(Resize(mode), size, tensor)
    point = np.array([[x * size[0], y * size[1]]])
    # There by the boxes that are drawn, back by the view.
    (left, top, right, bottom), (into, down, end, foot) = placement.source, placement.target
    share = (point - (left, top)) / (right - left, bottom - top)
    there = share * (end - into, foot - down) + (into, down)
    assert np.abs(placement.view.to_image(there) - point).max() <= 0.5


def test_a_part_of_a_picture_is_cut_without_a_copy() -> None:
    image = np.zeros((20, 30, 3), np.uint8)
    part = cut(image, (5, 2, 25, 12))
    assert part.shape == (10, 20, 3)
    assert np.shares_memory(part, image)


@pytest.mark.parametrize(
    "region",
    [(0, 0, 31, 20), (-1, 0, 5, 5), (5, 5, 5, 9), (9, 0, 3, 5), (0.5, 0, 3, 3), (0, 0, 3), "all", None],
    ids=str,
)
def test_a_region_that_is_not_in_the_picture_is_refused(region: object) -> None:
    with pytest.raises(InputError, match="region does not lie in the picture"):
        cut(np.zeros((20, 30, 3), np.uint8), region)  # type: ignore[arg-type]


def test_a_view_of_a_part_maps_to_the_whole_picture() -> None:
    part = place(Resize("letterbox"), (40, 20), (80, 80)).view  # scale 2, bars of 20 above and below
    whole = part.within((200, 100), (100, 50, 140, 70))
    assert whole.image_size == (200, 100)
    assert whole.region == (100, 50, 140, 70)
    np.testing.assert_allclose(whole.to_image([[0, 20], [80, 60]]), [[100, 50], [140, 70]])
