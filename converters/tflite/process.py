"""The parent's end of a conversion: one child process with TensorFlow in it.

The converter writes some thirty lines on stdout and stderr, leaks about 20 MB a call and can end in a segmentation
fault. All of that stays in the child. It is a fresh interpreter and not a fork or `multiprocessing`, so a script
without a `__main__` guard works, and nothing that the parent has imported can get in TensorFlow's way.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from converters.errors import ConversionError
from converters.facts import Kind, LayerFacts, ModelFacts, TensorFacts
from converters.graph.leading import Leading
from converters.load import model_kind
from converters.quantize.ptq import ConvertFacts, ConvertRequest
from converters.savedmodel import NeedsKeras2Error
from converters.tflite.worker import FOLDER_VARIABLE
from edgeinfer.errors import EdgeInferError

__all__ = [
    "ConvertFacts",
    "ConvertRequest",
    "ConverterProcess",
    "LayerFacts",
    "Leading",
    "ModelFacts",
    "TensorFacts",
]

TF_KERAS_VARIABLE = "EDGEINFER_TF_KERAS_PYTHON"
_LOG = "converter.log"
_LOG_LINES = 20
_RECURRENT = frozenset({"LSTM", "GRU", "SimpleRNN", "RNN", "Bidirectional", "ConvLSTM1D", "ConvLSTM2D"})
# The child's alone. oneDNN's constant folding differs from machine to machine in the last bit; a GPU is not needed and
# takes seconds to find; Keras would otherwise follow the user's `keras.json` to another backend.
_QUIET = {
    "CUDA_VISIBLE_DEVICES": "",
    "KERAS_BACKEND": "tensorflow",
    "PYTHONSAFEPATH": "1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "TF_ENABLE_ONEDNN_OPTS": "0",
}
_UNWANTED = ("PYTHONWARNINGS", "PYTHONSTARTUP", "PYTHONINSPECT", "TF_USE_LEGACY_KERAS")
# Not `python -m`: that puts the working directory first, and a `json.py` lying there would stand in for the real one.
_START = """
import sys
sys.path[:] = {path!r} or sys.path
sys.path += {own!r}
from converters.tflite.worker import main
main()
"""


class ConverterProcess:
    """A child process that loads a model once and converts it as often as needed.

    Example:
        >>> with ConverterProcess() as converter:                                  # doctest: +SKIP
        ...     facts = converter.load(Path("birds.keras"))
        ...     converter.convert(ConvertRequest(Path("birds.tflite"), calibration=(Path("pixels.npy"),)))

    Args:
        timeout: Seconds that one request may take. Half an hour is generous: MobileNetV2 takes 20 seconds.
    """

    def __init__(self, *, timeout: float = 1800.0) -> None:
        self._timeout = timeout
        self._child: subprocess.Popen[bytes] | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._facts: ModelFacts | None = None

    def __enter__(self) -> ConverterProcess:
        """Start the child, so that it can begin importing."""
        self._start(sys.executable, {}, sys.path)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the child, whatever it is doing."""
        self.close()

    def load(self, path: Path, *, kind: Kind | None = None) -> ModelFacts:
        """Read a model and take a leading rescaling off it.

        Args:
            path: A `.keras` or `.h5` file, or a SavedModel directory.
            kind: None reads it off the content.

        Raises:
            InputFileError: Nothing is there, or it cannot be read.
            ConversionError: It is no model, or one that cannot be converted; or the child ended or took too long.
            MissingDependencyError: TensorFlow or Keras is not installed.
        """
        kind = kind or model_kind(path)
        request = {"do": "load", "path": os.fspath(path.resolve()), "kind": kind, "with_tf_keras": False}
        self._facts = None
        try:
            result = self._ask(request, f"loading `{path}`")
        except NeedsKeras2Error as error:
            self._restart_with_tf_keras(path, error)
            result = self._ask({**request, "with_tf_keras": True}, f"loading `{path}` with tf-keras")
        self._facts = _model_facts(result)
        return self._facts

    def convert(self, request: ConvertRequest) -> ConvertFacts:
        """Convert the model that was loaded last, and write a file.

        Raises:
            CalibrationError: The calibration files do not fit the model's inputs.
            UnsupportedOpError: TensorFlow Lite has no such op, or none in this scheme.
            OutputError: The file cannot be written.
            ConversionError: The converter failed, ended or took too long.
        """
        result = self._ask({"do": "convert", **dataclasses.asdict(request)}, f"converting to {request.scheme}")
        return ConvertFacts(
            Path(result["output"]),
            result["size_bytes"],
            result["samples"],
            result["seconds"],
            tuple(result["replaced"]),
        )

    def close(self) -> None:
        """End the child and remove its files. Harmless when done twice."""
        child, self._child = self._child, None
        if child is not None:
            # The child is a group of its own, so whatever it has started ends with it.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            for pipe in (child.stdin, child.stdout):
                if pipe is not None:
                    # A request that never got through would be flushed into the closed pipe here.
                    with contextlib.suppress(BrokenPipeError):
                        pipe.close()
        folder, self._folder = self._folder, None
        if folder is not None:
            folder.cleanup()

    def _start(self, python: str, variables: Mapping[str, str], path: list[str]) -> None:
        folder = tempfile.TemporaryDirectory(prefix="edgeinfer-", ignore_cleanup_errors=True)
        self._folder = folder
        environment = {name: value for name, value in os.environ.items() if name not in _UNWANTED}
        environment |= {**_QUIET, "TMPDIR": folder.name, FOLDER_VARIABLE: folder.name, **variables}
        with Path(folder.name, _LOG).open("wb") as log:
            self._child = subprocess.Popen(
                [python, "-c", _START.format(path=path, own=_own_folders())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment,
                # Ctrl-C in a terminal reaches the whole group: the parent alone shall answer it.
                start_new_session=True,
            )

    def _restart_with_tf_keras(self, path: Path, error: NeedsKeras2Error) -> None:
        """Start the worker again in the interpreter that the user names, which has Keras 2."""
        self.close()
        python = os.environ.get(TF_KERAS_VARIABLE, "")
        if not python:
            raise ConversionError(
                f"`{path}` was written by Keras 2, and needs it to be read.",
                received=error.received,
                expected=f"{TF_KERAS_VARIABLE}: a Python interpreter that has tensorflow and tf-keras",
                next_step="python3 -m venv tf-keras && tf-keras/bin/pip install tensorflow==2.21.0 tf-keras==2.21.0 "
                f"numpy pillow && export {TF_KERAS_VARIABLE}=$PWD/tf-keras/bin/python",
            ) from error
        try:
            self._start(python, {"TF_USE_LEGACY_KERAS": "1", "PYTHONPATH": ""}, [])
        except OSError as failure:
            raise ConversionError(
                f"The interpreter that {TF_KERAS_VARIABLE} names cannot be started.",
                received=f"{python}: {failure}",
                expected="the path of a Python that has tensorflow and tf-keras",
            ) from failure

    def _ask(self, request: dict[str, Any], doing: str) -> dict[str, Any]:
        """Send one request and return the result, or raise what the child reports."""
        child = self._child
        if child is None or child.stdin is None:
            raise ConversionError(
                "The converter's process has ended.", next_step="Start again with a new `ConverterProcess`."
            )
        try:
            # A child that died at once is noticed below, where its end can be explained.
            with contextlib.suppress(BrokenPipeError):
                child.stdin.write(json.dumps(request, default=os.fspath).encode() + b"\n")
                child.stdin.flush()
            line = self._read_line(child, doing)
            answer = json.loads(line) if line else None
        except BaseException:
            self.close()
            raise
        if answer is None:
            raise self._explain_end(child, doing)
        if "error" in answer:
            raise _rebuilt(answer["error"])
        if "failure" in answer:
            raise self._failed(f"The converter failed while {doing}.", answer["failure"])
        result: dict[str, Any] = answer["result"]
        return result

    def _read_line(self, child: subprocess.Popen[bytes], doing: str) -> bytes:
        """Wait for one line from the child. An empty answer means that it has ended."""
        if child.stdout is None:
            return b""
        descriptor, line = child.stdout.fileno(), b""
        deadline = time.monotonic() + self._timeout
        with selectors.DefaultSelector() as selector:
            selector.register(descriptor, selectors.EVENT_READ)
            while not line.endswith(b"\n"):
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise ConversionError(
                        f"The converter took too long while {doing}.",
                        received=f"no answer within {self._timeout:g} seconds",
                        next_step="Give it more time with `ConverterProcess(timeout=...)`, or fewer samples.",
                    )
                chunk = os.read(descriptor, 1 << 16)
                if not chunk:
                    return b""
                line += chunk
        return line

    def _explain_end(self, child: subprocess.Popen[bytes], doing: str) -> ConversionError:
        """Say why the child ended in the middle of a request."""
        code = child.wait()
        message, next_step = f"The converter's process ended with code {code} while {doing}.", ""
        if code < 0:
            message = f"The converter's process was ended by {signal.Signals(-code).name} while {doing}."
        recurrent = [
            f"`{layer.name}` ({layer.kind})"
            for layer in (self._facts.layers if self._facts else ())
            if layer.kind in _RECURRENT
        ]
        if code == -signal.SIGKILL:
            next_step = "Nobody but the system does that, when memory runs out: use fewer samples or more memory."
        elif code < 0 and recurrent:
            next_step = (
                f"TensorFlow's converter crashes on recurrent layers in loop form: {', '.join(recurrent)}. "
                'Build the model again with `unroll=True` in these layers, or use the scheme "dynamic".'
            )
        error = self._failed(message, "", next_step)
        self.close()
        return error

    def _failed(self, message: str, what: str, next_step: str = "") -> ConversionError:
        """Make an error that carries the last lines of the child's log."""
        if what == "MemoryError":
            return ConversionError(
                message, received="not enough memory", next_step="Use fewer samples, or a machine with more memory."
            )
        lines = [what] if what else []
        if self._folder is not None:
            with contextlib.suppress(OSError):
                lines += Path(self._folder.name, _LOG).read_text("utf-8", "replace").splitlines()[-_LOG_LINES:]
        return ConversionError(message, received="\n    ".join(lines), next_step=next_step)


def _own_folders() -> list[str]:
    """Return where the two packages lie: in a checkout, or installed."""
    import edgeinfer

    folders = [Path(str(one)).parent.parent for one in (__file__, edgeinfer.__file__)]
    return [str(folders[0].parent), str(folders[1])]


def _rebuilt(fields: Mapping[str, str]) -> EdgeInferError:
    """Make the error again that the child has caught."""
    kind = next((one for one in _family(EdgeInferError) if one.__name__ == fields["type"]), ConversionError)
    return kind(fields["message"], received=fields["received"], expected=fields["expected"], next_step=fields["next"])


def _family(kind: type[EdgeInferError]) -> Iterator[type[EdgeInferError]]:
    yield kind
    for one in kind.__subclasses__():
        yield from _family(one)


def _model_facts(result: Mapping[str, Any]) -> ModelFacts:
    leading = result["leading"]
    return ModelFacts(
        **{
            **result,
            "inputs": _tensors(result["inputs"]),
            "outputs": _tensors(result["outputs"]),
            "layers": tuple(LayerFacts(**one) for one in result["layers"]),
            "leading": None if leading is None else _leading(leading),
            "staying": tuple(_leading(one) for one in result["staying"]),
        }
    )


def _leading(fields: Mapping[str, Any]) -> Leading:
    return Leading(**{**fields, "layers": tuple(fields["layers"])})


def _tensors(fields: list[dict[str, Any]]) -> tuple[TensorFacts, ...]:
    return tuple(TensorFacts(**{**one, "shape": tuple(one["shape"])}) for one in fields)
