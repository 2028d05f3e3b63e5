"""Tiles hold every pixel and overlap as asked; what is found in them is merged, each object once."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import classifier as classifier_file

from edgeinfer.errors import InputError
from edgeinfer.model.metadata import Normalization
from edgeinfer.pipeline import Pipeline
from edgeinfer.preprocess.geometry import View
from edgeinfer.preprocess.tensor import stretch
from edgeinfer.results import Detections
from edgeinfer.runtime.runtime import Runtime, Tensors
from edgeinfer.tiling import Merge, Tiles, merge_tiles, tiled

sides = st.integers(16, 400)
lengths = st.integers(1, 3000)
overlaps = st.sampled_from([0.0, 0.1, 0.2, 0.25, 1 / 3, 0.5, 0.9])


def found(*rows: tuple[float, ...]) -> Detections:
    """Rows of left, top, right, bottom, confidence, class."""
    table = np.array(rows, np.float64).reshape(-1, 6)
    return Detections(
        table[:, :4].astype(np.float32), table[:, 4].astype(np.float32), table[:, 5].astype(np.int64), ("dog", "cat")
    )


def axis(regions: list[tuple[int, int, int, int]], first: int) -> list[tuple[int, int]]:
    return sorted({(region[first], region[first + 2]) for region in regions})


class TestRegions:
    @settings(max_examples=150, deadline=None)
    @given(width=lengths, height=lengths, side=st.tuples(sides, sides), overlap=overlaps)
    def test_tiles_of_a_size_cover_every_pixel_with_the_overlap_and_are_as_many_as_the_formula_says(
        self, width: int, height: int, side: tuple[int, int], overlap: float
    ) -> None:
        regions = Tiles(side, overlap=overlap).regions((width, height))
        expected = 1
        for first, length, tile in ((0, width, side[0]), (1, height, side[1])):
            spans = axis(regions, first)
            self.check(spans, length, overlap)
            assert all(end - start == min(tile, length) for start, end in spans)
            step = tile - math.ceil(round(overlap * tile, 6))
            expected *= 1 + max(0, math.ceil((length - tile) / step))
        assert len(regions) == len(set(regions)) == expected

    @settings(max_examples=150, deadline=None)
    @given(width=lengths, height=lengths, columns=st.integers(1, 12), rows=st.integers(1, 12), overlap=overlaps)
    def test_columns_and_rows_cover_every_pixel_with_the_overlap_and_no_more_tiles(
        self, width: int, height: int, columns: int, rows: int, overlap: float
    ) -> None:
        regions = Tiles(columns=columns, rows=rows, overlap=overlap).regions((width, height))
        for first, length, count in ((0, width, columns), (1, height, rows)):
            spans = axis(regions, first)
            self.check(spans, length, overlap)
            assert len(spans) <= count
        assert len(regions) == len(axis(regions, 0)) * len(axis(regions, 1))

    @staticmethod
    def check(spans: list[tuple[int, int]], length: int, overlap: float) -> None:
        assert spans[0][0] == 0
        assert spans[-1][1] == length
        for (start, end), (following, _) in pairwise(spans):
            assert start < following
            assert end - following >= overlap * (end - start) - 1e-6

    def test_a_picture_of_twice_the_size_by_hand(self) -> None:
        # Step 640 - 128 = 512; (1280 - 640) / 512 = 1.25, so three tiles, 320 apart.
        assert Tiles((640, 640)).regions((1280, 640)) == [(0, 0, 640, 640), (320, 0, 960, 640), (640, 0, 1280, 640)]

    def test_two_columns_by_hand(self) -> None:
        # 2 * w - 0.2 * w = 900, so w = 500, and both have 100 in common.
        assert Tiles(columns=2, rows=1).regions((900, 300)) == [(0, 0, 500, 300), (400, 0, 900, 300)]

    @pytest.mark.parametrize("size", [(1, 1), (640, 640), (10, 640)], ids=str)
    def test_a_small_picture_is_one_tile(self, size: tuple[int, int]) -> None:
        assert Tiles((640, 640)).regions(size) == [(0, 0, *size)]

    def test_a_line_of_pixels_is_a_row_of_tiles(self) -> None:
        regions = Tiles((640, 640)).regions((10_000, 1))
        assert len(regions) == 1 + math.ceil((10_000 - 640) / 512)
        assert {region[3] for region in regions} == {1}

    def test_without_a_size_the_models_is_taken(self) -> None:
        assert Tiles(overlap=0).regions((600, 300), model_size=(300, 300)) == [(0, 0, 300, 300), (300, 0, 600, 300)]

    def test_without_any_size_there_is_an_error(self) -> None:
        with pytest.raises(InputError, match="not known"):
            Tiles().regions((600, 300))

    @pytest.mark.parametrize(
        "settings_",
        [
            {"size": (8, 640)},
            {"columns": 2},
            {"size": (640, 640), "columns": 2, "rows": 2},
            {"columns": 0, "rows": 1},
            {"overlap": -0.1},
            {"overlap": 0.95},
            {"overlap": math.nan},
        ],
        ids=str,
    )
    def test_settings_that_contradict_are_refused(self, settings_: dict[str, Any]) -> None:
        with pytest.raises(InputError):
            Tiles(**settings_)


# Two tiles of a picture of 180 x 100 that have the columns 80 to 100 in common.
LEFT, RIGHT, ALL, SIZE = (0, 0, 100, 100), (80, 0, 180, 100), (0, 0, 180, 100), (180, 100)


class TestMerge:
    def test_an_object_in_the_overlap_is_found_once_the_surer_time(self) -> None:
        merged = merge_tiles([(found((83, 10, 97, 30, 0.6, 0)), LEFT), (found((83, 10, 97, 31, 0.8, 0)), RIGHT)], SIZE)
        assert merged.xyxy.tolist() == [[83, 10, 97, 31]]
        assert merged.confidence.tolist() == pytest.approx([0.8])
        assert merged.labels == ("dog", "cat")

    def test_a_piece_gives_way_to_the_whole_even_if_it_is_surer(self) -> None:
        # The piece is 20 of 60 columns: over the union it would count for a third and stay.
        merged = merge_tiles([(found((40, 10, 98, 30, 0.5, 0)), ALL), (found((81, 10, 98, 30, 0.9, 0)), RIGHT)], SIZE)
        assert merged.xyxy.tolist() == [[40, 10, 98, 30]]
        assert merged.confidence.tolist() == [0.5]

    def test_two_pieces_become_the_box_around_both_with_the_higher_confidence(self) -> None:
        # They share 20 x 18 pixels; the smaller has 30 x 22.
        merged = merge_tiles(
            [(found((62, 10, 100, 30, 0.5, 0)), LEFT), (found((80, 12, 110, 34, 0.75, 0)), RIGHT)], SIZE
        )
        assert merged.xyxy.tolist() == [[62, 10, 110, 34]]
        assert merged.confidence.tolist() == [0.75]

    def test_the_surest_piece_takes_in_those_that_overlap_itself(self) -> None:
        # The third overlaps both others, which do not overlap each other.
        cut = [found((62, 10, 100, 20, 0.9, 0)), found((62, 30, 100, 40, 0.8, 0)), found((62, 11, 100, 39, 0.7, 0))]
        merged = merge_tiles([(one, LEFT) for one in cut], SIZE)
        assert merged.xyxy.tolist() == [[62, 10, 100, 39], [62, 30, 100, 40]]

    @settings(max_examples=60, deadline=None)
    @given(seed=st.integers(0, 2**32 - 1), rows=st.integers(0, 12), smaller=st.sampled_from([0.2, 0.5, 1.0]))
    def test_the_answer_is_that_of_a_plain_loop(self, seed: int, rows: int, smaller: float) -> None:
        rng = np.random.default_rng(seed)
        parts = [(random_boxes(rng, region, rows), region) for region in (LEFT, RIGHT)]
        merged = merge_tiles(parts, SIZE, merge=Merge(iou=0.5, smaller=smaller))
        expected = plain_loop(parts, 0.5, smaller)
        assert merged.xyxy.tolist() == [box for _, _, box in expected]
        assert merged.confidence.tolist() == [sure for sure, _, _ in expected]
        assert merged.class_id.tolist() == [kind for _, kind, _ in expected]

    def test_a_small_object_within_a_larger_one_stays_where_neither_is_cut(self) -> None:
        rows = found((10, 10, 60, 60, 0.9, 0), (20, 20, 30, 30, 0.8, 0))
        assert len(merge_tiles([(rows, LEFT), (found(), RIGHT)], SIZE)) == 2

    def test_a_box_at_the_pictures_own_border_is_whole(self) -> None:
        rows = found((0, 0, 60, 60, 0.9, 0), (0, 20, 10, 30, 0.8, 0))
        assert len(merge_tiles([(rows, LEFT), (found(), RIGHT)], SIZE)) == 2

    def test_classes_do_not_touch_each_other(self) -> None:
        merged = merge_tiles([(found((83, 10, 97, 30, 0.6, 0)), LEFT), (found((83, 10, 97, 30, 0.8, 1)), RIGHT)], SIZE)
        assert merged.class_id.tolist() == [1, 0]

    def test_the_thresholds_are_settings(self) -> None:
        rows = [(found((20, 10, 40, 30, 0.6, 0)), LEFT), (found((30, 10, 50, 30, 0.8, 0)), LEFT)]  # a third in common
        assert len(merge_tiles(rows, SIZE, merge=Merge(iou=0.34))) == 2
        assert len(merge_tiles(rows, SIZE, merge=Merge(iou=0.33))) == 1
        cut = [(found((90, 10, 100, 30, 0.6, 0)), LEFT), (found((80, 10, 94, 30, 0.8, 0)), RIGHT)]  # 4 of 10 columns
        assert len(merge_tiles(cut, SIZE, merge=Merge(smaller=0.41))) == 2
        assert len(merge_tiles(cut, SIZE, merge=Merge(smaller=0.39))) == 1

    def test_nothing_found_is_nothing(self) -> None:
        assert len(merge_tiles([(found(), LEFT), (found(), RIGHT)], SIZE)) == 0

    def test_nothing_to_merge_is_an_error(self) -> None:
        with pytest.raises(InputError, match="no result"):
            merge_tiles([], SIZE)

    @pytest.mark.parametrize("share", [0.0, -1.0, 1.1, math.nan])
    def test_thresholds_are_shares(self, share: float) -> None:
        with pytest.raises(InputError):
            Merge(iou=share)


def random_boxes(rng: np.random.Generator, region: tuple[int, int, int, int], rows: int) -> Detections:
    corner = rng.integers(region[0], region[0] + 80, rows), rng.integers(0, 80, rows)
    far = corner[0] + rng.integers(1, 21, rows), corner[1] + rng.integers(1, 21, rows)
    sure = rng.choice(1000, rows, replace=False) / 1024 + region[0] / 2**20  # no two alike, in float32 too
    table = np.stack([*corner, *far, sure, rng.integers(0, 2, rows)], axis=1)
    return found(*map(tuple, table[np.argsort(-table[:, 4])].tolist()))


def shared(one: list[float], other: list[float]) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return max(width, 0) * max(height, 0)


def area(box: list[float]) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def plain_loop(parts: list[tuple[Detections, Any]], iou: float, smaller: float) -> list[tuple[float, int, list[float]]]:
    """The rules of `merge_tiles` one box after the other, on exact numbers."""
    rows = [
        (float(sure), int(kind), box.tolist(), (box[2] >= 95) if region == LEFT else bool(box[0] <= 85))
        for one, region in parts
        for box, sure, kind in zip(one.xyxy, one.confidence, one.class_id, strict=True)
    ]
    rows.sort(key=lambda row: -row[0])
    whole: list[tuple[float, int, list[float]]] = []
    for sure, kind, box, cut in rows:
        better = [one for _, other, one in whole if other == kind]
        if not cut and all(shared(box, one) <= iou * (area(box) + area(one) - shared(box, one)) for one in better):
            whole.append((sure, kind, box))

    def meets(box: list[float], kind: int, other: list[float], other_kind: int) -> bool:
        both = shared(box, other)
        return kind == other_kind and both > 0 and both >= smaller * min(area(box), area(other))

    pieces = [
        (sure, kind, box)
        for sure, kind, box, cut in rows
        if cut and not any(meets(box, kind, one, other) for _, other, one in whole)
    ]
    joined = []
    while pieces:
        sure, kind, box = pieces.pop(0)
        own = [one for one in pieces if meets(box, kind, one[2], one[1])]
        pieces = [one for one in pieces if one not in own]
        around = [box, *(one for _, _, one in own)]
        corners = [min(one[side] for one in around) for side in (0, 1)] + [
            max(one[side] for one in around) for side in (2, 3)
        ]
        joined.append((sure, kind, corners))
    return sorted(whole + joined, key=lambda row: -row[0])


def bright_spots(outputs: Tensors, view: View) -> Detections:
    """A box over the region where the model answers with class 0 (red): a detector whose answer can be said by hand."""
    left, top, right, bottom = view.region or (0, 0, *view.image_size)
    scores = outputs.raw().reshape(-1)
    if scores.argmax() != 0:
        return found()
    third_x, third_y = (right - left) / 3, (bottom - top) / 3
    return found((left + third_x, top + third_y, right - third_x, bottom - third_y, 0.9, 0))


@pytest.fixture
def pipeline() -> Pipeline[Detections]:
    runtime = Runtime(classifier_file())
    return Pipeline(runtime, pre=stretch(runtime.input, normalization=Normalization(0.0, 255.0)), post=bright_spots)


class TestTiled:
    def test_each_tile_is_looked_at_and_the_boxes_lie_in_the_picture(self, pipeline: Pipeline[Detections]) -> None:
        picture = np.zeros((100, 300, 3), np.uint8)
        picture[:, 200:, 0] = 255
        merged = tiled(pipeline, Tiles((100, 100), overlap=0, whole=False))(picture)
        assert merged.xyxy.tolist() == [pytest.approx([200 + 100 / 3, 100 / 3, 300 - 100 / 3, 200 / 3], abs=1e-3)]
        assert pipeline.timing.frames == 3

    def test_the_whole_picture_is_looked_at_too(self, pipeline: Pipeline[Detections]) -> None:
        tiled(pipeline, Tiles((100, 100), overlap=0))(np.zeros((100, 300, 3), np.uint8))
        assert pipeline.timing.frames == 4

    def test_a_small_picture_costs_one_call_and_its_answer_is_the_pipelines_own(
        self, pipeline: Pipeline[Detections]
    ) -> None:
        picture = np.full((50, 40, 3), (255, 0, 0), np.uint8)
        merged = tiled(pipeline, Tiles((100, 100)))(picture)
        assert pipeline.timing.frames == 1
        assert np.array_equal(merged.xyxy, pipeline(picture).xyxy)

    def test_without_tiles_they_have_the_size_of_the_models_input(self, pipeline: Pipeline[Detections]) -> None:
        width, height = pipeline.runtime.input.size
        wide = np.zeros((max(height, 16), 3 * max(width, 16), 3), np.uint8)
        tiled(pipeline, Tiles(size=None, overlap=0.0, whole=False))(wide)
        assert pipeline.timing.frames == len(Tiles(overlap=0).regions(wide.shape[1::-1], model_size=(width, height)))

    def test_a_file_is_read_once_and_gives_what_its_array_gives(
        self, pipeline: Pipeline[Detections], tmp_path: Path
    ) -> None:
        from PIL import Image

        picture = np.zeros((100, 300, 3), np.uint8)
        picture[:, :100, 0] = 255
        Image.fromarray(picture).save(tmp_path / "red.png")
        look = tiled(pipeline, Tiles((100, 100), overlap=0))
        assert np.array_equal(look(tmp_path / "red.png").xyxy, look(picture).xyxy)

    def test_what_is_no_picture_is_refused(self, pipeline: Pipeline[Detections]) -> None:
        with pytest.raises(InputError):
            tiled(pipeline)(np.zeros((10, 10, 3), np.float32))
