from __future__ import annotations

from typing import get_args

from converters.verdicts import Evidence, Verdict


def test_a_verdict_is_the_row_that_json_prints() -> None:
    row = Verdict(3, "CONV_2D", 2, "stem", "edgetpu", "Mapped to Edge TPU", "seen")
    assert row.to_json() == {
        "index": 3,
        "op": "CONV_2D",
        "version": 2,
        "layer": "stem",
        "runs_on": "edgetpu",
        "reason": "Mapped to Edge TPU",
        "evidence": "seen",
    }


def test_how_a_verdict_is_known_is_one_of_four_words() -> None:
    # What `check --json` promises; a fifth one is a change of its answers.
    assert set(get_args(Evidence)) == {"seen", "documented", "estimated", "tried"}
