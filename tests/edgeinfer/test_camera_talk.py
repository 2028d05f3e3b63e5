"""What `edgeinfer camera` says while it runs and at its end."""

from __future__ import annotations

import getpass
import json
import socket
from typing import Any

import numpy as np
import pytest

from edgeinfer.camera_talk import Summary, say_page, status_text
from edgeinfer.errors import OutputError
from edgeinfer.health import Health
from edgeinfer.live.shown import Shown, Status
from edgeinfer.results import Classifications
from edgeinfer.sources.frame import Frame
from edgeinfer.timing import Latency

AGE = Latency(41.2, 50.0, 60.0, 70.0)


def shown(*names: str) -> Shown:
    found = Classifications(np.array([0]), np.array([0.75], np.float32), ("jay",))
    return Shown(Frame(np.zeros((4, 4, 3), np.uint8), 0, 0), dict.fromkeys(names, found), Status())


def summary(**changes: Any) -> Summary:
    facts: dict[str, Any] = {
        "ended": "frames",
        "frames": 11,
        "seconds": 2.0,
        "status": Status(source="camera 0", dropped=3, age=AGE, health=Health(61.0, ("throttled",), "ondemand")),
        "models": [{"name": "birds"}],
        "errors": (),
    }
    return Summary(**(facts | changes))


# --- the line -------------------------------------------------------------------------------------


def test_the_line_has_rate_age_losses_and_the_answer() -> None:
    said = status_text(Status(fps=12.34, age=AGE, dropped=7), "", shown("birds"))
    assert said == "12.3 fps  41 ms old  7 dropped  jay 0.750"


def test_with_several_models_each_answer_has_its_name() -> None:
    assert status_text(Status(), "", shown("birds", "trees")).endswith("  birds: jay 0.750  trees: jay 0.750")


def test_a_hot_machine_shows_its_temperature_what_holds_it_back_and_to_what_rate() -> None:
    health = Health(81.6, ("throttled", "under-voltage has occurred"))
    said = status_text(Status(health=health, limit_fps=8.0), "", None)
    assert said.endswith("  82 °C  held to 8.0 fps  throttled now")


def test_what_is_wrong_takes_the_place_of_the_answer() -> None:
    said = status_text(Status(trouble="The camera is lost."), "The disk is full.", shown("birds"))
    assert said.endswith("  The camera is lost. The disk is full.")


# --- the page -------------------------------------------------------------------------------------


def test_who_came_by_ssh_is_told_the_address_that_was_used(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSH_CONNECTION", "192.0.2.9 50000 192.0.2.7 22")
    monkeypatch.setattr(getpass, "getuser", lambda: "pi")
    say_page("http://127.0.0.1:8080/", None)
    assert capsys.readouterr().err.splitlines() == [
        "Page: http://127.0.0.1:8080/",
        "From another machine: ssh -L 8080:127.0.0.1:8080 pi@192.0.2.7   then http://localhost:8080/ there",
    ]


@pytest.mark.parametrize("own", ["127.0.0.1", "::1", "fe80::1%eth0"])
def test_an_address_that_others_cannot_use_is_not_told(
    own: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSH_CONNECTION", f"{own} 50000 {own} 22")
    monkeypatch.setattr(socket, "gethostname", lambda: "raspberrypi")
    say_page("http://127.0.0.1:8080/", None)
    assert "@raspberrypi.local " in capsys.readouterr().err


def test_who_sits_at_the_machine_is_told_its_name(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSH_CONNECTION", raising=False)
    monkeypatch.setattr(socket, "gethostname", lambda: "raspberrypi")
    say_page("http://[::1]:8080/", None)
    assert "ssh -L 8080:[::1]:8080 " in (said := capsys.readouterr().err)
    assert "@raspberrypi.local " in said


def test_a_page_that_others_can_reach_needs_no_tunnel(capsys: pytest.CaptureFixture[str]) -> None:
    say_page("http://192.0.2.7:8080/", "open-sesame")
    assert capsys.readouterr().err == "Page: http://192.0.2.7:8080/?token=...\n"


# --- the end --------------------------------------------------------------------------------------


def test_the_rate_is_counted_between_the_first_frame_and_the_last() -> None:
    assert summary().fps == 5.0
    assert summary(frames=1, seconds=0.0).fps == 0.0


def test_the_summary_is_one_line_with_what_held_the_machine_back() -> None:
    said = str(summary())
    assert said.startswith("11 frames, 3 dropped, 5.0 fps; ")
    assert "age 41.2 (60.0)" in said
    assert said.endswith("; 61 °C; throttled")
    assert "\n" not in said


def test_the_object_is_plain_json_and_names_why_outputs_have_ended() -> None:
    found = json.loads(json.dumps(summary(errors=[OutputError("The disk is full.")]).to_json()))
    assert found["latency_ms"]["age"] == {"p50": 41.2, "p90": 50.0, "p95": 60.0, "p99": 70.0}
    assert found["health"] == {"temperature_c": 61.0, "throttled": ["throttled"], "governor": "ondemand"}
    assert found["errors"][0]["message"] == "The disk is full."
