"""`Runtime`: one model file in one interpreter; arrays in, arrays out."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinfer.errors import DamagedModelError, DeviceError, EdgeInferError, InputError, close_name, naming
from edgeinfer.files import read_bytes, sha256
from edgeinfer.model.check import check
from edgeinfer.model.metadata import InputSpec, ModelMetadata, OutputSpec, read
from edgeinfer.model.ops import ceilings
from edgeinfer.quantization import dequantize
from edgeinfer.runtime.engines import Engine, Interpreter, engine_error, find_engine, open_interpreter
from edgeinfer.runtime.own_input import stored_input
from edgeinfer.runtime.trial import try_first

# Hardware that people name and that is no slip of the pen.
_OTHER_DEVICES = ("edgetpu", "gpu", "npu", "tpu")


class Runtime:
    """A model file, checked, loaded and ready.

    Args:
        model: Path of a `.tflite` file, or its bytes.
        device: "cpu". None reads `EDGEINFER_DEVICE`, else "cpu".
        threads: None reads `EDGEINFER_THREADS`, else all cores that this process may use.
        engine: "litert", "tflite-runtime" or "tensorflow". None reads `EDGEINFER_ENGINE`, else the best installed.
        trial: Run the file once in a child process first. None does so for engines that do not verify files.

    Raises:
        InputFileError: There is no such file.
        DamagedModelError: It is not a TFLite file, is damaged, or stops the engine.
        UnsupportedOpError: The engine does not know an op, or this version of it.
        MetadataError: The file contradicts itself.
        InputError: There is no engine or device of this name, or `threads` is out of range.
        DeviceError: The device is not there.
        MissingDependencyError: No engine is installed.

    An interpreter belongs to one thread at a time; make one `Runtime` per thread.

    Example:
        runtime = Runtime("depth.tflite", threads=4)
        depth = runtime(image)["depth"]
    """

    def __init__(
        self,
        model: str | Path | bytes,
        *,
        device: str | None = None,
        threads: int | None = None,
        engine: str | None = None,
        trial: bool | None = None,
    ) -> None:
        started = time.perf_counter()
        self.path = None if isinstance(model, bytes) else Path(model)
        self.device = _device(device)
        self.threads = _threads(threads)
        stamp = _stamp(self.path)
        data = model if isinstance(model, bytes) else read_bytes(model)
        self.sha256 = sha256(data)
        self.size_bytes = len(data)
        self.engine: Engine = find_engine(engine)
        source = data if self.path is None else self.path
        with naming(self.path):
            file = check(data, ceilings(self.engine.name, self.engine.version))
            self.metadata: ModelMetadata = read(file)
            if trial if trial is not None else not self.engine.verifies:
                try_first(source, sha256=self.sha256, engine=self.engine)
            self._interpreter = self._open(source)
        if _stamp(self.path) != stamp:
            raise DamagedModelError(
                "The file changed while it was loaded: what was checked is not what the engine has.",
                received=f"`{self.path}`",
                next_step="Load it again; write models elsewhere and move them into place.",
            )
        inputs, outputs = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        # Looking a tensor up costs 11 us a frame; the callables stay valid for the interpreter's life.
        self._input_views = tuple(self._interpreter.tensor(detail["index"]) for detail in inputs)
        indices = tuple(int(detail["index"]) for detail in outputs)
        self._outputs = Tensors(self._interpreter, indices, self.metadata.outputs)
        self.batch = 1
        self.load_ms = (time.perf_counter() - started) * 1e3

    @property
    def inputs(self) -> tuple[InputSpec, ...]:
        """The inputs in the file's order."""
        return self.metadata.inputs

    @property
    def outputs(self) -> tuple[OutputSpec, ...]:
        """The outputs in the file's order."""
        return self.metadata.outputs

    @property
    def input(self) -> InputSpec:
        """The only input.

        Raises:
            InputError: The model has several.
        """
        if len(self.inputs) != 1:
            names = ", ".join(f"`{spec.name}`" for spec in self.inputs)
            raise InputError(
                f"This model has {len(self.inputs)} inputs.",
                received=names,
                next_step="Use `inputs` and call with each.",
            )
        return self.inputs[0]

    @property
    def interpreter(self) -> Interpreter:
        """The engine's own object, for what this class does not offer."""
        return self._interpreter

    def __call__(self, *values: NDArray[Any]) -> dict[str, NDArray[np.float32]]:
        """Run the model on floats and return floats.

        Args:
            *values: One array per input, in the file's order: the model's own input as it was trained, in the input's
                shape with or without the batch. Quantization and a folded rescaling are applied here.

        Returns:
            Output name to float32 array of the output's shape, dequantized; the arrays are the caller's.

        Raises:
            InputError: Wrong number of arrays, shape or dtype, or values that are not finite.
        """
        if len(values) != len(self.inputs):
            raise InputError(
                "The model takes one array per input.",
                received=f"{len(values)} arrays",
                expected=", ".join(f"`{spec.name}` {spec.shape}" for spec in self.inputs),
            )
        for index, value in enumerate(values):
            self.set_input(value, index)
        self.invoke()
        return dict(self._outputs)

    def set_input(self, values: NDArray[Any], index: int = 0) -> None:
        """Write the model's own input, as it was trained, into an input tensor; see `own_input.stored_input`.

        Raises:
            InputError: Wrong shape or dtype, or values that are not finite.
        """
        self.input_view(index)[...] = stored_input(values, self.inputs[index])

    def input_view(self, index: int = 0) -> NDArray[Any]:
        """Return the input tensor's own memory, to be written in place.

        The view has the input's shape and dtype, holds the file's stored numbers (not floats, where it is quantized),
        and must be let go before `invoke`: take it per frame.
        """
        return self._input_views[index]()

    def set_batch(self, samples: int) -> None:
        """Make room for several samples in the inputs and outputs; that many stay until the next call.

        Afterwards `input_view` and the outputs have `samples` rows, whatever `inputs` and `outputs` say. It costs as
        much as loading the model's tensors anew, and nothing where the number is the same as before.

        Raises:
            InputError: The file takes one sample at a time, or `samples` is below 1.
            DeviceError: The engine cannot.
        """
        if samples == self.batch:
            return
        if samples < 1 or not self.metadata.open_batch:
            raise InputError(
                "This model takes one sample at a time.",
                received=f"{samples} samples",
                expected="1" if not self.metadata.open_batch else "1 or more",
                next_step="`Pipeline.batch` takes any number, and runs such a model once for each.",
            )
        try:
            for detail, spec in zip(self._interpreter.get_input_details(), self.inputs, strict=True):
                self._interpreter.resize_tensor_input(detail["index"], (samples, *spec.shape[1:]))
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise DeviceError(
                f"{self.engine.name} {self.engine.version} cannot run this model on several samples at once.",
                received=f"{samples} samples: {' '.join(str(error).split())}",
            ) from error
        self.batch = samples

    def invoke(self) -> None:
        """Run the model on what lies in its input tensors.

        Raises:
            DeviceError: The engine fails while it runs.
        """
        try:
            self._interpreter.invoke()
        except (ValueError, RuntimeError) as error:
            is_held = "reference" in str(error)  # what every engine says of views that are still alive
            raise DeviceError(
                f"{self.engine.name} {self.engine.version} failed while it ran the model.",
                received=" ".join(str(error).split()),
                next_step="Let every `input_view()` go before `invoke()`, and take a new one per frame."
                if is_held
                else "",
            ) from error

    def raw_output(self, index: int = 0) -> NDArray[Any]:
        """Return a copy of an output's stored numbers, in its own shape and dtype."""
        return self._outputs.raw(index)

    @property
    def tensors(self) -> Tensors:
        """The outputs of the latest `invoke`, read when asked for."""
        return self._outputs

    def _open(self, source: Path | bytes) -> Interpreter:
        try:
            return open_interpreter(self.engine, source, threads=self.threads)
        except EdgeInferError as first:
            if "delegate" not in first.received.lower() and "xnnpack" not in first.received.lower():
                raise
            # XNNPACK refuses some int8 graphs that the engine's own kernels run.
            try:
                interpreter = open_interpreter(self.engine, source, threads=self.threads, default_delegates=False)
            except EdgeInferError:
                raise engine_error(first.received, self.engine) from first
            import logging  # 2 ms that only this rare case needs

            logging.getLogger(__name__).warning(
                "XNNPACK refuses this model; it runs on the engine's slower built-in kernels."
            )
            return interpreter

    def __repr__(self) -> str:
        """Return the file, engine and threads."""
        name = self.path.name if self.path else f"{self.size_bytes} bytes"
        return (
            f"Runtime({name}, {self.engine.name} {self.engine.version}, device={self.device}, threads={self.threads})"
        )


class Tensors(Mapping[str, NDArray[np.float32]]):
    """Outputs of a model by name: floats when read as a mapping, stored numbers through `raw`.

    Nothing is copied or dequantized before it is asked for. It reads what the latest `invoke` left.
    """

    def __init__(self, interpreter: Interpreter, indices: tuple[int, ...], specs: tuple[OutputSpec, ...]) -> None:
        self._interpreter = interpreter
        self._indices = indices
        self.specs = specs
        self._index = {spec.name: index for index, spec in enumerate(self.specs)}
        self._views: list[Any] = [None] * len(indices)

    def raw(self, which: int | str = 0) -> NDArray[Any]:
        """Return a copy of an output's stored numbers, by position or name."""
        return self._interpreter.get_tensor(self._indices[self._position(which) if isinstance(which, str) else which])

    def view(self, which: int | str = 0) -> NDArray[Any]:
        """Return an output's own memory, not a copy: read it at once and let it go, or the next `invoke` fails."""
        position = self._position(which) if isinstance(which, str) else which
        if self._views[position] is None:
            self._views[position] = self._interpreter.tensor(self._indices[position])
        memory: NDArray[Any] = self._views[position]()
        return memory

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        """Return an output as float32, dequantized where it is quantized."""
        index = self._position(name)
        spec = self.specs[index]
        return dequantize(self.raw(index), scale=spec.scale, zero_point=spec.zero_point)

    def __iter__(self) -> Iterator[str]:
        return iter(self._index)

    def __len__(self) -> int:
        return len(self._index)

    def _position(self, name: str) -> int:
        if name not in self._index:
            raise KeyError(f"no output `{name}`; the model has {', '.join(self._index)}")
        return self._index[name]


class Row(Tensors):
    """The outputs of one sample of a batch: `Tensors` with a batch of 1, read from the batch's memory."""

    def __init__(self, batch: Tensors, row: int) -> None:
        self.specs = batch.specs
        self._index = batch._index
        self._batch = batch
        self._row = row

    def raw(self, which: int | str = 0) -> NDArray[Any]:
        """Return a copy of an output's stored numbers for this sample, by position or name."""
        copied: NDArray[Any] = self.view(which).copy()
        return copied

    def view(self, which: int | str = 0) -> NDArray[Any]:
        """Return an output's own memory for this sample; as in `Tensors.view`."""
        rows: NDArray[Any] = self._batch.view(which)[self._row : self._row + 1]
        return rows


def _stamp(path: Path | None) -> tuple[int, ...]:
    """Return what changes when a file is written or replaced; the engine maps the file, and opens it by name."""
    if path is None:
        return ()
    try:
        status = path.stat()
    except OSError:
        return ()  # `read_bytes` says why
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _device(device: str | None) -> str:
    chosen = device or os.environ.get("EDGEINFER_DEVICE") or "cpu"
    if chosen == "cpu":
        return chosen
    received = f'device="{chosen}"' if device else f'EDGEINFER_DEVICE="{chosen}"'
    if chosen.split(":")[0] in _OTHER_DEVICES:
        raise DeviceError("This version runs models on the CPU only.", received=received, expected='device="cpu"')
    raise InputError(
        "This device is not known.", received=received, expected='"cpu"', next_step=close_name(chosen, ["cpu"])
    )


def _threads(threads: int | None) -> int:
    name = "threads"
    if threads is None:
        text = os.environ.get("EDGEINFER_THREADS")
        if not text:
            return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        try:
            threads = int(text)
        except ValueError as error:
            raise InputError(
                "`EDGEINFER_THREADS` is no whole number.", received=repr(text), expected="1 to 256"
            ) from error
        name = "EDGEINFER_THREADS"
    if not 1 <= threads <= 256:
        raise InputError(f"`{name}` is out of range.", received=str(threads), expected="1 to 256")
    return threads
