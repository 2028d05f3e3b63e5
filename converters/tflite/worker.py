"""The child's end of a conversion: read requests line by line, answer line by line.

Started by `converters.tflite.process` in a fresh interpreter. TensorFlow writes on stdout and stderr from C++, so both
descriptors go to the log that the parent handed over, and the answers leave through a copy of the first stdout.
"""

from __future__ import annotations

import dataclasses
import json
import os
import queue
import shutil
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import IO, Any

from converters.errors import ConversionError
from converters.facts import Kind
from converters.graph.lower import needs_lowering
from converters.quantize.ending import with_ending
from converters.quantize.frozen import Frozen, freeze
from converters.quantize.ptq import ConvertFacts, ConvertRequest, quantize
from converters.quantize.scales import Ranges
from edgeinfer.errors import EdgeInferError, MissingDependencyError, OutputError

__all__ = ["FOLDER_VARIABLE", "main"]

FOLDER_VARIABLE = "EDGEINFER_CONVERTER_FOLDER"


def main() -> None:
    """Answer requests until the parent closes the pipe or ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    requests: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(sys.stdin, requests), daemon=True).start()
    session = Session()
    while True:
        request = requests.get()
        answers.write(json.dumps(_answer(session, request), default=os.fspath) + "\n")
        answers.flush()


def _listen(lines: IO[str], requests: queue.SimpleQueue[dict[str, Any]]) -> None:
    """Queue what the parent sends. The end of the pipe ends the process at once, even in the middle of a conversion."""
    for line in lines:
        requests.put(json.loads(line))
    # The parent removes its folder itself, unless it was killed.
    if FOLDER_VARIABLE in os.environ:
        shutil.rmtree(os.environ[FOLDER_VARIABLE], ignore_errors=True)
    os._exit(0)


def _answer(session: Session, request: dict[str, Any]) -> dict[str, Any]:
    try:
        doing = request.pop("do")
        facts = session.load(**request) if doing == "load" else session.convert(request)
        return {"result": dataclasses.asdict(facts)}
    except EdgeInferError as error:
        return {"error": error.to_json()}
    except MemoryError:
        return {"failure": "MemoryError"}
    except Exception as error:
        traceback.print_exc()
        return {"failure": f"{type(error).__name__}: {error}"}


class Session:
    """What the child keeps between two requests: the frozen function of the model that was loaded last."""

    def __init__(self) -> None:
        self._frozen: Frozen | None = None
        self._keras: tuple[Path, Kind] | None = None
        self._lowers = False

    def load(self, path: str, kind: str, with_tf_keras: bool) -> Any:
        """Read a model and freeze it; only the frozen function stays in memory."""
        self._frozen, self._keras, self._lowers = None, None, False
        _require_tensorflow()
        from converters.load import load_keras, load_tf_keras
        from converters.savedmodel import load_saved_model

        if with_tf_keras:
            loaded = load_tf_keras(Path(path))
        elif kind == "savedmodel":
            loaded = load_saved_model(Path(path))
        else:
            file: tuple[Path, Kind] = Path(path), "keras" if kind == "keras" else "h5"
            loaded = load_keras(*file)
            self._keras = file
        self._lowers = self._keras is not None and needs_lowering(layer.kind for layer in loaded.facts.layers)
        self._frozen = freeze(loaded)
        return dataclasses.replace(loaded.facts, inputs=self._frozen.inputs, outputs=self._frozen.outputs)

    def _again(self, ranges: Ranges, lowered: bool, substitute_for: str) -> tuple[Frozen, tuple[str, ...]]:
        """Read the model once more, prepared for int8: keeping it would cost the memory of its weights."""
        from converters.load import load_keras

        if self._keras is None:
            raise ConversionError(
                "Ranges of activations go by layers, and this model does not say its layers.",
                received="a SavedModel",
                expected="a `.keras` or `.h5` file",
                next_step='Save the model with `model.save("model.keras")`.',
            )
        loaded = load_keras(*self._keras, ranges, lowered=lowered, substitute_for=substitute_for)
        return freeze(loaded), loaded.replaced

    def convert(self, fields: dict[str, Any]) -> ConvertFacts:
        """Convert the model that was loaded last and write the file."""
        if self._frozen is None:
            raise ConversionError("No model is loaded.", next_step="Call `load` first.")
        normalization = fields.pop("normalization")
        request = ConvertRequest(
            **{
                **fields,
                "output": Path(fields["output"]),
                "calibration": tuple(Path(one) for one in fields["calibration"]),
                "normalization": None if normalization is None else (normalization[0], normalization[1]),
                "fallback": tuple((str(pattern), str(kind)) for pattern, kind in fields["fallback"]),
                "ranges": tuple((str(name), float(low), float(high)) for name, low, high in fields["ranges"]),
            }
        )
        start = time.perf_counter()
        lowered = self._lowers and request.scheme == "int8"
        # The layers of a SavedModel are not known; what its ops are shows in the file.
        substitute_for = request.substitute_for if self._keras is not None else ""
        frozen, replaced = self._frozen, tuple[str, ...]()
        if request.ranges or lowered or substitute_for:
            frozen, replaced = self._again(request.ranges, lowered, substitute_for)
        if request.ending is not None:
            frozen = with_ending(frozen, request.ending, request.top_k)
        data, samples = quantize(frozen, request)
        seconds = time.perf_counter() - start
        try:
            request.output.write_bytes(data)
        except OSError as error:
            raise OutputError(f"`{request.output}` cannot be written.", received=str(error)) from error
        return ConvertFacts(request.output, len(data), samples, seconds, replaced)


def _require_tensorflow() -> None:
    try:
        import tensorflow  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(
            "TensorFlow is not installed.",
            received=f"{error}, in {sys.executable}",
            next_step='pip install "edgeinfer[convert]"',
        ) from error


if __name__ == "__main__":
    main()
