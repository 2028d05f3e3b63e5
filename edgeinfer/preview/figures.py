"""What `/status.json` says: how the loop is doing, how old the picture is, and what the models answered."""

from __future__ import annotations

import json
from collections.abc import Callable
from time import monotonic_ns
from typing import Any

from edgeinfer.answers import task_of, to_json, to_text
from edgeinfer.live.shown import Shown, Status
from edgeinfer.preview.pictures import Pictures

# An answer that fills a screen is for a file, not for a page that is read once a second.
_LONGEST = 400
_MOST_ROWS = 100
# A loop makes its status anew once a second.
_FRESH_MS = 1000.0


def figures(
    pictures: Pictures, answers: list[dict[str, object]], ask: Callable[[], Status] | None = None
) -> dict[str, object]:
    """Return all but what only the server knows: plain values, times in milliseconds.

    Args:
        pictures: Holds the latest frame and the latest picture.
        answers: Of `answers_of`.
        ask: Asked for the status while no frame brings one.

    Returns:
        The fields of `Status.to_json`, and "frame" (number, name, size of the latest frame; None before the first),
        "picture_age_ms" (how old the picture was when it was sent; None before the first), "silent_ms" (since the
        latest frame came; None before the first), "encoded", "picture_trouble" and "answers".
    """
    shown = pictures.latest
    silent_ms = None if shown is None else (monotonic_ns() - pictures.put_ns) / 1e6
    status = shown.status if shown is not None else Status()
    if ask is not None and (silent_ms is None or silent_ms > _FRESH_MS):
        status = ask()
    picture = pictures.picture
    return {
        **status.to_json(),
        "frame": _frame(shown),
        "picture_age_ms": None if picture is None else picture.age_ms,
        "silent_ms": silent_ms,
        "encoded": pictures.encoded,
        "picture_trouble": pictures.trouble,
        "answers": answers,
    }


def answers_of(shown: Shown | None) -> list[dict[str, object]]:
    """Return what each model answered.

    Returns:
        For each model "model" (its name), "task", "text" (a line for people, cut at 400 characters) and "rows": of
        classes, boxes and bodies as `edgeinfer.answers.to_json`, at most 100; of a mask one row {"label", "share"} a
        class; none of what has only numbers.
    """
    return [] if shown is None else [_answer(name, result) for name, result in shown.results.items()]


def plain_json(values: object) -> bytes:
    """Return JSON that every browser reads: what is no number (NaN, infinity) becomes null."""
    try:
        return json.dumps(values, allow_nan=False).encode()
    except ValueError:
        return json.dumps(json.loads(json.dumps(values), parse_constant=lambda _: None)).encode()


def _frame(shown: Shown | None) -> dict[str, object] | None:
    if shown is None:
        return None
    height, width = shown.frame.pixels.shape[:2]
    return {"number": shown.frame.number, "name": shown.frame.name, "width": width, "height": height}


def _answer(name: str, result: Any) -> dict[str, object]:
    task = task_of(result)
    rows: list[dict[str, object]] = []
    if task in ("classification", "detection", "pose"):
        rows = to_json(result[:_MOST_ROWS])
    elif task == "segmentation":
        rows = [{"label": label, "share": share} for label, share in result.shares().items()]
    text = _text(result)
    return {
        "model": name,
        "task": task,
        "text": text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "\u2026",
        "rows": rows,
    }


def _text(result: Any) -> str:
    try:
        return to_text(result)
    except (ValueError, TypeError):  # a caller's own results may be anything, also what makes no array
        return f"a result of type {type(result).__name__}"
