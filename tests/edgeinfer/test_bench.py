"""The benchmark's report: its keys, its counts, and what it refuses."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import tiny_models

from edgeinfer.bench import bench
from edgeinfer.errors import InputError
from edgeinfer.progress import Progress
from edgeinfer.runtime.runtime import Runtime


def test_the_json_has_the_keys_of_the_interface(tmp_path: Path) -> None:
    data = tiny_models.classifier()
    (tmp_path / "m.tflite").write_bytes(data)
    runtime = Runtime(tmp_path / "m.tflite", threads=2)
    found = json.loads(json.dumps(bench(runtime, runs=20, warmup=3).to_json()))
    assert set(found) == {
        *("model", "sha256", "device", "engine", "threads", "runs", "warmup"),
        *("latency_ms", "load_ms", "rss_bytes", "machine"),
    }
    assert set(found["latency_ms"]) == {"p50", "p90", "p95", "p99", "first"}
    assert found["model"] == "m.tflite"
    assert found["sha256"] == hashlib.sha256(data).hexdigest()
    assert (found["device"], found["threads"], found["runs"], found["warmup"]) == ("cpu", 2, 20, 3)
    assert found["engine"] == f"{runtime.engine.name} {runtime.engine.version}"
    assert found["machine"]["python"]


def test_the_latencies_rise_with_their_ranks() -> None:
    times = bench(Runtime(tiny_models.classifier()), runs=50).latency
    assert 0 < times.p50 <= times.p90 <= times.p95 <= times.p99


@pytest.mark.parametrize(("runs", "warmup"), [(1, 1), (7, 1), (3, 4)])
def test_the_model_runs_as_often_as_it_says(runs: int, warmup: int, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[None] = []
    invoke = Runtime.invoke

    def count(runtime: Runtime) -> None:
        calls.append(None)
        invoke(runtime)

    monkeypatch.setattr(Runtime, "invoke", count)
    bench(Runtime(tiny_models.dense()), runs=runs, warmup=warmup)
    assert len(calls) == runs + warmup


@pytest.mark.parametrize(("runs", "warmup"), [(0, 10), (10, 0), (-1, 10)])
def test_nothing_to_measure_is_refused(runs: int, warmup: int) -> None:
    with pytest.raises(InputError, match="Nothing would be measured") as caught:
        bench(Runtime(tiny_models.dense()), runs=runs, warmup=warmup)
    assert caught.value.received == f"runs={runs}, warmup={warmup}"


def test_progress_ends_at_the_last_run() -> None:
    seen: list[Progress] = []
    bench(Runtime(tiny_models.dense()), runs=25, progress=seen.append)
    assert [report.done for report in seen] == [10, 20, 25]
    assert {report.total for report in seen} == {25}


def test_bytes_have_no_file_name() -> None:
    assert bench(Runtime(tiny_models.dense()), runs=1, warmup=1).model == "(bytes)"


def test_a_model_that_looks_words_up_is_measured_too() -> None:
    # GATHER from a table of three rows: any index but 0, 1, 2 would be an error.
    from tiny_flatbuffer import Scalar

    tensors = [
        tiny_models.TensorSpec("token", (1,), "int32"),
        tiny_models.TensorSpec("table", (3, 2), values=[1, 2, 3, 4, 5, 6]),
        tiny_models.TensorSpec("row", (1, 2)),
    ]
    operators = [tiny_models.OperatorSpec(36, (1, 0), (2,), 23, {0: Scalar("i", 0)})]
    runtime = Runtime(tiny_models.model(tensors, operators, inputs=[0], outputs=[2]))
    assert bench(runtime, runs=2, warmup=1).runs == 2
