"""`Live`: capture, inference and output overlap, and what is shown is never old."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import count
from threading import Event, Thread
from time import monotonic, monotonic_ns
from types import TracebackType
from typing import Any, TypeAlias

from edgeinfer.errors import InputError
from edgeinfer.health import Health, read_health
from edgeinfer.live.meter import Meter
from edgeinfer.live.pace import Pace
from edgeinfer.live.shown import Shown, Status
from edgeinfer.live.slot import Slot
from edgeinfer.pipeline import Pipeline
from edgeinfer.preprocess.image import Image
from edgeinfer.sources.frame import Frame, FrameSource

Model: TypeAlias = "Pipeline[Any] | Callable[[Image], Any]"

_STATUS_EVERY_S = 1.0
_PACE_EVERY = 5  # statuses: a processor needs seconds to become hotter or cooler
_JOIN_S = 0.5


class Live:
    """Frames of a source, answered by one or several models, as an iterator.

    While the caller's loop does something with one answered frame, the next is with the models and the one after it is
    being captured. A source that does not wait (`source.live`) loses the frames that nobody had time for: the newest
    wins, and the lost ones are counted. A file waits, and every frame of it is answered.

    The models run in one thread of their own, one after the other; use them nowhere else meanwhile. `source` stays the
    caller's: close it after this.

    Args:
        source: A `Camera`, or anything else that is a `FrameSource`.
        models: A pipeline, any function of an image, or several of them by name.
        max_fps: Frames a second at most; None is as many as there are.
        max_temp_c: The rate is lowered while the processor is hotter than this, degrees Celsius; None never does.
        health: Reads the machine's health; for tests.

    Raises:
        InputError: No model, or a limit that is no positive number.

    Example:
        with Camera(0) as camera, Page() as page, Live(camera, detector("ssd.tflite")) as live:
            for shown in live:
                page.write(shown)
    """

    def __init__(
        self,
        source: FrameSource,
        models: Model | Mapping[str, Model],
        *,
        max_fps: float | None = None,
        max_temp_c: float | None = None,
        health: Callable[[], Health] = read_health,
    ) -> None:
        self._source = source
        self._models = _named(models)
        for name, value in (("max_fps", max_fps), ("max_temp_c", max_temp_c)):
            if value is not None and not 0 < value < float("inf"):
                raise InputError(f"`{name}` is no positive number.", received=repr(value), expected="e.g. 15, or None")
        self._max_temp_c = max_temp_c
        self._read_health = health
        self._health = Health()
        self._pace = Pace(max_fps)
        self._meter = Meter()
        self._status = Status(source.name, tuple(self._models))
        self._frames: Slot[Frame] = Slot(newest_wins=source.live)
        self._answered: Slot[Shown] = Slot(newest_wins=source.live)
        self._stopped = Event()
        self._stopping = False
        self._error: BaseException | None = None
        self._threads: list[Thread] = []

    def __enter__(self) -> Live:
        self._start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[Shown]:
        """Yield answered frames until the source ends, or `stop` is called.

        Raises:
            EdgeInferError: What the source or a model has raised, after the frames that were answered before it.
        """
        self._start()
        try:
            while (shown := self._answered.take()) is not None:
                begin = monotonic_ns()
                yield shown
                end = monotonic_ns()
                self._meter.add("output", end - begin)
                self._meter.add("age", end - shown.frame.time_ns)
                self._meter.end(end)
        finally:
            self.close()
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def stop(self) -> None:
        """End the iteration soon; may be called from any thread, and from a signal's handler."""
        if self._stopping:
            return
        # A signal may come while this very thread is within `set`, whose lock is not one to be taken twice.
        self._stopping = True
        self._stopped.set()
        self._frames.close(empty=True)
        self._answered.close(empty=True)

    def close(self) -> None:
        """Stop, and wait for the threads; may be called more than once.

        A thread that waits for a camera which gives nothing ends when its source is closed.
        """
        self.stop()
        ends = monotonic() + _JOIN_S
        for thread in self._threads:
            thread.join(max(0.0, ends - monotonic()))
        self._threads = [thread for thread in self._threads if thread.is_alive()]

    def status(self) -> Status:
        """Return how the loop is doing now."""
        meter, times = self._meter, self._meter.latencies()
        return Status(
            source=self._source.name,
            models=tuple(self._models),
            shown=meter.shown,
            dropped=self._source.dropped + self._frames.dropped + self._answered.dropped,
            fps=meter.fps(),
            stages=meter.stages(),
            health=self._health,
            limit_fps=self._pace.limit_fps,
            trouble=" ".join(one for one in (self._source.trouble, *self._on_twins()) if one),
            **times,
        )

    def _start(self) -> None:
        if self._threads or self._stopped.is_set():
            return
        steps = {"capture": self._capture, "inference": self._infer, "health": self._watch}
        self._threads = [Thread(target=step, name=f"edgeinfer {name}", daemon=True) for name, step in steps.items()]
        for thread in self._threads:
            thread.start()

    def _capture(self) -> None:
        try:
            while not self._stopped.is_set():
                begin = monotonic_ns()
                frame = self._source.read()
                if frame is None:
                    break
                self._meter.add("capture", monotonic_ns() - begin)
                if not self._frames.put(frame):
                    break
        except BaseException as error:  # raised again where the frames are received
            self._fail(error)
        finally:
            self._frames.close()

    def _infer(self) -> None:
        try:
            while not self._stopped.is_set():
                self._pace.wait(self._stopped)
                frame = self._frames.take()
                if frame is None:
                    break
                begin = monotonic_ns()
                results = {name: model(frame.pixels) for name, model in self._models.items()}
                self._meter.add("inference", monotonic_ns() - begin)
                self._meter.add_stages(self._stages())
                if not self._answered.put(Shown(frame, results, self._status)):
                    break
        except BaseException as error:  # raised again where the frames are received
            self._fail(error)
        finally:
            self._frames.close(empty=True)
            self._answered.close()

    def _watch(self) -> None:
        """Make the status anew once a second: in a thread of its own, since a Pi is asked by starting a program."""
        for turn in count():
            self._health = self._read_health()
            if turn % _PACE_EVERY == 0:
                self._pace.follow(self._meter.fps(), self._health.temperature_c, self._max_temp_c)
            self._status = self.status()
            if self._stopped.wait(_STATUS_EVERY_S):
                break

    def _on_twins(self) -> list[str]:
        """Return one sentence for each model whose device has failed, so that its CPU twin answers."""
        return [
            f"`{name}` runs on the CPU: its {model.runtime.device} has failed."
            for name, model in self._models.items()
            if isinstance(model, Pipeline) and model.runtime.on_fallback
        ]

    def _stages(self) -> dict[str, float]:
        """Return the stages of the latest frame, all models together, milliseconds."""
        sums: dict[str, float] = {}
        for model in self._models.values():
            if isinstance(model, Pipeline):
                for stage, time_ms in model.latest_ms().items():
                    if stage != "read":  # an array is not read
                        sums[stage] = sums.get(stage, 0.0) + time_ms
        return sums

    def _fail(self, error: BaseException) -> None:
        if self._error is None:
            self._error = error


def _named(models: Model | Mapping[str, Model]) -> dict[str, Model]:
    if not isinstance(models, Mapping):
        if not callable(models):
            raise InputError(
                "This is no model.",
                received=f"an object of type `{type(models).__name__}`",
                expected="a pipeline such as `detector(...)`, a function of an image, or several of them by name",
            )
        path = models.runtime.path if isinstance(models, Pipeline) else None
        return {path.stem if path is not None else getattr(models, "__name__", "model"): models}
    if not models:
        raise InputError("There is no model.", received="an empty mapping", expected="one at least")
    return dict(models)
