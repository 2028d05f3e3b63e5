"""Read off an engine the highest version of every builtin op that it accepts, and the custom ops it knows.

An interpreter resolves every entry of a file's op code table before it looks at an operator. So a file with one op
code and no operator is accepted or refused by the resolver alone: no kernel runs, no options are needed. Custom ops
are resolved later, when tensors are allocated; so for those one operator is added, and a child process per name takes
the blow where the kernel does not survive an operator without tensors.

    python benchmarks/op_version_ceilings.py --engine litert
    python benchmarks/op_version_ceilings.py --engine tflite-runtime      (in an environment that has it)
    python benchmarks/op_version_ceilings.py --engine tensorflow

The CSV in `benchmarks/results/` is what `edgeinfer/model/ops.py` holds; `--check` compares the two.
"""

from __future__ import annotations

import argparse
import csv
import importlib
import multiprocessing
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_args

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from record import machine_name  # noqa: E402

from edgeinfer.model.ops import BUILTINS, CUSTOM_CODE, Engine, ceilings  # noqa: E402

DISTRIBUTIONS = {"litert": "ai-edge-litert", "tflite-runtime": "tflite-runtime", "tensorflow": "tensorflow"}

# Names that occur in the engines' libraries or in public files; whether an engine knows one is what is
# measured.
CUSTOM_OPS = (
    "TFLite_Detection_PostProcess",
    "AudioSpectrogram",
    "Mfcc",
    "NumericVerify",
    "Convolution2DTransposeBias",
    "MaxPoolingWithArgmax2D",
    "MaxUnpooling2D",
    "TransformLandmarks",
    "TransformTensorBilinear",
    "Landmarks2TransformMatrix",
    "Irfft2d",
    "Roll",
    "Atan2",
    "Multinomial",
    "RandomStandardNormal",
    "RandomUniform",
    "edgetpu-custom-op",
    "odml.scaled_dot_product_attention",
    "odml.update_kv_cache",
    "odml.update_external_kv_cache",
    "odml.cache_update",
)
HIGHEST_CODE = 230
HIGHEST_VERSION = 30


def interpreter_class(engine: Engine) -> Callable[..., Any]:
    """Return the engine's interpreter class."""
    modules = {
        "litert": "ai_edge_litert.interpreter",
        "tflite-runtime": "tflite_runtime.interpreter",
        "tensorflow": "tensorflow.lite.python.interpreter",
    }
    found: Callable[..., Any] = importlib.import_module(modules[engine]).Interpreter
    return found


def op_code_file(code: int, op_version: int) -> bytes:
    """Return a file that declares one op and has no operator."""
    tiny = importlib.import_module("tiny_models")
    flat = importlib.import_module("tiny_flatbuffer")
    fields = {
        0: flat.Scalar("b", min(code, 127)),
        2: flat.Scalar("i", op_version),
        3: flat.Scalar("i", code),
    }
    data: bytes = tiny.model([], [], inputs=[], outputs=[], changes={1: [flat.Table(fields)]})
    return data


def highest_version(interpreter: Callable[..., Any], code: int) -> int:
    """Return the highest version that the resolver takes, 0 for none."""
    highest = 0
    for op_version in range(1, HIGHEST_VERSION + 1):
        try:
            interpreter(model_content=op_code_file(code, op_version))
        except (ValueError, RuntimeError):
            # Versions have no gaps, so the first one refused after one that was taken is the end.
            if highest:
                break
        else:
            highest = op_version
    return highest


def _try_custom(engine: Engine, name: str, answer: Any) -> None:
    tiny = importlib.import_module("tiny_models")
    tensors = [tiny.TensorSpec("x", (1, 4)), tiny.TensorSpec("y", (1, 4))]
    operator = tiny.OperatorSpec(CUSTOM_CODE, (0,), (1,), custom_code=name, custom_options=b"")
    data = tiny.model(tensors, [operator], inputs=[0], outputs=[1])
    # The engines answer "unresolved custom op" for one that they do not know; anything else is the kernel's voice.
    answer.send("known")
    try:
        interpreter_class(engine)(model_content=data).allocate_tensors()
    except (ValueError, RuntimeError) as error:
        text = str(error).lower()
        answer.send("unknown" if "unresolved custom op" in text or "custom op" in text else "known")


def knows_custom(engine: Engine, name: str) -> bool:
    """Return whether the engine has a kernel for a custom op."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_try_custom, args=(engine, name, sender))
    child.start()
    child.join(30)
    child.kill()
    sender.close()
    last = "known"
    while receiver.poll():
        try:
            last = receiver.recv()
        except EOFError:
            break
    return last == "known"


def main() -> int:
    """Measure, write the CSV, and with `--check` compare it with the table in the library."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--engine", choices=get_args(Engine), required=True)
    parser.add_argument("--check", action="store_true", help="exit 1 where `ops.py` says something else")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    arguments = parser.parse_args()
    engine: Engine = arguments.engine
    interpreter = interpreter_class(engine)
    found = {code: highest_version(interpreter, code) for code in range(HIGHEST_CODE) if code != CUSTOM_CODE}
    custom = [name for name in CUSTOM_OPS if knows_custom(engine, name)]
    engine_version = version(DISTRIBUTIONS[engine])
    path = arguments.out / f"op-version-ceilings-{engine}-{engine_version}-{machine_name()}.csv"
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["code", "op", "engine", "engine_version", "highest_version"])
        for code, highest in found.items():
            if code < len(BUILTINS):
                writer.writerow([code, BUILTINS[code][0], engine, engine_version, highest])
            elif highest:
                writer.writerow([code, "", engine, engine_version, highest])
        writer.writerows([CUSTOM_CODE, name, engine, engine_version, int(name in custom)] for name in CUSTOM_OPS)
    print(f"{engine} {engine_version}: {sum(map(bool, found.values()))} builtin ops, custom {custom} -> {path.name}")
    table = ceilings(engine, engine_version)
    differences = [
        (BUILTINS[code][0], highest, table.versions.get(BUILTINS[code][0], 0))
        for code, highest in found.items()
        if code < len(BUILTINS) and highest != table.versions.get(BUILTINS[code][0], 0)
    ]
    if differences or set(custom) != set(table.custom):
        print("differs from ops.py (op, measured, table):", differences, sorted(table.custom))
        return int(arguments.check)
    return 0


if __name__ == "__main__":
    sys.exit(main())
