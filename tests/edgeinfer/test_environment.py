"""The device's test environment is what it is meant to be: slim, without TensorFlow, and on tflite-runtime alone."""

from __future__ import annotations

import os
from importlib.util import find_spec

import pytest

from edgeinfer.runtime.engines import find_engine

pytestmark = pytest.mark.device

WANTED = os.environ.get("EDGEINFER_DEVICE_ENVIRONMENT", "")


@pytest.mark.slim
@pytest.mark.skipif(not WANTED, reason="EDGEINFER_DEVICE_ENVIRONMENT is not set: this is not the device's environment")
def test_a_device_has_no_tensorflow() -> None:
    assert find_spec("tensorflow") is None
    assert find_spec("keras") is None


@pytest.mark.slim
@pytest.mark.skipif(WANTED != "tflite-runtime", reason="this is not the environment of tflite-runtime")
def test_a_device_runs_tflite_runtime_and_nothing_else() -> None:
    assert find_spec("ai_edge_litert") is None
    engine = find_engine()
    assert (engine.name, engine.version) == ("tflite-runtime", "2.14.0")
