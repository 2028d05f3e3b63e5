"""An answered frame as JSON: what `Lines` writes and `Mqtt` sends, near to what `edgeinfer run --json` prints."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from datetime import datetime, timedelta, timezone

from edgeinfer.answers import task_of, to_json
from edgeinfer.live.shown import Shown


def message(shown: Shown, names: Collection[str] | None = None) -> dict[str, object]:
    """Return one answered frame as plain values.

    Args:
        shown: The frame with its answers.
        names: Whose answers; None is those of all models.

    Returns:
        `{"frame", "time", "source", "image", "age_ms", "timing_ms", "model", "task", "results"}`: the frame's number;
        when it was taken, by the machine's clock, UTC; what it comes from; its file's name where it has one; how old it
        was when this was made; the stages' medians over the latest frames, of all models together; and the answer as
        `edgeinfer run --json` prints it. With several models the last three stand in a list, `"models": [{"model",
        "task", "results"}, ...]`, in the order of the models.
    """
    age_ms = shown.age_ms
    said: dict[str, object] = {
        "frame": shown.frame.number,
        "time": utc(age_ms),
        "source": shown.status.source,
        **({"image": shown.frame.name} if shown.frame.name else {}),
        "age_ms": round(age_ms, 3),
        "timing_ms": {stage: round(value, 3) for stage, value in shown.status.stages.items()},
    }
    answers = [
        {"model": name, "task": task_of(result), "results": to_json(result)}
        for name, result in shown.results.items()
        if names is None or name in names
    ]
    return said | (answers[0] if len(answers) == 1 else {"models": answers})


def utc(age_ms: float = 0.0) -> str:
    """Return the time of day so many milliseconds ago, ISO 8601 with milliseconds, e.g. "2026-11-03T09:30:00.123Z"."""
    moment = datetime.now(timezone.utc) - timedelta(milliseconds=age_ms)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def dumps(value: Mapping[str, object]) -> str:
    """Return one line of JSON that every reader takes.

    What is no number (NaN, infinity) becomes null, since JSON has no word for it and other languages' readers refuse
    Python's; what JSON has no kind for (in the results of a caller's own post-processing) becomes its text.
    """
    try:
        return json.dumps(value, allow_nan=False, default=str)
    except ValueError:  # rare, so that the walk through all values is paid for only then
        return json.dumps(_finite(value), allow_nan=False, default=str)


def _finite(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(one) for one in value]
    return value
