"""`draw`: what was found stands in the picture, in its place, and the picture that was given stays as it was."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from edgeinfer.drawing import draw
from edgeinfer.errors import InputError
from edgeinfer.preprocess import libraries
from edgeinfer.results import Classifications, Detections, Embedding, Keypoints, Mask

pytestmark = pytest.mark.device

ORANGE, SKY, GREEN, YELLOW = (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66)  # Okabe and Ito
HAS_OPENCV = libraries.opencv() is not None


def grey(width: int, height: int, level: int = 128) -> np.ndarray:
    return np.full((height, width, 3), level, np.uint8)


def boxes(*xyxy: tuple[float, float, float, float], class_id: int = 0, label: str = "dog") -> Detections:
    rows = len(xyxy)
    sure = np.linspace(0.9, 0.5, rows).astype(np.float32)
    corners = np.array(xyxy, np.float32).reshape(rows, 4)
    return Detections(corners, sure, np.full(rows, class_id), (label,) * (class_id + 1))


def body(xy: Any, confidence: Any, names: tuple[str, ...] = ()) -> Keypoints:
    return Keypoints(np.array(xy, np.float32), np.array(confidence, np.float32), names)


def classes(*labels: str, sure: float = 0.87) -> Classifications:
    return Classifications(np.arange(len(labels)), np.full(len(labels), sure, np.float32), labels)


def changed(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """(height, width) bool."""
    return (before != after).any(axis=2)


def span(where: np.ndarray) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of what is true."""
    y, x = np.nonzero(where)
    return int(x.min()), int(y.min()), int(x.max()) + 1, int(y.max()) + 1


@pytest.fixture
def without_opencv(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libraries, "opencv", lambda: None)


RESULTS = {
    "classes": classes("macaw", "parrot"),
    "boxes": boxes((10, 10, 50, 60), (-5, 2, 500, 300)),
    "mask": Mask(np.ones((100, 200), np.uint8), ("background", "bird")),
    "points": body([[[20, 30], [50, 60]]], [[0.9, 0.8]], ("left_hip", "left_knee")),
}
every_result = pytest.mark.parametrize("result", RESULTS.values(), ids=RESULTS.keys())


class TestThePicture:
    @every_result
    def test_the_given_picture_is_not_changed(self, result: Any) -> None:
        given_ = grey(200, 100)
        drawn = draw(given_, result)
        assert (given_ == 128).all()
        assert not np.shares_memory(drawn, given_)
        assert changed(given_, drawn).any()

    @every_result
    def test_without_a_copy_the_array_itself_is_drawn_into(self, result: Any) -> None:
        given_ = grey(200, 100)
        expected = draw(given_, result)
        assert draw(given_, result, copy=False) is given_
        assert np.array_equal(given_, expected)

    @every_result
    def test_a_part_of_a_larger_array_is_drawn_like_a_picture_of_its_own(self, result: Any) -> None:
        frame = grey(300, 150)
        draw(frame[20:120, 40:240], result, copy=False)
        assert np.array_equal(frame[20:120, 40:240], draw(grey(200, 100), result))
        assert (frame[:20] == 128).all()
        assert (frame[:, 240:] == 128).all()

    def test_a_mirrored_view_can_be_drawn_into(self) -> None:
        frame = grey(200, 100)
        draw(frame[:, ::-1], RESULTS["mask"], copy=False)
        assert np.array_equal(frame[:, ::-1], draw(grey(200, 100), RESULTS["mask"]))

    def test_a_read_only_array_is_drawn_as_a_copy_and_refused_in_place(self) -> None:
        given_ = grey(200, 100)
        given_.flags.writeable = False
        assert draw(given_, RESULTS["boxes"]).flags.writeable
        with pytest.raises(InputError, match="read-only"):
            draw(given_, RESULTS["boxes"], copy=False)

    def test_a_picture_that_has_to_be_converted_cannot_be_drawn_into(self) -> None:
        with pytest.raises(InputError, match="cannot be drawn into"):
            draw(np.zeros((100, 200), np.uint8), RESULTS["boxes"], copy=False)

    @pytest.mark.parametrize("shape", [(100, 200), (100, 200, 1), (100, 200, 4)], ids=["grey", "grey 1", "rgba"])
    def test_grey_and_rgba_become_rgb(self, shape: tuple[int, ...]) -> None:
        drawn = draw(np.zeros(shape, np.uint8), RESULTS["boxes"])
        assert drawn.shape == (100, 200, 3)

    def test_a_file_is_read(self, tmp_path: Path) -> None:
        pillow = libraries.pillow()
        pillow.fromarray(grey(200, 100)).save(tmp_path / "grey.png")
        assert np.array_equal(draw(tmp_path / "grey.png", RESULTS["boxes"]), draw(grey(200, 100), RESULTS["boxes"]))

    def test_floats_are_no_picture(self) -> None:
        with pytest.raises(InputError, match="not a picture"):
            draw(np.zeros((100, 200, 3), np.float32), RESULTS["boxes"])

    @pytest.mark.parametrize("size", [(1, 1), (10_000, 1), (1, 10_000), (7, 5)], ids=str)
    def test_tiny_and_thin_pictures_are_drawn(self, size: tuple[int, int]) -> None:
        width, height = size
        mask = Mask(np.ones((height, width), np.uint8))
        for result in (classes("macaw"), boxes((0, 0, width, height)), mask, body([[[0.5, 0.5]]], [[1.0]])):
            assert draw(grey(width, height), result).shape == (height, width, 3)
        framed = (draw(grey(width, height), boxes((0, 0, width, height))) == ORANGE).all(axis=2)
        assert framed[[0, -1]].all()
        assert framed[:, [0, -1]].all()

    def test_an_embedding_is_refused_with_what_to_do(self) -> None:
        with pytest.raises(InputError, match="no place in a picture") as caught:
            draw(grey(10, 10), Embedding(np.ones(3, np.float32)))
        assert caught.value.next_step

    def test_another_object_is_refused(self) -> None:
        with pytest.raises(InputError, match="`dict`"):
            draw(grey(10, 10), {"dog": 0.9})  # type: ignore[arg-type]


class TestBoxes:
    def test_the_frame_lies_within_the_box(self) -> None:
        picture = grey(640, 480)
        drawn = draw(picture, boxes((100.0, 200.0, 300.0, 400.0), label=""))
        orange = (drawn == ORANGE).all(axis=2)
        assert span(orange[200:]) == (100, 0, 300, 200)
        assert orange[200, 100:300].all()
        assert orange[399, 100:300].all()
        assert orange[200:400, 100].all()
        assert orange[200:400, 299].all()
        assert not orange[210:390, 110:290].any()

    @pytest.mark.parametrize(("size", "width"), [((640, 480), 2), ((1280, 720), 3), ((3840, 2160), 9), ((64, 64), 1)])
    def test_lines_grow_with_the_shorter_side(self, size: tuple[int, int], width: int) -> None:
        box = (size[0] * 0.25, size[1] * 0.5, size[0] * 0.75, size[1] * 0.9)
        drawn = draw(grey(*size), boxes(box))
        column = (drawn[int(size[1] * 0.8)] == ORANGE).all(axis=1)
        assert column.sum() == 2 * width

    def test_letters_grow_with_the_shorter_side(self) -> None:
        def tag_height(size: tuple[int, int]) -> int:
            picture = grey(*size)
            _, top, _, bottom = span(changed(picture, draw(picture, classes("dog"))))
            return bottom - top

        assert tag_height((1280, 720)) == 18 + 2 * 3
        assert tag_height((2560, 1440)) == 2 * tag_height((1280, 720))

    def test_each_class_has_its_colour(self) -> None:
        found = Detections(
            np.array([[10, 60, 40, 90], [60, 60, 90, 90]], np.float32), np.ones(2, np.float32), np.array([1, 2])
        )
        drawn = draw(grey(200, 100), found)
        assert tuple(drawn[89, 20]) == SKY
        assert tuple(drawn[89, 70]) == GREEN

    def test_the_tag_stands_above_the_box_and_begins_where_it_does(self) -> None:
        picture = grey(640, 480)
        left, top, _, bottom = span(changed(picture, draw(picture, boxes((100, 200, 300, 400)))))
        assert left == 100
        assert top < 200
        assert bottom == 400

    @pytest.mark.parametrize(
        "box", [(0, 0, 50, 50), (590, 0, 640, 50), (600, 440, 640, 480), (0, 470, 640, 480)], ids=str
    )
    def test_a_tag_stays_inside_the_picture(self, box: tuple[float, float, float, float]) -> None:
        """The letters are as large as those of a box of this width in the middle."""
        picture, label = grey(640, 480), "a rather long name"
        width = box[2] - box[0]

        def letters(at: tuple[float, float, float, float]) -> tuple[int, int]:
            drawn = draw(picture, boxes(at, label=label))
            left, top, right, bottom = span(changed(picture, drawn) & ~(drawn == ORANGE).all(axis=2))
            return right - left, bottom - top

        assert letters(box) == letters((0, 200, min(width, 500), 201))

    def test_the_surest_box_lies_on_top(self) -> None:
        found = Detections(
            np.array([[100, 100, 200, 200]] * 2, np.float32), np.array([0.9, 0.6], np.float32), np.array([1, 2])
        )
        assert tuple(draw(grey(640, 480), found)[150, 100]) == SKY

    @pytest.mark.parametrize(
        "box",
        [(700, 10, 800, 50), (-50, -50, -10, -10), (50, 50, 50, 80), (80, 80, 20, 20), (np.nan, 1, 20, 20)],
        ids=["right of it", "above left", "no width", "turned round", "nan"],
    )
    def test_a_box_that_shows_nothing_is_left_out(self, box: tuple[float, float, float, float]) -> None:
        assert np.array_equal(draw(grey(640, 480), boxes(box)), grey(640, 480))

    @pytest.mark.parametrize("far", [1e9, np.inf], ids=str)
    def test_a_box_larger_than_the_picture_is_cut(self, far: float) -> None:
        expected = draw(grey(640, 480), boxes((0, 0, 640, 480)))
        assert np.array_equal(draw(grey(640, 480), boxes((-far, -far, far, far))), expected)

    def test_a_box_narrower_than_its_name_has_no_figure(self) -> None:
        sure, unsure = ([100, 200, right, 400] for right in (300, 110))
        for box, differs in ((sure, True), (unsure, False)):
            pictures = [
                draw(
                    grey(640, 480),
                    Detections(np.array([box], np.float32), np.array([share], np.float32), np.zeros(1, int), ("dog",)),
                )
                for share in (0.9, 0.5)
            ]
            assert (pictures[0] != pictures[1]).any() == differs

    def test_no_detections_leave_the_picture(self) -> None:
        assert np.array_equal(draw(grey(64, 48), boxes()), grey(64, 48))

    def test_a_class_without_a_name_shows_its_number(self) -> None:
        box, sure = np.array([[10, 50, 60, 90]], np.float32), np.array([0.9], np.float32)
        named = Detections(box, sure, np.array([7]), ("",) * 7 + ("7",))
        assert np.array_equal(draw(grey(200, 100), Detections(box, sure, np.array([7]))), draw(grey(200, 100), named))

    @settings(max_examples=40, deadline=None)
    @given(
        xyxy=arrays.arrays(np.float32, (5, 4), elements=st.floats(width=32)),
        size=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    )
    def test_any_boxes_on_any_picture(self, xyxy: np.ndarray, size: tuple[int, int]) -> None:
        found = Detections(xyxy, np.full(5, np.nan, np.float32), np.arange(5) - 2)
        assert draw(grey(*size), found).shape == (size[1], size[0], 3)


class TestMask:
    BIRD = Mask(np.repeat(np.array([[0, 1]], np.uint8), 50, axis=1).repeat(100, axis=0), ("background", "bird"))

    def test_a_class_is_half_its_colour_and_half_the_picture(self) -> None:
        drawn = draw(grey(100, 100, 200), self.BIRD)
        assert np.abs(drawn[60:, 50:].astype(int) - [143, 190, 216.5]).max() <= 1  # (200 + sky blue) / 2

    def test_the_background_keeps_its_pixels(self) -> None:
        picture = np.random.default_rng(0).integers(0, 256, (100, 100, 3), np.uint8)
        assert np.array_equal(draw(picture, self.BIRD)[50:, :50], picture[50:, :50])

    def test_class_0_is_coloured_where_its_name_is_not_background(self) -> None:
        drawn = draw(grey(100, 100, 200), Mask(np.zeros((100, 100), np.uint8), ("road", "sky")))
        assert np.abs(drawn[60:].astype(int) - [215, 179.5, 100]).max() <= 1  # (200 + orange) / 2

    def test_without_labels_class_0_is_the_background(self) -> None:
        assert np.array_equal(draw(grey(100, 100), Mask(np.zeros((100, 100), np.uint8))), grey(100, 100))

    @pytest.mark.parametrize("class_id", [3, 255, 256, 300, 65535])
    def test_wide_class_numbers_have_the_colour_of_their_remainder(self, class_id: int) -> None:
        wide = draw(grey(100, 100), Mask(np.full((100, 100), class_id, np.uint16)))
        narrow = draw(grey(100, 100), Mask(np.full((100, 100), 20 + class_id % 20, np.uint8)))
        assert np.array_equal(wide[50:], narrow[50:])

    def test_the_legend_names_the_classes_in_their_colours(self) -> None:
        labels = ("background", "bird", "boat")
        mask = Mask(np.array([[1] * 60 + [2] * 40] * 100, np.uint8), labels)
        drawn = draw(grey(100, 100), mask)
        assert tuple(drawn[0, 0]) == SKY  # the larger first
        assert tuple(drawn[16, 0]) == GREEN
        only = draw(grey(100, 100), Mask(np.ones((100, 100), np.uint8), labels))
        assert tuple(only[16, 0]) != GREEN

    def test_a_long_legend_ends_with_how_many_are_missing(self) -> None:
        stripes = np.repeat(np.arange(100, dtype=np.uint8)[np.newaxis], 100, axis=0)
        drawn = draw(grey(100, 100), Mask(stripes))
        # Lines of 12 + 2 * 2 pixels within 50: three, the last of them dark.
        assert tuple(drawn[2 * 16, 0]) == (32, 32, 32)

    def test_a_mask_of_another_size_is_refused(self) -> None:
        with pytest.raises(InputError, match="not of this picture") as caught:
            draw(grey(100, 50), Mask(np.zeros((100, 50), np.uint8)))
        assert "50 x 100" in caught.value.received

    @pytest.mark.skipif(not HAS_OPENCV, reason="OpenCV is not installed")
    @settings(max_examples=30, deadline=None)
    @given(data=st.data())
    def test_opencv_and_numpy_differ_by_at_most_one_grey_level(self, data: st.DataObject) -> None:
        height, width = data.draw(st.tuples(st.integers(1, 70), st.integers(1, 70)))
        picture = data.draw(arrays.arrays(np.uint8, (height, width, 3)))
        dtype = data.draw(st.sampled_from([np.uint8, np.uint16]))
        labels = data.draw(st.sampled_from([(), ("background", "bird"), ("road", "sky")]))
        mask = Mask(data.draw(arrays.arrays(dtype, (height, width))), labels)
        with_opencv = draw(picture, mask).astype(int)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(libraries, "opencv", lambda: None)
            without = draw(picture, mask)
        assert np.abs(with_opencv - without).max() <= 1

    @pytest.mark.usefixtures("without_opencv")
    def test_numpy_alone_blends_and_keeps_the_background(self) -> None:
        drawn = draw(grey(100, 100, 201), self.BIRD)
        assert np.abs(drawn[60:, 50:].astype(int) - [143.5, 190.5, 217]).max() <= 1
        assert (drawn[:, :50][20:] == 201).all()


class TestKeypoints:
    def test_a_point_is_a_disc_in_its_place(self) -> None:
        picture = grey(240, 240)
        left, top, right, bottom = span(changed(picture, draw(picture, body([[[120.5, 60.5]]], [[0.9]]))))
        assert (left + right) / 2 == 120.5
        assert (top + bottom) / 2 == 60.5

    def test_only_points_above_the_confidence_are_drawn(self) -> None:
        found = body([[[50, 50], [150, 150]]], [[0.5, 0.1]])
        picture = grey(240, 240)
        assert span(changed(picture, draw(picture, found)))[2] < 60
        assert span(changed(picture, draw(picture, found, point_confidence=0.05)))[2] > 150
        assert np.array_equal(draw(picture, found, point_confidence=0.6), picture)

    @pytest.mark.parametrize("names", [("left_hip", "left_knee"), ("Left Hip", "left knee")], ids=["coco", "words"])
    def test_limbs_join_points_by_name(self, names: tuple[str, ...]) -> None:
        found = body([[[50, 50], [150, 50]]], [[0.9, 0.9]], names)
        assert tuple(draw(grey(240, 240), found)[50, 100]) == SKY  # left

    def test_points_without_names_are_not_joined(self) -> None:
        assert tuple(draw(grey(240, 240), body([[[50, 50], [150, 50]]], [[0.9, 0.9]]))[50, 100]) == (128, 128, 128)

    def test_a_limb_needs_both_ends(self) -> None:
        found = body([[[50, 50], [150, 50]]], [[0.9, 0.1]], ("left_hip", "left_knee"))
        assert tuple(draw(grey(240, 240), found)[50, 100]) == (128, 128, 128)

    def test_left_right_and_middle_have_their_colours(self) -> None:
        names = ("left_shoulder", "right_shoulder", "right_hip")
        drawn = draw(grey(240, 240), body([[[200, 50], [40, 50], [40, 200]]], [[1, 1, 1]], names))
        assert tuple(drawn[50, 200]) == SKY
        assert tuple(drawn[50, 120]) == YELLOW
        assert tuple(drawn[120, 40]) == ORANGE

    def test_a_limb_that_leaves_the_picture_is_drawn_to_its_edge(self) -> None:
        found = body([[[50, 50], [1e7, 50]]], [[1, 1]], ("left_hip", "left_knee"))
        drawn = draw(grey(240, 240), found)
        assert (drawn[50, 60:] == SKY).all()
        assert (drawn[:40] == 128).all()

    def test_a_limb_outside_the_picture_is_not_drawn(self) -> None:
        found = body([[[-50, 300], [300, 900]]], [[1, 1]], ("left_hip", "left_knee"))
        assert np.array_equal(draw(grey(240, 240), found), grey(240, 240))

    def test_points_at_no_place_are_left_out(self) -> None:
        found = body([[[np.nan, 50], [np.inf, 50]]], [[1, 1]], ("left_hip", "left_knee"))
        assert np.array_equal(draw(grey(240, 240), found), grey(240, 240))

    def test_no_bodies_leave_the_picture(self) -> None:
        found = Keypoints(np.empty((0, 17, 2), np.float32), np.empty((0, 17), np.float32))
        assert np.array_equal(draw(grey(64, 48), found), grey(64, 48))


class TestText:
    def test_the_caption_stands_at_the_top_left_on_dark(self) -> None:
        picture = grey(640, 480)
        drawn = draw(picture, classes("macaw"))
        assert span(changed(picture, drawn))[:2] == (0, 0)
        assert tuple(drawn[0, 0]) == (32, 32, 32)

    def test_other_words_look_different(self) -> None:
        assert not np.array_equal(draw(grey(640, 480), classes("macaw")), draw(grey(640, 480), classes("mccaw")))

    def test_only_what_is_certain_reads_100(self) -> None:
        pictures = [draw(grey(640, 480), classes("x", sure=sure)) for sure in (0.999, 0.99, 1.0)]
        assert np.array_equal(pictures[0], pictures[1])
        assert not np.array_equal(pictures[0], pictures[2])

    def test_no_classes_leave_the_picture(self) -> None:
        assert np.array_equal(draw(grey(64, 48), classes()), grey(64, 48))

    @pytest.mark.parametrize("label", ["Перепел", "ærøå", "犬", "\U0001f99c", "ع"], ids=ascii)
    def test_a_label_beyond_ascii_shows_something(self, label: str) -> None:
        blank = draw(grey(640, 480), classes(""))
        drawn = draw(grey(640, 480), classes(label))
        wider = span(changed(grey(640, 480), drawn))[2] - span(changed(grey(640, 480), blank))[2]
        assert wider >= 3

    def test_a_label_that_no_font_has_is_told_once(self, caplog: pytest.LogCaptureFixture) -> None:
        label = "\U000e0fff\ufdd0 told once"  # a tag that is not assigned, and no character at all
        for _ in range(3):
            draw(grey(640, 480), classes(label + "\u0378"))  # U+0378 is not assigned
        assert len([one for one in caplog.records if "No font here has" in one.getMessage()]) <= 1

    @pytest.mark.parametrize("label", ["two\nlines", "tab\tand\0null", "\udc80 half", "x" * 5000, " ", ""], ids=ascii)
    def test_odd_labels_are_one_line_within_the_picture(self, label: str) -> None:
        picture = grey(640, 480)
        _, _, right, bottom = span(changed(picture, draw(picture, classes(label))))
        assert bottom == 12 + 2 * 2
        assert right <= 640


def test_drawing_needs_no_opencv() -> None:
    code = """
import sys
sys.modules["cv2"] = None
import numpy as np
from edgeinfer.drawing import draw
from edgeinfer.results import Classifications, Detections, Mask
picture = np.zeros((120, 160, 3), np.uint8)
draw(picture, Mask(np.ones((120, 160), np.uint8)))
draw(picture, Detections(np.array([[1, 2, 30, 40]], np.float32), np.ones(1, np.float32), np.zeros(1, np.int64)))
draw(picture, Classifications(np.zeros(1, np.int64), np.ones(1, np.float32), ("dog",)))
"""
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, cwd=root, env=dict(os.environ)
    )
    assert done.returncode == 0, done.stderr
