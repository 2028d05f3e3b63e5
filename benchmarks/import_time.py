"""Claim: `import edgeinfer` costs at most 1.3 times `import numpy`, and loads no engine and no picture library.

`edgeinfer` loads its names when they are first used, NumPy with them, so the row that a script pays is
`from edgeinfer import classifier`; both are measured.

    python benchmarks/import_time.py
    python benchmarks/import_time.py --python .venv/device/bin/python

Fresh processes, interleaved, so that both see the same machine; the bare start of Python is in both.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time

import numpy as np
from record import versions, write_rows

RUNS = 41
HEAVY = ("tensorflow", "keras", "cv2", "PIL", "ai_edge_litert", "tflite_runtime")
STATEMENTS = {
    "pass": "nothing",
    "import numpy": "numpy",
    "import edgeinfer": "edgeinfer",
    "from edgeinfer import classifier": "with all that a classifier needs",
}


def main() -> None:
    """Measure and write one row per statement."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--python", default=sys.executable)
    python = parser.parse_args().python
    times: dict[str, list[float]] = {statement: [] for statement in STATEMENTS}
    # Bytecode is cached, as it is on any machine after the first start.
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    for number in range(RUNS + 1):
        for statement, series in times.items():
            start = time.perf_counter()
            subprocess.run([python, "-c", statement], check=True, env=environment)
            if number:
                series.append((time.perf_counter() - start) * 1e3)
    code = "import edgeinfer, json, sys; print(json.dumps(list(sys.modules)))"
    loaded = set(json.loads(subprocess.run([python, "-c", code], check=True, capture_output=True).stdout))
    installed = versions(python)
    median = {statement: float(np.median(series)) for statement, series in times.items()}
    rows = [
        {
            "statement": statement,
            "runs": RUNS,
            "median_ms": f"{median[statement]:.1f}",
            "p95_ms": f"{np.percentile(series, 95):.1f}",
            "ratio_to_numpy": f"{median[statement] / median['import numpy']:.3f}",
            "heavy_modules": ", ".join(name for name in HEAVY if name in loaded) if "edgeinfer" in statement else "",
            "versions": installed,
        }
        for statement, series in times.items()
    ]
    name = "import-time" if python == sys.executable else "import-time-device"
    write_rows(name, rows)


if __name__ == "__main__":
    main()
