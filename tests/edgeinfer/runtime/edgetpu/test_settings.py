"""Settings that would watch nothing are refused when they are made."""

from __future__ import annotations

import socket
from pathlib import Path

import numpy as np
import pytest

from edgeinfer.errors import InputError
from edgeinfer.runtime.edgetpu.settings import EdgeTpuOptions


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("deadline_s", 0.0),
        ("deadline_s", float("nan")),
        ("first_deadline_s", float("inf")),
        ("first_deadline_s", -1.0),
        ("restarts", -1),
        ("restarts", 101),
        ("check_every", -1),
        ("deadline_s", True),
        ("deadline_s", "2"),
        ("deadline_s", None),
        ("deadline_s", 2j),
        pytest.param("deadline_s", 10**400, id="deadline_s-400 digits"),
        ("first_deadline_s", 86401),
        ("restarts", True),
        ("restarts", 3.0),
        ("restarts", "3"),
        ("check_every", False),
        ("check_every", 1.5),
        ("check_every", None),
        ("isolate", 1),
        ("isolate", "no"),
        ("isolate", None),
        ("library", b"libedgetpu.so.1"),
        ("library", 1),
        ("library", True),
    ],
)
def test_a_value_out_of_range_or_of_another_type_is_named(name: str, value: object) -> None:
    with pytest.raises(InputError, match=f"`{name}`") as caught:
        EdgeTpuOptions(**{name: value})  # type: ignore[arg-type]
    assert caught.value.received == repr(value)


def test_the_ends_of_the_ranges_are_allowed() -> None:
    options = EdgeTpuOptions(deadline_s=0.001, restarts=0, check_every=0)
    assert (options.isolate, options.library) == (True, None)


def test_numbers_of_numpy_are_numbers() -> None:
    options = EdgeTpuOptions(deadline_s=np.float32(0.5), restarts=np.int64(2), check_every=np.uint8(7))  # type: ignore[arg-type]
    assert (options.deadline_s, options.restarts, options.check_every) == (0.5, 2, 7)
    with socket.socket() as one:
        one.settimeout(options.deadline_s)  # which takes no number of NumPy's


def test_a_library_may_be_a_path() -> None:
    assert EdgeTpuOptions(library=Path("/opt/libedgetpu.so.1")) == EdgeTpuOptions(library="/opt/libedgetpu.so.1")
