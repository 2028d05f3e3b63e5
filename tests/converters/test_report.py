"""The account of a conversion: every figure in the table, every key in the JSON."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from converters.account import Entry
from converters.file_check import FileCheck
from converters.report import Account, Report, StepRow, gzip_size
from converters.tflite.gates import GateResult
from converters.verdicts import Verdict
from converters.verify import Comparison
from edgeinfer.evaluate import Evaluation
from edgeinfer.timing import Latency, Timing

FLOAT_TIMES, INT8_TIMES = Latency(2.5, 2.75, 3.125, 4.0), Latency(1.25, 1.5, 1.625, 2.0)
TIMING = Timing(FLOAT_TIMES, FLOAT_TIMES, FLOAT_TIMES, FLOAT_TIMES, 200)
LABELLED = Comparison(
    samples=200,
    engine="litert 2.3.0",
    agreement=0.95,
    agreement_interval=(0.91, 0.97),
    original=Evaluation(200, 0.9, None, (0.85, 0.93), None, TIMING),
    quantized=Evaluation(200, 0.885, None, (0.83, 0.92), None, TIMING),
    drop=0.015,
    drop_interval=(-0.01, 0.04),
    error=None,
    original_latency=FLOAT_TIMES,
    quantized_latency=INT8_TIMES,
)
UNLABELLED = replace(LABELLED, original=None, quantized=None, drop=None, drop_interval=None)
REGRESSION = replace(UNLABELLED, agreement=None, agreement_interval=None, error=0.0123)


def report(comparison: Comparison | None = LABELLED, **changes: Any) -> Report:
    rows = (
        StepRow("float32", 204_800, 190_000, 51_000, 1_234_567, 2.5),
        StepRow("int8", 61_440, 50_176, 51_000, 1_234_567, 3.25),
    )
    values: dict[str, Any] = {
        "model": "birds",
        "target": "raspberrypi",
        "scheme": "int8",
        "io": "uint8",
        "rows": rows if comparison else rows[1:],
        "gates": (GateResult("batch 1", True, "(1, 8, 8, 3)"), GateResult("runs in x", None, "not tried here")),
        "comparison": comparison,
        "calibration": {"samples": 100, "sha256": "ab"},
        "warnings": ("Only 9 calibration samples.",),
        "judged_on": "validation data",
    }
    return Report(**(values | changes))


def lines_of(made: Report) -> list[str]:
    return str(made).splitlines()


def test_the_first_line_says_what_was_made_for_what() -> None:
    assert lines_of(report())[0] == "birds: int8, uint8 at both ends, for raspberrypi"


def test_the_table_has_a_row_per_state_with_all_its_figures() -> None:
    heads, first, second = lines_of(report())[2:5]
    assert heads.endswith("top-1 (95 % interval)   p50 / p95 ms")
    for figure in ("float32", "200.0 KiB", "185.5 KiB", "51,000", "1,234,567", "90.00% (85.00% to 93.00%)"):
        assert figure in first
    assert "2.500 / 3.125" in first
    for figure in ("int8", "60.0 KiB", "49.0 KiB", "51,000", "1,234,567", "88.50% (83.00% to 92.00%)"):
        assert figure in second
    assert "1.250 / 1.625" in second


def test_the_columns_stand_below_each_other() -> None:
    heads, first, second = lines_of(report())[2:5]
    assert len(heads) == len(first) == len(second)


def test_the_drop_stands_below_with_its_interval_and_samples() -> None:
    text = str(report())
    assert "Drop +1.50 points (95 % interval -1.00 to +4.00), 200 labelled samples (validation data)." in text
    assert "Both answer the same on 95.00% (95 % interval 91.00% to 97.00%) of 200 samples (validation data)." in text
    assert "not accuracy" not in text


def test_agreement_without_labels_is_said_to_be_no_accuracy() -> None:
    text = str(report(UNLABELLED))
    assert "This is agreement, not accuracy: no validation data was given." in text
    assert "no validation data" in lines_of(report(UNLABELLED))[3]
    assert "Drop" not in text


def test_an_error_share_is_said_to_be_no_accuracy() -> None:
    assert "The outputs differ by 1.23%" in str(report(REGRESSION))
    assert "This is an error, not an accuracy." in str(report(REGRESSION))


def test_latency_on_this_machine_is_not_called_the_devices() -> None:
    assert "Measured with litert 2.3.0, 1 thread, on this machine: not the device's latency." in str(report())


def test_a_file_that_was_not_verified_is_said_to_be_so() -> None:
    text = str(report(None))
    assert "Not verified: nothing is known of the accuracy of this file." in text
    assert "not measured" in text


def test_warnings_stand_at_the_end() -> None:
    assert lines_of(report())[-1] == "Warning: Only 9 calibration samples."


# The keys of the public description of `edgeinfer-convert --json`, without "output", which the command line adds.
KEYS = {"bytes", "gzip_bytes", "scheme", "io", "target", "steps", "float", "quantized", "agreement"}


@pytest.mark.parametrize("comparison", [LABELLED, UNLABELLED, REGRESSION, None], ids=["labels", "none", "error", "not"])
def test_json_has_the_keys_that_were_promised(comparison: Comparison | None) -> None:
    said = json.loads(json.dumps(report(comparison).to_json()))
    assert said.keys() >= KEYS
    assert (said["bytes"], said["gzip_bytes"], said["scheme"]) == (61_440, 50_176, "int8")
    assert (said["io"], said["target"], said["warnings"]) == ("uint8", "raspberrypi", ["Only 9 calibration samples."])
    assert said["steps"][-1] == {
        "step": "int8",
        "bytes": 61_440,
        "gzip_bytes": 50_176,
        "parameters": 51_000,
        "macs": 1_234_567,
        "seconds": 3.25,
    }
    assert said["gates"][1] == {"name": "runs in x", "ok": None, "detail": "not tried here"}


def test_json_has_the_accuracies_or_null() -> None:
    said = report().to_json()
    assert said["float"] == {"metric": "top1", "value": 0.9, "interval95": [0.85, 0.93], "samples": 200}
    assert said["quantized"] == {"metric": "top1", "value": 0.885, "interval95": [0.83, 0.92], "samples": 200}
    assert said["agreement"] == 0.95
    nothing = report(None).to_json()
    assert (nothing["float"], nothing["quantized"], nothing["agreement"]) == (None, None, None)


@given(st.binary(max_size=3000))
def test_the_gzip_size_is_that_of_a_gzip_file(data: bytes) -> None:
    assert gzip_size(data) == len(gzip.compress(data, 9))


# --- the account of the steps ---------------------------------------------------------------------

PLAIN = replace(LABELLED, quantized=Evaluation(200, 0.895, None, (0.84, 0.93), None, TIMING), agreement=0.99)
ENTRIES = (
    Entry("original", 51_000, 1_234_567, 61_440, 50_176, PLAIN, LABELLED, INT8_TIMES, 1.0, 0.0),
    Entry(
        "prune", 25_500, 600_000, 30_720, 25_088, PLAIN, LABELLED, INT8_TIMES, 0.476, 83.26, ("half went", "one stays")
    ),
)
ACCOUNT = Account("test data", ENTRIES)


def test_the_account_has_a_line_per_step_with_all_its_figures() -> None:
    lines = lines_of(report(account=ACCOUNT))
    heads = next(number for number, line in enumerate(lines) if line.split()[:1] == ["step"])
    assert lines[heads].endswith("float  quantized (95 % interval)  agreement  latency  seconds")
    first, second = lines[heads + 1 : heads + 3]
    for figure in ("original", "51,000", "1,234,567", "61,440", "50,176", "89.50%", "x 1.00", "0.0"):
        assert figure in first
    for figure in ("prune", "25,500", "600,000", "30,720", "25,088", "88.50% (83.00% to 92.00%)", "x 0.48", "83.3"):
        assert figure in second
    assert "95.00%" in second  # the quantized file's agreement, not the float one's
    assert "99.00%" not in second
    assert len(lines[heads]) == len(first) == len(second)


def test_the_account_says_what_it_was_measured_on_and_what_every_step_has_to_say() -> None:
    lines = lines_of(report(account=ACCOUNT))
    (measured,) = [line for line in lines if line.startswith("Every state as a file")]
    assert "200 samples of test data" in measured
    assert lines[lines.index(measured) + 1 : lines.index(measured) + 3] == ["prune: half went", "prune: one stays"]


def test_an_account_without_labels_says_so_and_has_the_agreement() -> None:
    rows = tuple(replace(row, plain=UNLABELLED, quantized=UNLABELLED) for row in ENTRIES)
    line = next(line for line in lines_of(report(account=Account("samples", rows))) if line.startswith("original"))
    assert line.count("no labels") == 2
    assert "95.00%" in line


def test_an_account_without_classes_has_the_error() -> None:
    rows = tuple(replace(row, plain=REGRESSION, quantized=REGRESSION) for row in ENTRIES)
    line = next(line for line in lines_of(report(account=Account("samples", rows))) if line.startswith("original"))
    assert "error 1.23%" in line


def test_an_account_without_a_gate_is_not_called_not_verified() -> None:
    text = str(report(None, account=ACCOUNT))
    assert "No gate: the recipe has no Verify." in text
    assert "Not verified" not in text


def test_json_has_the_account_or_null() -> None:
    assert report().to_json()["account"] is None
    said = json.loads(json.dumps(report(account=ACCOUNT).to_json()))["account"]
    assert said["measured_on"] == "test data"
    assert [row["step"] for row in said["steps"]] == ["original", "prune"]
    assert said["steps"][1] == {
        "step": "prune",
        "parameters": 25_500,
        "macs": 600_000,
        "bytes": 30_720,
        "gzip_bytes": 25_088,
        "float": {"metric": "top1", "value": 0.895, "interval95": [0.84, 0.93], "samples": 200},
        "quantized": {"metric": "top1", "value": 0.885, "interval95": [0.83, 0.92], "samples": 200},
        "drop": 0.015,
        "drop_interval95": [-0.01, 0.04],
        "agreement": 0.95,
        "output_error": None,
        "latency_ms": {"p50": INT8_TIMES.p50, "p95": INT8_TIMES.p95},
        "latency_ratio": 0.476,
        "seconds": 83.26,
        "notes": ["half went", "one stays"],
    }


# --- where the ops run --------------------------------------------------------------------------------

CHECKED = FileCheck(
    "edgetpu",
    "edgetpu",
    True,
    (
        Verdict(0, "CONV_2D", 3, "stem", "edgetpu", "Mapped to Edge TPU", "seen"),
        Verdict(1, "GELU", 2, "act", "cpu", "Operation not supported", "documented"),
    ),
)


def test_what_was_replaced_and_where_the_ops_run_is_said() -> None:
    made = report(
        check=CHECKED, replaced=("`up` (UpSampling2D) as a resize",), compiler="Not compiled: no compiler here."
    )
    lines = lines_of(made)
    assert "Replaced: `up` (UpSampling2D) as a resize." in lines
    place = lines.index("For edgetpu: 2 ops: 1 on the Edge TPU, 1 on the processor.")
    assert "GELU v2 in `act`" in lines[place + 1]
    assert lines[place + 2] == "Not compiled: no compiler here."


def test_json_has_the_check_with_every_op() -> None:
    said = report(check=CHECKED, replaced=("a",), compiler="b").to_json()
    assert said["check"] == CHECKED.to_json()
    assert (said["replaced"], said["compiler"]) == (["a"], "b")
    assert report().to_json()["check"] is None


def test_without_an_accelerator_the_report_has_no_word_of_it() -> None:
    plain = replace(CHECKED, accelerator="")
    assert not [line for line in lines_of(report(check=plain)) if line.startswith("For ")]
