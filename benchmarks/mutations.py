"""How many damaged files does `check()` refuse, and what do those that it lets through do to the engine?

One to four random bytes of a model are overwritten (seeded). Each mutant is checked, then loaded,
allocated and run once in a forked child with a time and a memory limit. A changed weight only changes an
answer, so `--where structure` draws the bytes from the file's tables; `--where small` does so too and
puts in small numbers and neighbours, which are likelier to make a file that is well formed and wrong.

    python benchmarks/mutations.py --mutants 2000 --children 400 --where structure MODEL ...

Run it where the engine in question is installed (tflite-runtime is the one that follows bad offsets). The
CSV counts, per model and way of damage, verdicts of `check()` against fates in the child.
"""

from __future__ import annotations

import argparse
import collections
import csv
import importlib
import os
import platform
import resource
import signal
import sys
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from edgeinfer.errors import EdgeInferError  # noqa: E402
from edgeinfer.model.check import check  # noqa: E402
from edgeinfer.model.ops import Engine, ceilings  # noqa: E402
from edgeinfer.model.schema import parse  # noqa: E402

TIME_LIMIT_S = 10
MEMORY_LIMIT_BYTES = 4 << 30


def find_engine() -> tuple[Engine, str, Any]:
    """Return the name, version and interpreter class of the engine that is installed here."""
    try:
        found = importlib.import_module("tflite_runtime.interpreter").Interpreter
        return "tflite-runtime", version("tflite-runtime"), found
    except ImportError:
        found = importlib.import_module("ai_edge_litert.interpreter").Interpreter
        return "litert", version("ai-edge-litert"), found


def structure_bytes(data: bytes) -> np.ndarray[Any, Any]:
    """Return the positions of all bytes that are not a constant's."""
    free = np.ones(len(data), bool)
    start = np.frombuffer(data, np.uint8).ctypes.data
    for subgraph in parse(data).subgraphs:
        for tensor in subgraph.tensors:
            if tensor.constant is not None and len(tensor.constant) > 64:
                first = np.frombuffer(tensor.constant, np.uint8).ctypes.data - start
                free[first : first + len(tensor.constant)] = False
    return np.flatnonzero(free)


def mutants(data: bytes, count: int, seed: int, where: str) -> Iterator[bytes]:
    """Yield copies of `data` with one to four bytes overwritten."""
    random = np.random.default_rng(seed)
    places = np.arange(len(data)) if where == "anywhere" else structure_bytes(data)
    for _ in range(count):
        copy = bytearray(data)
        for place in random.choice(places, size=random.integers(1, 5)):
            value = random.integers(0, 256)
            if where == "small":
                value = random.choice([0, 1, 2, copy[place] + 1, copy[place] - 1])
            copy[place] = value % 256
        yield bytes(copy)


def verdict(data: bytes, engine: Engine) -> str:
    """Return "accepted", or the name of the error."""
    try:
        check(data, ceilings(engine))
    except EdgeInferError as error:
        return type(error).__name__
    return "accepted"


def fate(data: bytes, interpreter_class: Any) -> str:
    """Load, allocate and invoke in a child; return "runs", "refused", "hang" or the signal's name."""
    child = os.fork()
    if not child:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT_BYTES, MEMORY_LIMIT_BYTES))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        sink = os.open(os.devnull, os.O_WRONLY)
        os.dup2(sink, 1)
        os.dup2(sink, 2)
        try:
            interpreter = interpreter_class(model_content=data, num_threads=1)
            interpreter.allocate_tensors()
            for detail in interpreter.get_input_details():
                interpreter.set_tensor(detail["index"], np.zeros(detail["shape"], detail["dtype"]))
            interpreter.invoke()
            for detail in interpreter.get_output_details():
                interpreter.get_tensor(detail["index"])
        except BaseException:
            os._exit(1)
        os._exit(0)
    end = time.monotonic() + TIME_LIMIT_S
    pause = 0.001
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            break
        if time.monotonic() > end:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return "hang"
        time.sleep(pause)
        pause = min(2 * pause, 0.05)
    if os.WIFSIGNALED(status):
        return signal.Signals(os.WTERMSIG(status)).name
    return "runs" if os.WEXITSTATUS(status) == 0 else "refused"


def main() -> int:
    """Damage, check, run, count."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("models", nargs="*", type=Path)
    parser.add_argument("--mutants", type=int, default=2000)
    parser.add_argument("--children", type=int, default=400, help="the first N mutants are run as well")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--where", choices=("anywhere", "structure", "small"), default="anywhere")
    parser.add_argument("--keep", type=Path, help="folder for accepted mutants that ended by a signal or hung")
    parser.add_argument("--out", type=Path, help="CSV to append to")
    arguments = parser.parse_args()
    engine, engine_version, interpreter_class = find_engine()
    tiny: bytes = importlib.import_module("tiny_models").classifier()
    files = {"tiny_models.classifier": tiny} | {path.name: path.read_bytes() for path in arguments.models}
    rows = []
    for name, data in files.items():
        counts: collections.Counter[tuple[str, str]] = collections.Counter()
        damaged = mutants(data, arguments.mutants, arguments.seed, arguments.where)
        for index, mutant in enumerate(damaged):
            judged = verdict(mutant, engine)
            fared = fate(mutant, interpreter_class) if index < arguments.children else "not run"
            counts[judged, fared] += 1
            if arguments.keep and judged == "accepted" and fared not in ("runs", "refused", "not run"):
                (arguments.keep / f"{name}.{index}.{fared}").write_bytes(mutant)
        for (judged, fared), count in sorted(counts.items()):
            rows.append([name, arguments.where, arguments.mutants, engine, engine_version, judged, fared, count])
            print(*rows[-1], sep=",")
    if arguments.out:
        new = not arguments.out.exists()
        with arguments.out.open("a", newline="") as stream:
            writer = csv.writer(stream)
            if new:
                head = "model damage mutants engine engine_version check fate count machine python"
                writer.writerow(head.split())
            writer.writerows([*row, platform.machine(), platform.python_version()] for row in rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
