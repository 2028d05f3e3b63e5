from __future__ import annotations

import json
from pathlib import Path

from tools.pi_lab.report import Part, Run, closing_line, summary
from tools.pi_lab.session import read_parts


def a_run(*parts: Part) -> Run:
    return Run("bookworm-tflite", parts, Path("/last"), setup_s=30.0, run_s=200.0)


DOCTOR = Part("doctor", 0, 5.8, 60 * 2**20, '{"checks": []}')
TESTS = Part("tests", 0, 180.0, 90 * 2**20, "....\n412 passed, 2 skipped in 170.11s\n")
FAILED = Part("tests", 1, 180.0, 90 * 2**20, "E   assert 1 == 2\n1 failed, 411 passed in 170.11s\n")


def test_a_run_has_passed_when_all_its_parts_have() -> None:
    assert a_run(DOCTOR, TESTS).passed
    assert not a_run(DOCTOR, FAILED).passed


def test_the_table_has_peak_memory_and_the_tests_own_last_line() -> None:
    said = summary([a_run(DOCTOR, TESTS)])
    assert "bookworm-tflite  doctor   passed       5.8   60.0 MiB\n" in said
    assert "412 passed, 2 skipped" in said


def test_what_failed_is_printed_in_full() -> None:
    said = summary([a_run(DOCTOR, FAILED)])
    assert "exit 1" in said
    assert "E   assert 1 == 2" in said
    assert '{"checks": []}' not in said


def test_the_closing_line_counts_parts() -> None:
    assert closing_line([a_run(DOCTOR, FAILED), a_run(TESTS)]) == "pi-lab: 2 passed, 1 failed"


def test_what_is_not_part_of_a_machine_is_said_and_counts_neither_way() -> None:
    absent = Part("camera", 0, 0.0, 0, "", "it has no kernel of its own, and so no camera")
    run = a_run(absent, TESTS)
    assert run.passed
    assert "camera   not part of this machine: it has no kernel of its own, and so no camera\n" in summary([run])
    assert closing_line([run]) == "pi-lab: 1 passed, 0 failed"


def test_parts_are_read_with_what_they_printed(tmp_path: Path) -> None:
    row = {"part": "doctor", "exit": 0, "seconds": 5.8, "peak_rss_bytes": 60 * 2**20}
    (tmp_path / "results.json").write_text(json.dumps([row]))
    (tmp_path / "doctor.log").write_bytes(b'{"checks": []}')
    assert read_parts(tmp_path) == [DOCTOR]
