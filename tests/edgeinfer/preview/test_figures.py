from __future__ import annotations

import json

import numpy as np
import pytest
from page_client import shown_of

from edgeinfer.live.shown import Status
from edgeinfer.preview.figures import answers_of, figures, plain_json
from edgeinfer.preview.pictures import Pictures
from edgeinfer.results import Classifications, Detections, Embedding, Keypoints, Mask


def pictures() -> Pictures:
    return Pictures(quality=80, max_width=1280, max_fps=1000, wake=lambda: None)


def boxes(count: int) -> Detections:
    return Detections(np.zeros((count, 4), np.float32), np.ones(count, np.float32), np.zeros(count, np.int64), ("dog",))


def test_before_the_first_frame_there_are_figures_without_one() -> None:
    said = json.loads(plain_json(figures(pictures(), [])))
    assert (said["frame"], said["picture_age_ms"], said["silent_ms"], said["answers"]) == (None, None, None, [])
    assert said["fps"] == 0.0


def test_the_figures_are_those_of_the_latest_frame() -> None:
    place = pictures()
    place.put(shown_of(7, status=Status(source="camera 0", models=("ssd",), fps=12.5, dropped=3)))
    place.newest()
    said = json.loads(plain_json(figures(place, [])))
    assert (said["source"], said["models"], said["fps"], said["dropped"]) == ("camera 0", ["ssd"], 12.5, 3)
    assert said["frame"] == {"number": 7, "name": "frame 7", "width": 160, "height": 120}
    assert said["encoded"] == 1
    assert 0 < said["picture_age_ms"] < 60_000
    assert 0 <= said["silent_ms"] < 60_000


def test_while_no_frames_come_the_loop_is_asked() -> None:
    place = pictures()
    gone = Status(trouble="The camera is gone.")
    assert figures(place, [], lambda: gone)["trouble"] == "The camera is gone."
    place.put(shown_of(status=Status(trouble="")))
    assert figures(place, [], lambda: gone)["trouble"] == ""
    place.put_ns -= 2_000_000_000
    assert figures(place, [], lambda: gone)["trouble"] == "The camera is gone."


def test_each_task_has_rows_or_a_line_for_people() -> None:
    shown = shown_of(
        names=Classifications(np.array([1]), np.array([0.5], np.float32), ("cat",)),
        boxes=boxes(2),
        mask=Mask(np.array([[0, 1, 1, 1]], np.uint8), ("ground", "bird")),
        body=Keypoints(np.zeros((1, 2, 2), np.float32), np.ones((1, 2), np.float32), ("nose", "ear")),
        features=Embedding(np.ones(8, np.float32)),
        numbers=np.arange(3),
    )
    said = {str(one["model"]): one for one in answers_of(shown)}
    assert list(said) == ["names", "boxes", "mask", "body", "features", "numbers"]
    assert said["names"]["rows"] == [{"class_id": 1, "label": "cat", "confidence": 0.5}]
    assert len(said["boxes"]["rows"]) == 2  # type: ignore[arg-type]
    assert said["mask"]["rows"] == [{"label": "bird", "share": 0.75}, {"label": "ground", "share": 0.25}]
    assert said["body"]["rows"] == [{"keypoints": [[0, 0, 1], [0, 0, 1]], "names": ["nose", "ear"]}]
    assert said["features"]["rows"] == said["numbers"]["rows"] == []
    assert str(said["features"]["text"]).startswith("8 features")
    assert {str(one["task"]) for one in said.values()} == {
        "classification", "detection", "segmentation", "pose", "embedding", "tensors",
    }  # fmt: skip


def test_an_answer_stays_small_whatever_a_model_says() -> None:
    (said,) = answers_of(shown_of(boxes=boxes(5000)))
    assert len(said["rows"]) == 100  # type: ignore[arg-type]
    assert len(str(said["text"])) == 400
    (said,) = answers_of(shown_of(depth=np.zeros((480, 640), np.float32)))
    assert len(plain_json(said)) < 1000


@pytest.mark.parametrize("result", [[[1], [2, 3]], {"a": 1}, None, object()], ids=["ragged", "dict", "none", "object"])
def test_a_callers_own_results_are_told_in_one_line(result: object) -> None:
    (said,) = answers_of(shown_of(own=result))
    assert said["task"] == "tensors"
    assert said["text"]


def test_what_is_no_number_becomes_null() -> None:
    found = Classifications(np.array([1]), np.array([np.nan], np.float32), ("cat",))
    said = json.loads(
        plain_json({"answers": answers_of(shown_of(names=found)), "fps": float("inf")}), parse_constant=pytest.fail
    )
    assert said["fps"] is None
    assert said["answers"][0]["rows"][0]["confidence"] is None
