"""What may be asked of a source."""

from __future__ import annotations

from typing import Any

import pytest

from edgeinfer.errors import InputError
from edgeinfer.sources.reader import Wanted


@pytest.mark.parametrize("size", [(640, 480), [640, 480], (1, 65_535), None])
def test_sizes_of_pictures_are_taken(size: Any) -> None:
    assert Wanted(size).size == size


@pytest.mark.parametrize("size", [(640,), (640, 480, 3), (640.0, 480), (True, 1), (-1, 480), (1, 65_536), "640x480"])
def test_what_is_no_size_is_refused(size: Any) -> None:
    with pytest.raises(InputError, match="`size` is no size of a picture"):
        Wanted(size)


@pytest.mark.parametrize("fps", [0, -1, float("inf"), float("nan"), True, "30"])
def test_what_is_no_rate_is_refused(fps: Any) -> None:
    with pytest.raises(InputError, match="`fps` is no positive number"):
        Wanted(fps=fps)
