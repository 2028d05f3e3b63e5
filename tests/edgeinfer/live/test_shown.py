"""An answered frame."""

from __future__ import annotations

import json
import threading

import numpy as np

from edgeinfer import Classifications, Detections, Embedding, draw
from edgeinfer.live.shown import Shown, Status
from edgeinfer.sources.frame import Frame

BOX = Detections(
    xyxy=np.array([[10, 10, 40, 30]], np.float32),
    confidence=np.array([0.9], np.float32),
    class_id=np.array([0]),
    labels=("bird",),
)


def a_frame() -> Frame:
    return Frame(np.full((48, 64, 3), 90, np.uint8), 0, 0)


def test_the_picture_is_the_frame_with_what_was_found() -> None:
    expected = draw(a_frame().pixels, BOX)
    assert (Shown(a_frame(), {"birds": BOX}, Status()).picture() == expected).all()


def test_the_picture_is_drawn_once_whoever_asks() -> None:
    shown = Shown(a_frame(), {"birds": BOX}, Status())
    pictures: list[object] = []
    threads = [threading.Thread(target=lambda: pictures.append(shown.picture())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {id(picture) for picture in pictures} == {id(shown.picture())}


def test_pixels_that_cannot_be_written_stay_as_they_are() -> None:
    frame = a_frame()
    frame.pixels.flags.writeable = False
    picture = Shown(frame, {"birds": BOX}, Status()).picture()
    assert (frame.pixels == 90).all()
    assert (picture != 90).any()


def test_what_cannot_be_drawn_is_left_out() -> None:
    results = {"features": Embedding(np.ones(4, np.float32)), "own": 3.5}
    assert (Shown(a_frame(), results, Status()).picture() == 90).all()


def test_several_results_lie_in_one_picture() -> None:
    named = Classifications(np.array([0]), np.array([0.5], np.float32), labels=("bird",))
    both = Shown(a_frame(), {"a": BOX, "b": named}, Status()).picture()
    assert (both == draw(draw(a_frame().pixels, BOX), named)).all()


def test_a_status_is_json() -> None:
    said = json.loads(json.dumps(Status(source="street.mp4", models=("ssd",)).to_json()))
    assert said["source"] == "street.mp4"
    assert said["age"] == {"p50": 0.0, "p90": 0.0, "p95": 0.0, "p99": 0.0}
    assert said["health"] == {"temperature_c": None, "throttled": [], "governor": None}
