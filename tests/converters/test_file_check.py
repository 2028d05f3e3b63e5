"""What a check prints: every op in JSON, runs of equal ones as one line in text, and a summary."""

from __future__ import annotations

import json
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from converters.file_check import FileCheck
from converters.verdicts import Verdict

MAPPED = ("edgetpu", "Mapped to Edge TPU", "seen")
LEFT = ("cpu", "Operation not supported: use ReLU, ReLU6 or silu as the activation", "documented")


def row(index: int, op: str, verdict: tuple[str, str, str], layer: str = "", version: int = 2) -> Verdict:
    return Verdict(index, op, version, layer, *verdict)  # type: ignore[arg-type]


ROWS = (
    row(0, "CONV_2D", MAPPED, "stem", 3),
    row(1, "ADD", MAPPED),
    row(2, "CONV_2D", MAPPED, version=3),
    row(3, "GELU", LEFT, "block_1/act"),
    row(4, "SOFTMAX", ("cpu", "More than one subgraph is not supported", "seen")),
)
FOUND = FileCheck("edgetpu", "edgetpu", True, ROWS, ("Only the compiler decides.",))


def test_json_has_every_op_with_the_promised_keys() -> None:
    said = json.loads(json.dumps(FOUND.to_json()))
    assert (said["target"], said["loads"], len(said["ops"])) == ("edgetpu", True, 5)
    assert said["ops"][3] == {
        "index": 3,
        "op": "GELU",
        "version": 2,
        "layer": "block_1/act",
        "runs_on": "cpu",
        "reason": LEFT[1],
        "evidence": "documented",
    }
    assert said["counts"] == {"edgetpu": 3, "cpu": 2}


def test_text_has_one_line_for_ops_of_one_verdict_in_a_row() -> None:
    lines = str(FOUND).splitlines()
    assert lines[0].split() == ["ops", "runs", "on", "what", "why"]
    assert lines[1].split("  ")[0] == "0-2"
    assert "2 CONV_2D v3, 1 ADD v2" in lines[1]
    assert "Mapped to Edge TPU (seen)" in lines[1]
    assert "GELU v2 in `block_1/act`" in lines[2]
    assert "5 ops: 3 on the Edge TPU, 2 on the processor." in lines
    assert lines[-1] == "Only the compiler decides."


def test_a_file_is_good_if_it_loads_and_the_accelerator_gets_something() -> None:
    assert (FOUND.good, FOUND.exit_code) == (True, 0)
    assert (replace(FOUND, loads=False).exit_code, replace(FOUND, wrong="Compiled.").exit_code) == (5, 5)


def test_no_op_on_the_accelerator_is_no_success() -> None:
    idle = replace(FOUND, verdicts=ROWS[3:])
    assert (idle.good, idle.exit_code) == (False, 5)
    assert idle.summary == "2 ops: none on the Edge TPU, 2 on the processor."
    # On a target without one it is.
    assert replace(idle, target="cpu", accelerator="").good


def test_what_is_refused_is_named_a_few_at_a_time() -> None:
    refused = tuple(row(n, "TILE", ("refused", "no such op", "tried"), f"up_{n}") for n in range(5))
    found = FileCheck("cpu", "", False, refused)
    assert found.exit_code == 5
    assert found.reasons().startswith("TILE v2 in `up_0`: no such op; ")
    assert found.reasons().endswith("; and 2 more")
    assert found.summary == "5 ops: 5 refused."


def test_the_outline_of_a_report_says_what_the_accelerator_does_not_get() -> None:
    assert FOUND.outline() == [
        "For edgetpu: 5 ops: 3 on the Edge TPU, 2 on the processor.",
        f"  3: GELU v2 in `block_1/act`: processor: {LEFT[1]} (documented)",
        "  4: SOFTMAX v2: processor: More than one subgraph is not supported (seen)",
        "Only the compiler decides.",
    ]


verdicts = st.lists(
    st.tuples(
        st.sampled_from(["CONV_2D", "UNIDIRECTIONAL_SEQUENCE_LSTM"]),
        st.sampled_from([MAPPED, LEFT]),
        st.lists(st.text("ab", min_size=1, max_size=30), max_size=4).map("/".join),
    ),
    max_size=12,
)


def test_a_layers_name_breaks_behind_a_slash_or_not_at_all() -> None:
    parts = [f"stage_{n}_block_{n}" for n in range(9)]
    rows = (row(0, "CONV_2D", LEFT, "/".join(parts)), row(1, "ADD", MAPPED, "x" * 80))
    lines = str(FileCheck("edgetpu", "edgetpu", True, rows)).splitlines()
    assert all(any(part in line for line in lines) for part in parts)
    assert any("x" * 80 in line for line in lines)


@given(verdicts)
def test_no_line_of_the_text_is_wider_than_a_page_and_no_op_is_lost(
    rows: list[tuple[str, tuple[str, str, str], str]],
) -> None:
    made = tuple(row(index, op, verdict, layer) for index, (op, verdict, layer) in enumerate(rows))
    found = FileCheck("edgetpu", "edgetpu", True, made)
    assert all(len(line) < 100 for line in str(found).splitlines())
    assert len(found.to_json()["ops"]) == len(rows)  # type: ignore[arg-type]
    assert sum(found.counts.values()) == len(rows)
