"""A plugin of pytest in the guest: what tests need there that make their examples up."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator

import pytest
from hypothesis import is_hypothesis_test, settings

# Few: a hundred are tried everywhere else, and this machine is emulated.
settings.register_profile("device", deadline=None, max_examples=4, database=None, derandomize=True)


def pytest_configure() -> None:
    """Beat the profile that tests/conftest.py has chosen by now."""
    settings.load_profile("device")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Let these tests, and no others, have the floats of IEEE 754.

    tflite-runtime 2.14.0 for arm64 sets the processor to flush subnormal floats to zero when it is imported, and
    hypothesis refuses to make floats up on a processor that does so.
    """
    if is_hypothesis_test(getattr(item, "obj", None)):
        _default_floats()
    return (yield)


def _default_floats() -> None:
    mathematics = ctypes.CDLL("libm.so.6")
    mathematics.fesetenv.argtypes = [ctypes.c_void_p]
    mathematics.fesetenv(ctypes.c_void_p(-1))  # FE_DFL_ENV of <fenv.h>
