"""Capture, inference and output at the same time."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models
from synthetic_source import SyntheticSource

from edgeinfer import classifier
from edgeinfer.errors import DeviceError, InputError
from edgeinfer.health import Health
from edgeinfer.live.live import Live

pytestmark = pytest.mark.device

SLOW_S = 0.05
PATIENCE_S = 20.0


def mean(image: Any) -> float:
    return float(image.mean())


def slow(image: Any) -> float:
    time.sleep(SLOW_S)
    return float(image.mean())


def own_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("edgeinfer")]


def test_every_frame_of_a_file_is_answered_in_order() -> None:
    source = SyntheticSource(40, live=False)
    assert [(shown.frame.number, shown.result) for shown in Live(source, mean)] == [(n, float(n)) for n in range(40)]


def test_a_file_loses_nothing_where_the_receiver_is_slow() -> None:
    with Live(SyntheticSource(8, live=False), mean) as live:
        numbers = []
        for shown in live:
            time.sleep(0.02)
            numbers.append(shown.frame.number)
    assert numbers == list(range(8))
    assert live.status().dropped == 0


def test_of_a_camera_the_newest_frame_wins_and_lost_ones_are_counted() -> None:
    with Live(SyntheticSource(100, fps=200), slow) as live:
        numbers = [shown.frame.number for shown in live]
    assert numbers == sorted(set(numbers))
    assert len(numbers) + live.status().dropped == 100
    assert live.status().dropped > 0


def test_frames_that_the_source_itself_has_dropped_are_counted_too() -> None:
    source = SyntheticSource(3, live=False)
    source.dropped = 4
    with Live(source, mean) as live:
        list(live)
    assert live.status().dropped == 4


@pytest.mark.clock
def test_a_frame_is_no_older_than_the_model_and_one_interval() -> None:
    interval_s = 1 / 60
    with Live(SyntheticSource(60, fps=60), slow) as live:
        ages = [shown.age_ms for shown in live]
    # Of 60 frames in a second the model has time for 20: kept one after the other, the last would be 2 s old and
    # the median one. The rest is for a machine that is shared; `benchmarks/live_age.py` measures it.
    assert np.median(ages) <= (interval_s + SLOW_S) * 1000 + 200


def test_the_model_has_the_next_frame_while_the_receiver_has_this_one() -> None:
    begun = [threading.Event() for _ in range(6)]

    def model(image: Any) -> int:
        begun[number := int(image[0, 0, 0])].set()
        return number

    for shown in Live(SyntheticSource(6, live=False), model):
        if shown.result < 5:
            assert begun[shown.result + 1].wait(PATIENCE_S)


def test_the_source_is_read_while_the_model_is_busy() -> None:
    source = SyntheticSource(3, live=False)
    read, reads = source.read, [threading.Event() for _ in range(4)]

    def noted() -> Any:
        reads[source._number].set()
        return read()

    def model(image: Any) -> bool:
        return reads[int(image[0, 0, 0]) + 1].wait(PATIENCE_S)

    source.read = noted  # type: ignore[method-assign]
    assert all(shown.result for shown in Live(source, model))


def test_several_models_answer_the_same_frame() -> None:
    models = {"mean": mean, "largest": lambda image: int(image.max())}
    shown = next(iter(Live(SyntheticSource(1, live=False), models)))
    assert shown.results == {"mean": 0.0, "largest": 0}
    assert shown.result == 0.0


def test_a_pipeline_says_its_stages_and_its_name(tmp_path: Path) -> None:
    place = tmp_path / "colours.tflite"
    place.write_bytes(tiny_models.classifier())
    with Live(SyntheticSource(3, live=False), classifier(place, normalization=(0, 255))) as live:
        answers = [shown.result for shown in live]
    status = live.status()
    assert len(answers) == 3
    assert status.models == ("colours",)
    assert set(status.stages) == {"pre", "invoke", "post"}


def test_what_the_source_raises_comes_after_the_frames_before_it() -> None:
    source = SyntheticSource(3, live=False, error=DeviceError("The camera is gone."))
    frames = iter(Live(source, mean))
    assert [next(frames).frame.number for _ in range(3)] == [0, 1, 2]
    with pytest.raises(DeviceError, match=r"The camera is gone\."):
        next(frames)


def test_what_a_model_raises_reaches_the_caller() -> None:
    def broken(image: Any) -> None:
        raise InputError(f"{image.shape} is too small.")

    with pytest.raises(InputError, match="too small"):
        list(Live(SyntheticSource(fps=100), broken))


def test_stopping_ends_the_iteration_and_every_thread() -> None:
    with Live(SyntheticSource(fps=100), mean) as live:
        for shown in live:
            if shown.frame.number >= 3:
                live.stop()
    assert own_threads() == []


def test_leaving_the_loop_early_ends_every_thread() -> None:
    with Live(SyntheticSource(fps=100), mean) as live:
        for _ in live:
            break
    assert own_threads() == []


@pytest.mark.clock
def test_a_signal_stops_it_within_a_second() -> None:
    with Live(SyntheticSource(fps=30), slow) as live:
        before = signal.signal(signal.SIGTERM, lambda *_: live.stop())
        try:
            for shown in live:
                if shown.frame.number > 2:
                    break
            begin = time.monotonic()
            os.kill(os.getpid(), signal.SIGTERM)
            assert list(live) == []
        finally:
            signal.signal(signal.SIGTERM, before)
    assert time.monotonic() - begin < 1.0


@pytest.mark.clock
def test_a_source_that_gives_nothing_does_not_hold_up_the_end() -> None:
    source = SyntheticSource(fps=0.001)  # the second frame comes in a thousand seconds
    with Live(source, mean) as live:
        for _ in live:
            live.stop()
        begin = time.monotonic()
    assert time.monotonic() - begin < 1.0
    source.close()


def test_the_rate_is_held() -> None:
    begin = time.monotonic()
    frames = len(list(Live(SyntheticSource(21, live=False), mean, max_fps=100)))
    assert frames == 21
    assert time.monotonic() - begin >= 20 / 100


def test_a_hot_processor_slows_the_frames() -> None:
    heat = Health(temperature_c=95.0)
    with Live(SyntheticSource(fps=100), mean, max_temp_c=80.0, health=lambda: heat) as live:
        for shown in live:
            if shown.status.limit_fps is not None:
                break
    assert shown.status.limit_fps is not None
    assert shown.status.health == heat


@pytest.mark.parametrize("limit", [0.0, -1.0, float("nan"), float("inf")])
def test_a_limit_that_is_no_positive_number_is_refused(limit: float) -> None:
    with pytest.raises(InputError, match="max_fps"):
        Live(SyntheticSource(1), mean, max_fps=limit)


@pytest.mark.parametrize("models", [{}, None, 5])
def test_without_a_model_there_is_nothing_to_do(models: Any) -> None:
    with pytest.raises(InputError):
        Live(SyntheticSource(1), models)


def test_a_signal_that_comes_within_stop_does_not_wait_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    live = Live(SyntheticSource(1), mean)

    class Interrupted(threading.Event):
        """An event during whose `set`, while its lock is held, a signal's handler asks for the end, too."""

        def set(self) -> None:
            with self._cond:  # type: ignore[attr-defined]
                live.stop()
            super().set()

    live._stopped = Interrupted()
    thread = threading.Thread(target=live.stop, daemon=True)
    thread.start()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()
