"""`Runtime`: one model file in one interpreter; arrays in, arrays out."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgeinfer.errors import DamagedModelError, DeviceError, EdgeInferError, InputError, naming
from edgeinfer.files import read_bytes, sha256
from edgeinfer.model.check import check
from edgeinfer.model.metadata import InputSpec, ModelMetadata, OutputSpec, read
from edgeinfer.model.ops import ceilings
from edgeinfer.quantization import dequantize
from edgeinfer.runtime.engines import Engine, Interpreter, find_engine
from edgeinfer.runtime.own_input import stored_input
from edgeinfer.runtime.placement import chosen_device, chosen_threads, open_on_cpu
from edgeinfer.runtime.trial import try_first

if TYPE_CHECKING:
    from edgeinfer.runtime.edgetpu.guard import Faults, Guard
    from edgeinfer.runtime.edgetpu.settings import EdgeTpuOptions


class Runtime:
    """A model file, checked, loaded and ready.

    Args:
        model: Path of a `.tflite` file, or its bytes.
        device: "cpu", or an Edge TPU: "edgetpu" (any), "edgetpu:usb", "edgetpu:pci:0", ... None reads
            `EDGEINFER_DEVICE`, else "cpu".
        threads: None reads `EDGEINFER_THREADS`, else all cores that this process may use.
        engine: "litert", "tflite-runtime" or "tensorflow". None reads `EDGEINFER_ENGINE`, else the best installed.
        trial: Run the file once in a child process first. None does so for engines that do not verify files. On an
            Edge TPU the model runs in a process of its own anyhow.
        fallback: For an Edge TPU: the file that was compiled. It checks the device's answers, runs on the CPU where the
            device fails for good, and says what the compiled file no longer does. None ends in an error then.
        edgetpu: How an Edge TPU is watched; None is `EdgeTpuOptions()`.

    Raises:
        InputFileError: There is no such file.
        DamagedModelError: It is not a TFLite file, is damaged, or stops the engine.
        UnsupportedOpError: The engine does not know an op, or this version of it.
        MetadataError: The file contradicts itself.
        InputError: There is no engine or device of this name, or `threads` is out of range.
        DeviceError: The device is not there, or fails its first check.
        MissingDependencyError: No engine is installed, or the Edge TPU's library is not.

    An interpreter belongs to one thread at a time; make one `Runtime` per thread. One on an Edge TPU holds a process
    and the device: `close` it, or use it in a `with` statement.

    Attributes:
        device: Where it runs, in one spelling: "cpu", "edgetpu:usb:0".

    Example:
        runtime = Runtime("depth.tflite", threads=4)
        depth = runtime(image)["depth"]

        with Runtime("depth_edgetpu.tflite", device="edgetpu", fallback="depth.tflite") as runtime:
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
        fallback: str | Path | bytes | None = None,
        edgetpu: EdgeTpuOptions | None = None,
    ) -> None:
        started = time.perf_counter()
        self.path = None if isinstance(model, bytes) else Path(model)
        address = chosen_device(device)
        self.device = "cpu" if address is None else str(address)
        self.threads = chosen_threads(threads)
        stamp = _stamp(self.path)
        data = model if isinstance(model, bytes) else read_bytes(model)
        self.sha256 = sha256(data)
        self.size_bytes = len(data)
        self.engine: Engine = find_engine(engine)
        source = data if self.path is None else self.path
        self._guard: Guard | None = None
        self._interpreter: Interpreter
        if address is None:
            _refuse_without_device(fallback, edgetpu)
            with naming(self.path):
                file = check(data, ceilings(self.engine.name, self.engine.version))
                self.metadata: ModelMetadata = read(file)
                if trial if trial is not None else not self.engine.verifies:
                    try_first(source, sha256=self.sha256, engine=self.engine)
                self._interpreter = open_on_cpu(source, self.engine, threads=self.threads)
        else:
            from edgeinfer.runtime.edgetpu.open import Ask, open_on_edgetpu

            ask = Ask(address, self.engine, self.threads, fallback, edgetpu)
            self._guard, self.metadata = open_on_edgetpu(source, data, ask)
            self._interpreter = self._guard
        try:
            self._take_views(stamp)
        except BaseException:
            self.close()  # not when somebody has let go of the error, which holds on to this object
            raise
        self.batch = 1
        self.load_ms = (time.perf_counter() - started) * 1e3

    def _take_views(self, stamp: tuple[int, ...]) -> None:
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
    def faults(self) -> Faults:
        """What went wrong with the device since the model was loaded; all zero on the CPU."""
        if self._guard is not None:
            return self._guard.faults
        from edgeinfer.runtime.edgetpu.guard import Faults

        return Faults()

    @property
    def on_fallback(self) -> bool:
        """Whether the CPU twin answers, because the device has failed for good."""
        return self._guard is not None and self._guard.faults.on_fallback

    def close(self) -> None:
        """Let go of an Edge TPU and end the model's process; may be called more than once.

        The latest outputs can still be read. A model on the CPU holds neither, and nothing happens.
        """
        if self._guard is not None:
            self._guard.close()

    def __enter__(self) -> Runtime:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

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
            DeviceError: The engine fails while it runs, or the device does for good and there is no twin.
        """
        try:
            self._interpreter.invoke()
        except EdgeInferError:
            raise
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


def _refuse_without_device(fallback: object, edgetpu: object) -> None:
    """Refuse what is said of a device where there is none: a slip that would cost the twin or a deadline silently.

    Raises:
        InputError: One of them is given.
    """
    for name, value in (("fallback", fallback), ("edgetpu", edgetpu)):
        if value is not None:
            raise InputError(
                f"`{name}` is for a model on an Edge TPU.",
                received=f'`{name}` with device="cpu"',
                next_step='Say `device="edgetpu"`, or leave it away.',
            )
