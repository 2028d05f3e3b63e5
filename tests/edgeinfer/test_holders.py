"""Which processes have a device open, with real processes and an ordinary file for the device."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from edgeinfer.holders import holders


def test_the_process_that_has_a_file_open_is_found(tmp_path: Path) -> None:
    place = tmp_path / "video0"
    place.touch()
    code = "import sys; f = open(sys.argv[1]); print('open', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(place)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        (found,) = holders(str(place))
        process.communicate("")
    assert found.endswith(f"({process.pid})")
    assert found.startswith("python")
    assert holders(str(place)) == ()
