"""An Edge TPU that fails while it runs: each way by name, the frame tried again, the twin's right answers.

There is no Edge TPU: the library is the stand-in (`edgetpu_standin`), loaded by the engine's real `load_delegate` in
real processes. Its answers to these models are those of their CPU twins.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from edgetpu_standin import Pair, edgetpu_pair

from edgeinfer.errors import DeviceError
from edgeinfer.runtime.edgetpu import guard
from edgeinfer.runtime.edgetpu.settings import EdgeTpuOptions
from edgeinfer.runtime.runtime import Runtime

pytestmark = pytest.mark.device

Open = Callable[..., Runtime]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return edgetpu_pair(tmp_path_factory.mktemp("pair"))


@pytest.fixture
def device(standin: Path, pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Open:
    """Opens the compiled file with a plan of failures, counted over all processes; ends with the test."""
    monkeypatch.setattr(guard, "PAUSES_S", (0.0,))
    monkeypatch.setenv("STANDIN_COUNT", str(tmp_path / "count"))

    def open_it(plan: str = "", *, twin: bool = False, address: str = "edgetpu", **options: Any) -> Runtime:
        monkeypatch.setenv("STANDIN_INVOKE", plan)
        chosen = {"restarts": 1, "deadline_s": 60.0, "first_deadline_s": 60.0, **options}
        if "hang" in plan:
            chosen |= {"deadline_s": 1.0, "first_deadline_s": 1.0}
        return Runtime(
            pair.compiled,
            device=address,
            threads=1,
            fallback=pair.twin if twin else None,
            edgetpu=EdgeTpuOptions(library=str(standin), **chosen),
        )

    return open_it


def picture(brightness: float) -> np.ndarray:
    """All pixels alike: what the model answers is that one colour."""
    return np.full((8, 8, 3), brightness, np.float32)


def is_right(runtime: Runtime, brightness: float = 0.5) -> bool:
    return bool(np.allclose(runtime(picture(brightness))["answer"], brightness, atol=1 / 255))


FAILURES = pytest.mark.parametrize(
    ("plan", "kind", "says"),
    [
        ("segv", "crash", "ended by SIGSEGV"),
        ("abort", "crash", "ended by SIGABRT"),
        ("hang", "hang", "nothing within 1 s"),
        ("fail", "refused", "Deadline exceeded: USB transfer error 2"),
    ],
)


# --- no failure -----------------------------------------------------------------------------------


def test_it_answers_and_says_that_all_is_well(device: Open) -> None:
    with device() as runtime:
        assert is_right(runtime, 0.25)
        assert is_right(runtime, 0.75)
        assert runtime.device == "edgetpu"
        assert runtime.faults == guard.Faults()
        assert runtime.on_fallback is False


def test_a_twin_that_agrees_changes_nothing_but_the_count_of_checks(device: Open) -> None:
    with device(twin=True) as runtime:
        assert is_right(runtime)
        assert runtime.faults == guard.Faults(checks=1)


def test_the_address_is_shown_in_one_spelling_and_the_library_is_told(
    device: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STANDIN_LOG", str(tmp_path / "log"))
    with device(address="edgetpu:usb:0") as runtime:
        assert "device=edgetpu:usb:0" in repr(runtime)
    assert "option device=usb:0" in (tmp_path / "log").read_text()


# --- failures that a restart cures ----------------------------------------------------------------


@FAILURES
def test_a_frame_that_fails_once_is_answered_by_a_new_process(device: Open, plan: str, kind: str, says: str) -> None:
    with device(f"{plan}@1") as runtime:
        assert is_right(runtime)
        assert is_right(runtime, 0.75)
        faults = runtime.faults
    assert (dict(faults.kinds), faults.failures, faults.restarts) == ({kind: 1}, 1, 1)
    assert says in faults.latest


def test_a_good_answer_begins_the_count_of_restarts_anew(device: Open) -> None:
    with device("segv@1;segv@3;segv@5", restarts=1) as runtime:
        assert [is_right(runtime) for _ in range(3)] == [True] * 3
        assert runtime.faults.restarts == 3


# --- failures for good, without a twin ------------------------------------------------------------


@FAILURES
def test_a_device_that_fails_for_good_is_an_error_of_its_kind(device: Open, plan: str, kind: str, says: str) -> None:
    with device(f"{plan}@1+") as runtime:
        with pytest.raises(DeviceError, match="Edge TPU's") as caught:
            runtime(picture(0.5))
        assert says in caught.value.received
        assert "started again 1 time" in caught.value.received
        assert caught.value.next_step
        assert type(caught.value) is DeviceError
        assert caught.value.exit_code == 3
        assert dict(runtime.faults.kinds) == {kind: 2}


def test_no_restarts_are_none(device: Open) -> None:
    with device("fail@1", restarts=0) as runtime:
        with pytest.raises(DeviceError) as caught:
            runtime(picture(0.5))
        assert "started again" not in caught.value.received
        assert runtime.faults.restarts == 0
        assert is_right(runtime)  # whoever asks again gets a new process


def test_a_device_that_is_pulled_out_is_said_to_be_gone(
    device: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    devices = tmp_path / "devices"
    devices.write_text("usb:/sys/bus/usb/devices/2-1")
    monkeypatch.setenv("STANDIN_DEVICES", f"@{devices}")
    with device(address="edgetpu:usb:0") as runtime:
        assert is_right(runtime)
        devices.write_text("")
        with pytest.raises(DeviceError, match="`edgetpu:usb:0` is not there any more") as caught:
            runtime(picture(0.5))
        assert "USB transfer error 5" in caught.value.received
        assert dict(runtime.faults.kinds) == {"gone": 1, "start": 1}
        devices.write_text("usb:/sys/bus/usb/devices/2-1")
        assert is_right(runtime)


# --- the twin takes over --------------------------------------------------------------------------


@FAILURES
def test_the_twin_answers_where_the_device_fails_for_good(
    device: Open, caplog: pytest.LogCaptureFixture, plan: str, kind: str, says: str
) -> None:
    with device(f"{plan}@3+", twin=True) as runtime:  # the first run is the check
        assert is_right(runtime, 0.25)
        assert not runtime.on_fallback
        assert [is_right(runtime, value) for value in (0.5, 0.75, 1.0)] == [True] * 3
        faults = runtime.faults
    assert (faults.on_fallback, faults.fallback_frames, dict(faults.kinds)) == (True, 3, {kind: 2})
    (warning,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert "CPU twin answers from now on" in warning.message
    assert says in warning.message


def test_views_that_are_held_over_a_take_over_show_the_twins_answers(device: Open) -> None:
    with device("fail@2+", twin=True, restarts=0) as runtime:
        given, answer = runtime.input_view(), runtime.tensors.view(0)
        for stored in (27, -28):  # int8, zero point -128
            given[...] = stored
            runtime.invoke()
            assert answer.tolist() == [[stored] * 3]
        assert runtime.faults.fallback_frames == 2


def test_views_that_are_taken_anew_show_the_twins_answers(device: Open) -> None:
    with device("fail@2+", twin=True, restarts=0) as runtime:
        runtime.input_view()[...] = 27  # int8, zero point -128: (27 + 128) / 255
        runtime.invoke()
        assert runtime.tensors.view(0).tolist() == [[27, 27, 27]]
        runtime.input_view()[...] = -28
        runtime.invoke()
        assert runtime.raw_output().tolist() == [[-28, -28, -28]]
        assert runtime.faults.fallback_frames == 2


def test_the_twin_answers_from_the_start_where_no_device_is(
    device: Open, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STANDIN_DEVICES", "")
    with device(twin=True) as runtime:
        assert is_right(runtime)
        assert (runtime.faults.on_fallback, dict(runtime.faults.kinds)) == (True, {"start": 1})
    assert len([record for record in caplog.records if record.levelno >= logging.WARNING]) == 1


# --- wrong answers --------------------------------------------------------------------------------


def test_wrong_answers_are_found_when_the_model_is_loaded(device: Open) -> None:
    with device("wrong@1+", twin=True) as runtime:
        assert runtime.on_fallback
        assert is_right(runtime)
        assert dict(runtime.faults.kinds) == {"wrong": 2}
        assert "steps of the CPU's" in runtime.faults.latest


def test_wrong_answers_are_found_at_the_next_check_and_the_frame_is_not_lost(device: Open) -> None:
    # Runs: 1 check, 2 frame, then the check before frame 2 of `check_every=2`.
    with device("wrong@3+", twin=True, check_every=2) as runtime:
        assert is_right(runtime, 0.25)
        assert not runtime.on_fallback
        assert is_right(runtime, 0.75)
        assert runtime.on_fallback


def test_a_wrong_answer_that_a_restart_cures_keeps_the_device(device: Open) -> None:
    with device("wrong@3", twin=True, check_every=2) as runtime:
        assert is_right(runtime, 0.25)
        assert is_right(runtime, 0.75)
        faults = runtime.faults
    assert (faults.on_fallback, faults.checks, faults.restarts, dict(faults.kinds)) == (False, 3, 1, {"wrong": 1})


def test_no_check_while_it_runs_where_none_is_wanted(device: Open) -> None:
    with device(twin=True, check_every=0) as runtime:
        assert [is_right(runtime) for _ in range(5)] == [True] * 5
        assert runtime.faults.checks == 1


def test_a_process_that_answers_wrongly_after_a_crash_is_found_at_its_start(device: Open) -> None:
    # Runs: 1 check, 2 frame, 3 a crash, then all that a new process answers is wrong.
    with device("segv@3;wrong@4+", twin=True, check_every=0, restarts=2) as runtime:
        assert is_right(runtime, 0.25)
        assert is_right(runtime, 0.75)  # its input has survived the check
        assert runtime.on_fallback
        assert dict(runtime.faults.kinds) == {"crash": 1, "wrong": 2}


def test_a_new_process_is_checked_once_and_then_runs_the_frame_that_has_failed(device: Open) -> None:
    with device("segv@2", twin=True, check_every=0) as runtime:
        assert is_right(runtime, 0.75)
        assert is_right(runtime, 0.25)
        assert runtime.faults.checks == 2
        assert not runtime.on_fallback


# --- its end --------------------------------------------------------------------------------------


def test_a_frame_after_the_end_is_an_error(device: Open) -> None:
    runtime = device()
    runtime.close()
    runtime.close()
    with pytest.raises(DeviceError, match="closed"):
        runtime(picture(0.5))


def test_the_process_ends_as_soon_as_nobody_holds_the_runtime(device: Open) -> None:
    gc.disable()  # without a collection: a device is held until then
    try:
        runtime = device(twin=True)
        assert is_right(runtime)
        pid = runtime.interpreter._device.pid  # type: ignore[attr-defined]
        assert Path(f"/proc/{pid}").exists()
        del runtime
        assert not Path(f"/proc/{pid}").exists()
    finally:
        gc.enable()


def test_one_shape_is_all_there_is(device: Open) -> None:
    from edgeinfer.errors import InputError

    with device() as runtime, pytest.raises(InputError, match="one sample"):
        runtime.set_batch(4)


# --- in this process ------------------------------------------------------------------------------


def test_without_a_process_of_its_own_a_model_runs_here(device: Open) -> None:
    with device(isolate=False) as runtime:
        assert is_right(runtime)
        assert not hasattr(runtime.interpreter, "pid")


def test_without_a_process_of_its_own_a_failure_is_not_tried_again(device: Open) -> None:
    with device("fail@1:no bus", isolate=False) as runtime:
        with pytest.raises(DeviceError, match="did not run the model") as caught:
            runtime(picture(0.5))
        assert caught.value.received == "no bus"
        assert is_right(runtime)


@pytest.mark.parametrize("twin", [False, True])
def test_without_a_process_of_its_own_closing_lets_go_of_the_device(
    device: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, twin: bool
) -> None:
    monkeypatch.setenv("STANDIN_LOG", str(tmp_path / "log"))
    runtime = device(twin=twin, isolate=False)
    assert is_right(runtime)
    before = (tmp_path / "log").read_text().count("destroy")  # by the trial in a child
    runtime.close()
    assert (tmp_path / "log").read_text().count("destroy") == before + 1
    assert np.allclose(runtime.tensors["answer"], 0.5, atol=1 / 255)  # what was answered can still be read
    with pytest.raises(DeviceError, match="closed"):
        runtime(picture(0.5))


def test_without_a_process_of_its_own_the_twin_takes_over_as_well(device: Open) -> None:
    with device("fail@2+", twin=True, isolate=False) as runtime:
        assert is_right(runtime)
        assert runtime.on_fallback


def test_a_view_that_is_held_is_the_callers_mistake_and_no_fault_of_the_device(device: Open) -> None:
    with device(isolate=False) as runtime:
        view = runtime.input_view()
        with pytest.raises(DeviceError, match="failed while it ran"):
            runtime.invoke()
        assert runtime.faults.failures == 0
        del view
