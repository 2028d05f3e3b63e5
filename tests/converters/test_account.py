"""The account: every state as two files on the same samples. Files and expected figures are made by hand."""

from __future__ import annotations

import json
from typing import Any

import colours
import numpy as np
import pytest
import tiny_models

from converters.account import State, account, interleaved
from edgeinfer.dataset import Dataset
from edgeinfer.errors import InputError
from edgeinfer.progress import Progress

pytest.importorskip("flatbuffers", reason="flatbuffers is not installed: metadata is written on workstations")

from converters.metadata import annotate
from edgeinfer.model.metadata import Normalization


def named(tflite: bytes) -> bytes:
    return annotate(tflite, task="classification", labels=colours.NAMES, normalization=Normalization(0, 255))


FLOAT = named(tiny_models.classifier(dtype="float32"))
INT8 = named(tiny_models.classifier(dtype="int8"))
# Its input spans eight times what pixels come to, so a full channel stays below a quarter of the range: always "dark".
ALWAYS_DARK = named(tiny_models.classifier(dtype="int8", input_range=(0.0, 8.0)))
FLOAT_DARK = named(tiny_models.classifier(dtype="float32", input_range=(0.0, 8.0)))
STATES = (State("original", FLOAT, INT8, 0.0), State("prune", FLOAT_DARK, ALWAYS_DARK, 2.5, ("half went",)))


def test_every_state_is_measured_against_the_original_float_model() -> None:
    first, second = account(STATES, colours.labelled(40))
    assert (first.step, second.step) == ("original", "prune")
    assert first.quantized.quantized is not None
    assert first.quantized.quantized.top1 == 1.0
    assert first.quantized.agreement == 1.0
    # A quarter of the pictures is dark.
    assert second.plain.quantized is not None
    assert second.plain.quantized.top1 == 0.25
    assert (second.quantized.agreement, second.quantized.drop) == (0.25, 0.75)
    assert second.quantized.original is not None
    assert second.quantized.original.top1 == 1.0


def test_sizes_are_those_of_the_quantized_file_with_its_metadata() -> None:
    entry = account(STATES, colours.labelled(4))[0]
    assert entry.size_bytes == len(INT8) != len(FLOAT)
    assert entry.parameters == 16  # 4 x 3 weights and 4 biases
    assert entry.macs == 12
    assert 0 < entry.gzip_bytes < entry.size_bytes


def test_the_first_row_is_what_latency_is_measured_by() -> None:
    first, second = account(STATES, colours.labelled(4))
    assert first.latency_ratio == 1.0
    assert second.latency_ratio == second.latency.p50 / first.latency.p50


def test_seconds_and_notes_are_handed_on() -> None:
    first, second = account(STATES, colours.labelled(4))
    assert (first.seconds, first.notes) == (0.0, ())
    assert (second.seconds, second.notes) == (2.5, ("half went",))


def test_a_row_as_json_has_accuracies_or_null() -> None:
    row = json.loads(json.dumps(account(STATES, colours.labelled(40))[1].to_json()))
    assert row["float"]["value"] == row["quantized"]["value"] == 0.25
    assert (row["quantized"]["metric"], row["quantized"]["samples"]) == ("top1", 40)
    assert (row["drop"], row["agreement"], row["seconds"], row["notes"]) == (0.75, 0.25, 2.5, ["half went"])
    low, high = row["drop_interval95"]
    assert low < 0.75 < high
    assert row["latency_ms"].keys() == {"p50", "p95"}
    unlabelled = Dataset("mine", colours.pictures(8)[0])
    row = json.loads(json.dumps(account(STATES, unlabelled)[1].to_json()))
    assert (row["float"], row["quantized"], row["drop"], row["agreement"]) == (None, None, None, 0.25)


def test_a_model_without_classes_has_an_error_instead() -> None:
    one = State("original", tiny_models.dense(), tiny_models.dense(), 0.0)
    rows = account((one,), Dataset("rows", np.ones((3, 6), np.float32)))
    assert (rows[0].quantized.error, rows[0].quantized.agreement) == (0.0, None)
    assert rows[0].to_json()["output_error"] == 0.0


def test_labels_of_classes_that_the_model_has_not_are_refused() -> None:
    data = Dataset("mine", colours.pictures(4)[0], np.arange(4) + 1)
    with pytest.raises(InputError, match="classes that the model has not"):
        account(STATES, data)


def test_progress_goes_through_latency_and_comparisons() -> None:
    said: list[Progress] = []
    account(STATES, colours.labelled(4), progress=said.append)
    assert list(dict.fromkeys(one.step for one in said)) == ["latency", "verify"]
    assert all(one.done <= one.total for one in said)
    assert said[-1].done == said[-1].total == 4


def test_files_are_timed_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[int] = []

    class Runtime:
        inputs: tuple[Any, ...] = ()

        def __init__(self, file: bytes, *, threads: int) -> None:
            assert threads == 1
            self.number = int(file)

        def invoke(self) -> None:
            order.append(self.number)

    monkeypatch.setattr("converters.account.Runtime", Runtime)
    times = interleaved([b"1", b"2", b"3"], rounds=4)
    assert len(times) == 3
    assert order[-12:] == [1, 2, 3] * 4
    # Warmed up before, one after the other.
    assert order[:-12] == [1] * 10 + [2] * 10 + [3] * 10


def test_files_that_take_long_get_fewer_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0
    said: list[Progress] = []

    def clock() -> int:
        return now

    class Slow:
        inputs: tuple[Any, ...] = ()

        def __init__(self, file: bytes, *, threads: int) -> None:
            pass

        def invoke(self) -> None:
            nonlocal now
            now += 3_000_000_000

    monkeypatch.setattr("converters.account.Runtime", Slow)
    monkeypatch.setattr("converters.account.perf_counter_ns", clock)
    (times,) = interleaved([b""], rounds=300, progress=said.append)
    assert times.p50 == 3000.0
    assert [one.done for one in said] == [1, 2, 3, 4, 300]
