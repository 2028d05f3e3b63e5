"""What all tests share: where the real data lies, and what to skip where something is not installed."""

from __future__ import annotations

import os
import signal
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import settings

# A deadline for each example measures how busy the machine is, and not what is tested.
settings.register_profile("edgeinfer", deadline=None)
settings.load_profile("edgeinfer")

ROOT = Path(__file__).resolve().parents[1]


def pytest_configure() -> None:
    """Hear Ctrl-C again where a shell has started the tests in the background.

    Such a shell lets its children ignore SIGINT, and they hand that on to the processes that the tests interrupt.
    """
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of real models and data; the test is skipped without it."""
    folder = os.environ.get("EDGEINFER_TEST_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("EDGEINFER_TEST_DATA names no folder: real models and data are not here")
    return Path(folder)


@pytest.fixture(scope="session")
def standin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library that pretends to be libedgetpu.so.1, see `edgetpu_standin`; skipped where there is no C compiler."""
    from edgetpu_standin import build

    return build(tmp_path_factory.mktemp("edgetpu"))


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep what the tests remember of tried files out of the user's cache, one folder for the whole run."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))
    for name in (
        "EDGEINFER_ENGINE",
        "EDGEINFER_THREADS",
        "EDGEINFER_DEVICE",
        "EDGEINFER_LOG_LEVEL",
        "EDGEINFER_TOKEN",
        "EDGEINFER_ZOO_URL",
    ):
        monkeypatch.delenv(name, raising=False)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs TensorFlow where there is none, and let Keras' own warnings pass there where it is."""
    installed = find_spec("tensorflow") is not None
    for item in items:
        if item.get_closest_marker("tensorflow"):
            if not installed:
                item.add_marker(pytest.mark.skip(reason="TensorFlow is not installed in this environment"))
            # Keras 3.15 writes its weights in a way that NumPy 2 warns of: not ours to mend, and not to fail on.
            item.add_marker(pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"))
