from __future__ import annotations

from converters.verdicts import Verdict


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
