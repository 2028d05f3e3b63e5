"""An answered frame as JSON."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from time import monotonic_ns
from typing import Any

import numpy as np

from edgeinfer.live.shown import Status
from edgeinfer.outputs.message import dumps, message, utc
from edgeinfer.results import Detections


def test_one_model_gives_the_keys_that_run_prints_and_those_of_a_frame(shown: Any) -> None:
    status = Status(source="camera 0", stages={"pre": 1.0, "invoke": 2.00049, "post": 0.25})
    said = message(shown(number=7, status=status))
    age_ms = said.pop("age_ms")
    assert isinstance(age_ms, float)
    assert 0 <= age_ms < 60_000
    assert isinstance(said.pop("time"), str)
    assert said == {
        "frame": 7,
        "source": "camera 0",
        "timing_ms": {"pre": 1.0, "invoke": 2.0, "post": 0.25},
        "model": "birds",
        "task": "classification",
        "results": [
            {"class_id": 1, "label": "jay", "confidence": 0.75},
            {"class_id": 0, "label": "wren", "confidence": 0.25},
        ],
    }


def test_several_models_stand_in_a_list_in_their_order(shown: Any) -> None:
    nothing = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))
    said = message(shown(results={"people": nothing, "depth": np.array([[1.5]])}))
    assert "results" not in said
    assert said["models"] == [
        {"model": "people", "task": "detection", "results": []},
        {"model": "depth", "task": "tensors", "results": [{"values": [[1.5]]}]},
    ]


def test_the_answers_of_one_model_can_be_asked_for(shown: Any) -> None:
    said = message(shown(results={"a": np.array([1]), "b": np.array([2])}), ("b",))
    assert (said["model"], said["results"]) == ("b", [{"values": [2]}])


def test_a_file_behind_the_frame_is_named(shown: Any) -> None:
    assert message(shown(name="jay.jpg"))["image"] == "jay.jpg"
    assert "image" not in message(shown())


def test_the_time_is_that_of_the_capture_in_utc(shown: Any) -> None:
    before = datetime.now(timezone.utc)
    said = message(shown(time_ns=monotonic_ns() - 10**10))  # ten seconds old
    text = str(said["time"])
    assert text.endswith("Z")
    taken = datetime.fromisoformat(text.replace("Z", "+00:00"))
    late = taken - (before - timedelta(seconds=10))
    assert timedelta(seconds=-0.01) <= late < timedelta(seconds=5)


def test_the_time_of_day_has_milliseconds() -> None:
    assert len(utc()) == len("2026-11-03T09:30:00.123Z")


def test_what_is_no_number_becomes_null_and_everything_else_stays() -> None:
    said = dumps({"a": [1.5, float("nan"), {"b": (float("inf"), "x", None, True)}]})
    assert json.loads(said) == {"a": [1.5, None, {"b": [None, "x", None, True]}]}


def test_what_json_has_no_kind_for_becomes_its_text() -> None:
    assert json.loads(dumps({"a": 1 + 2j})) == {"a": "(1+2j)"}


def test_a_line_break_in_a_label_does_not_break_the_line() -> None:
    assert "\n" not in dumps({"label": "a\nb"})
