"""`Shown`: an answered frame on its way to whoever looks at it; `Status`: how the loop is doing."""

from __future__ import annotations

from collections.abc import Mapping
from threading import Lock
from time import monotonic_ns
from typing import Any

from edgeinfer.frozen import dataclass, field
from edgeinfer.health import Health
from edgeinfer.preprocess.image import Image
from edgeinfer.results import Embedding
from edgeinfer.sources.frame import Frame
from edgeinfer.timing import Latency, latency


@dataclass(frozen=True, slots=True)
class Status:
    """How a live loop is doing, over its latest frames.

    Attributes:
        source: What the frames come from, for people.
        models: The names of the models.
        shown: Frames that were answered and handed out since the start.
        dropped: Frames that the source gave and that were never shown, because a later one took their place.
        fps: Answered frames a second, over the latest seconds.
        capture: Waiting for a frame, decoding and colour conversion.
        inference: All models: preprocessing, invoke, post-processing.
        stages: Of the inference, the models' own stages together: "pre", "invoke", "post"; median ms.
        output: What the receiver of the frames does between one and the next: drawing, encoding, writing.
        age: From the moment a frame was taken until the receiver was done with it.
        health: Temperature, throttling and governor of the machine.
        limit_fps: The rate to which the loop holds itself, to stay cool or because it was told; None is no limit.
        trouble: What is wrong at the moment, one sentence; "" when all is well.
    """

    source: str = ""
    models: tuple[str, ...] = ()
    shown: int = 0
    dropped: int = 0
    fps: float = 0.0
    capture: Latency = field(default_factory=lambda: latency(()))
    inference: Latency = field(default_factory=lambda: latency(()))
    stages: Mapping[str, float] = field(default_factory=dict)
    output: Latency = field(default_factory=lambda: latency(()))
    age: Latency = field(default_factory=lambda: latency(()))
    health: Health = field(default_factory=Health)
    limit_fps: float | None = None
    trouble: str = ""

    def to_json(self) -> dict[str, object]:
        """Return plain values: times in milliseconds, the temperature in degrees Celsius."""
        from dataclasses import asdict

        return asdict(self)


@dataclass(slots=True, eq=False)
class Shown:
    """One answered frame.

    Attributes:
        frame: The frame that was looked at.
        results: What each model answered, by its name, in the order of the models.
        status: Of the loop, made anew about once a second.
    """

    frame: Frame
    results: Mapping[str, Any]
    status: Status
    _picture: Image | None = None
    _drawing: Lock = field(default_factory=Lock)

    @property
    def result(self) -> Any:
        """What the only model answered, or the first of several."""
        return next(iter(self.results.values()))

    @property
    def age_ms(self) -> float:
        """Milliseconds since the frame was taken."""
        return (monotonic_ns() - self.frame.time_ns) / 1e6

    def picture(self) -> Image:
        """Return the frame with all results drawn into it: (height, width, 3) uint8 RGB.

        Drawn when first asked for, once, into the frame's own pixels where they can be written: nobody needs the bare
        frame after its answers. What has no place in a picture (features, a caller's own results) is left out.
        """
        from edgeinfer.drawing import draw  # JSON lines need no drawing

        with self._drawing:  # a page asks in a thread of its own
            if self._picture is None:
                image = self.frame.pixels
                for result in self.results.values():
                    if _drawable(result):
                        image = draw(image, result, copy=not image.flags.writeable)
                self._picture = image
            return self._picture


def _drawable(result: object) -> bool:
    from edgeinfer.answers import task_of

    return not isinstance(result, Embedding) and task_of(result) != "tensors"
