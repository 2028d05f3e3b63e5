"""Settings that would watch nothing are refused when they are made."""

from __future__ import annotations

import pytest

from edgeinfer.errors import InputError
from edgeinfer.runtime.edgetpu.settings import EdgeTpuOptions

pytestmark = pytest.mark.device


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
    ],
)
def test_a_value_out_of_range_is_named(name: str, value: float) -> None:
    with pytest.raises(InputError, match=f"`{name}`") as caught:
        EdgeTpuOptions(**{name: value})  # type: ignore[arg-type]
    assert caught.value.received == repr(value)


def test_the_ends_of_the_ranges_are_allowed() -> None:
    options = EdgeTpuOptions(deadline_s=0.001, restarts=0, check_every=0)
    assert (options.isolate, options.library) == (True, None)
