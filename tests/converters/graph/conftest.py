"""Model files of others that the tests of this folder share."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def resnet(test_data: Path) -> Path:
    """ResNet-8 of MLPerf Tiny as Keras 2 saved it; `pretrainedResnet.tflite` lies beside it."""
    return test_data / "mlperf_tiny" / "ic" / "pretrainedResnet.h5"
