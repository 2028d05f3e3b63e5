"""Google's Edge TPU compiler, where it is installed: run, timed out, its log read, its output looked at.

It exists for x86-64 Linux only and is no part of this library. What it writes is believed only if the file holds a
program for the chip: with nothing mapped it reports success and writes the model as it was.
"""

from __future__ import annotations

import json
import os
import platform
import shlex
import shutil
import signal
import subprocess
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from converters.edgetpu.check import Prediction, predict
from converters.edgetpu.log import CompilerLog, compare, parse_log
from converters.errors import ConversionError
from edgeinfer.errors import InputError, MissingDependencyError
from edgeinfer.files import read_bytes, write_together
from edgeinfer.model.payload import Payload, is_compiled, payloads
from edgeinfer.model.schema import parse

__all__ = ["COMPILED_SUFFIX", "Compilation", "compile_bytes", "compile_file", "compiler_command", "find_compiler"]

COMPILER = "edgetpu_compiler"
# The compiler's own limit is the same, and its own report of it says more; it gets some seconds to write that.
TIMEOUT_S = 180.0
_GRACE_S = 10.0
# Version of the latest public runtime. A lower one makes a file that older devices take and that may map fewer ops.
RUNTIME = 14
# What the compiler appends to the name; a file is called so only if it is compiled.
COMPILED_SUFFIX = "_edgetpu"
_INSTALL = (
    "Add Coral's apt repository (https://coral.ai/docs/edgetpu/compiler/ has the line), "
    "then `sudo apt-get install edgetpu-compiler`"
)


@dataclass(frozen=True, slots=True)
class Compilation:
    """A compiled model, and what was predicted of it.

    Attributes:
        data: The compiled file.
        text: What the compiler said.
        log: The same as values.
        prediction: What was predicted from the original.
        differences: Where prediction and compiler part; empty where they agree.
        payloads: What the chip gets.
        path: Where the file was written, or None.
    """

    data: bytes = field(repr=False)
    text: str = field(repr=False)
    log: CompilerLog
    prediction: Prediction = field(repr=False)
    differences: tuple[str, ...]
    payloads: tuple[Payload, ...] = field(repr=False)
    path: Path | None = None

    def files(self, place: Path) -> dict[Path, bytes]:
        """Return what is written for a compiled file at `place`: itself, its log, and what was predicted."""
        return {
            place: self.data,
            place.with_suffix(".log"): self.text.encode(),
            place.with_suffix(".json"): json.dumps(self.to_json(), indent=1).encode() + b"\n",
        }

    def to_json(self) -> dict[str, object]:
        """Return prediction, log and their difference, as they are stored beside the compiled file."""
        return {
            "compiler": self.log.to_json(),
            "prediction": self.prediction.to_json(),
            "differences": list(self.differences),
            "payloads": [one.to_json() for one in self.payloads],
        }


def find_compiler() -> Path | None:
    """Return the compiler that a shell would start, or None."""
    found = shutil.which(COMPILER)
    return Path(found) if found else None


def compiler_command(name: str, *, runtime: int = RUNTIME) -> str:
    """Return the line to type on a machine that has the compiler.

    Example:
        >>> compiler_command("models/birds.tflite")
        'edgetpu_compiler -s -m 14 -o models models/birds.tflite'
    """
    # Without -o it writes into the current folder, and the compiled file belongs beside its original.
    folder = str(Path(name).parent)
    beside = "" if folder == "." else f"-o {shlex.quote(folder)} "
    return f"{COMPILER} -s -m {runtime} {beside}{shlex.quote(name)}"


def compile_file(path: str | Path, *, runtime: int = RUNTIME, timeout_s: float = TIMEOUT_S) -> Compilation:
    """Compile `NAME.tflite` to `NAME_edgetpu.tflite` beside it, with the log and a JSON file of prediction and log.

    The original stays: it is what the processor runs where there is no chip. Nothing is written unless the compiler
    has put a program for the chip into the file.

    Args:
        path: A model quantized in full integers.
        runtime: Lowest version of the Edge TPU runtime (libedgetpu) that shall accept the file.
        timeout_s: Seconds.

    Raises:
        InputFileError: The file is missing.
        InputError: It is compiled already.
        MissingDependencyError: There is no compiler; the message has the line to type where there is one.
        ConversionError: The compiler failed, took too long, or placed nothing on the chip.
        OutputError: The result cannot be written.
    """
    place = Path(path)
    done = compile_bytes(read_bytes(place), name=place.name, runtime=runtime, timeout_s=timeout_s)
    target = place.with_name(f"{place.stem}{COMPILED_SUFFIX}.tflite")
    write_together(done.files(target))
    return Compilation(done.data, done.text, done.log, done.prediction, done.differences, done.payloads, target)


def compile_bytes(
    tflite: bytes, *, name: str = "model.tflite", runtime: int = RUNTIME, timeout_s: float = TIMEOUT_S
) -> Compilation:
    """Compile a model in memory.

    Args:
        tflite: The file.
        name: What to call it in messages and in the log.
        runtime: As in `compile_file`.
        timeout_s: Seconds.

    Raises:
        InputError: It is compiled already.
        MissingDependencyError: There is no compiler.
        ConversionError: The compiler failed, took too long, or placed nothing on the chip.
        DamagedModelError: The file is damaged.
    """
    file = parse(tflite)
    if is_compiled(file):
        raise InputError("The model is compiled for the Edge TPU already.", received=f"`{name}`")
    prediction = predict(file)
    compiler = find_compiler()
    if compiler is None:
        raise _missing(name, runtime)
    with tempfile.TemporaryDirectory(prefix="edgeinfer-edgetpu-") as folder:
        source = Path(folder) / (Path(name).name or "model.tflite")
        source.write_bytes(tflite)
        text = _run(compiler, source, runtime, timeout_s)
        log = parse_log(text)
        written = source.with_name(f"{source.stem}{COMPILED_SUFFIX}.tflite")
        data = written.read_bytes() if written.is_file() else b""
    if log.failure or not data:
        raise _failed(name, log.failure or _last_line(text) or "it wrote no file", prediction)
    compiled = parse(data)
    if not is_compiled(compiled):
        raise _nothing_mapped(name, log, prediction)
    return Compilation(data, text, log, prediction, compare(prediction, log), payloads(compiled))


def _run(compiler: Path, source: Path, runtime: int, timeout_s: float) -> str:
    """Run the compiler in the file's folder and return all that it said, the log file's table included."""
    # It forks a child of its own: both are in a session of theirs, so that neither outlives the time-out.
    process = subprocess.Popen(
        [str(compiler), "-s", "-m", str(runtime), "-o", str(source.parent), f"./{source.name}"],
        cwd=source.parent,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        env={**os.environ, "LC_ALL": "C"},
    )
    try:
        said, _ = process.communicate(timeout=timeout_s + (_GRACE_S if timeout_s >= TIMEOUT_S else 0.0))
    except subprocess.TimeoutExpired as error:
        raise ConversionError(
            f"The Edge TPU compiler was stopped after {timeout_s:g} s.",
            received=f"`{source.name}`",
            next_step="Large activations are the usual cause: take a smaller input, or cut off the large maps.",
        ) from error
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    text = said.decode(errors="replace").replace(f"{source.parent}/", "")
    report = source.with_name(f"{source.stem}{COMPILED_SUFFIX}.log")
    if not parse_log(text).table and report.is_file():
        text = f"{text.rstrip()}\n\n{report.read_text(errors='replace')}"
    return text if process.returncode >= 0 else f"{text.rstrip()}\n{COMPILER} ended by signal {-process.returncode}\n"


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""


def _missing(name: str, runtime: int) -> MissingDependencyError:
    here = (platform.system(), platform.machine()) == ("Linux", "x86_64")
    line = compiler_command(name, runtime=runtime)
    return MissingDependencyError(
        "The Edge TPU compiler is not installed"
        + ("." if here else ", and there is none for this machine: it runs on x86-64 Linux only."),
        received=f"no `{COMPILER}` on PATH ({platform.system()} {platform.machine()})",
        next_step=f"{_INSTALL}, then `{line}`." if here else f"On an x86-64 Linux machine: {_INSTALL}, then `{line}`.",
    )


def _failed(name: str, why: str, prediction: Prediction) -> ConversionError:
    step = "`edgeinfer-convert check FILE --target edgetpu` on the file says which op is the likely cause."
    if prediction.wrong:
        step = f"The check had said: {prediction.wrong}"
    elif "large activation" in why:
        step = "Take a smaller input, or cut the model before its large maps."
    elif "not quantized" in why:
        step = "Convert the model in full integers: `edgeinfer-convert MODEL --calibration photos/ --scheme int8`."
    return ConversionError(f"The Edge TPU compiler failed on `{name}`.", received=why, next_step=step)


def _nothing_mapped(name: str, log: CompilerLog, prediction: Prediction) -> ConversionError:
    reasons = dict.fromkeys(f"{op}: {status}" for op, _, status in log.table)
    first = next((one for one in prediction.verdicts if one.runs_on != "edgetpu"), None)
    step = "" if first is None else f"The first op that stays on the processor: {first.op} ({first.reason})"
    return ConversionError(
        f"The Edge TPU compiler placed no op of `{name}` on the chip.",
        received="; ".join(list(reasons)[:5]) or "no table of ops in its log",
        expected="at least one op mapped",
        next_step=step,
    )
