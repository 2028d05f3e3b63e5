"""From a compiled file to a watched interpreter on an Edge TPU, with its CPU twin where one is declared."""

from __future__ import annotations

import os
from pathlib import Path

from edgeinfer.errors import (
    DamagedModelError,
    DeviceError,
    EdgeInferError,
    InputError,
    MetadataError,
    MissingDependencyError,
    naming,
)
from edgeinfer.files import read_bytes, sha256
from edgeinfer.frozen import dataclass, replace
from edgeinfer.model.check import check
from edgeinfer.model.metadata import InputSpec, ModelMetadata, OutputSpec, read
from edgeinfer.model.ops import EDGETPU_OP, ceilings
from edgeinfer.model.payload import is_compiled, min_runtime_version
from edgeinfer.model.schema import ModelFile
from edgeinfer.runtime.edgetpu.address import EdgeTpuAddress
from edgeinfer.runtime.edgetpu.diagnosis import uncompiled
from edgeinfer.runtime.edgetpu.guard import Guard
from edgeinfer.runtime.edgetpu.library import is_listed, library_name
from edgeinfer.runtime.edgetpu.probe import look, probe
from edgeinfer.runtime.edgetpu.settings import EdgeTpuOptions
from edgeinfer.runtime.edgetpu.twin import Twin
from edgeinfer.runtime.engines import Engine, Interpreter, load_delegate, open_interpreter
from edgeinfer.runtime.placement import open_on_cpu
from edgeinfer.runtime.trial import try_first

# Each has its state in a tensor that is a variable, or outside of the tensors, in a resource of the interpreter.
_STATEFUL_OPS = frozenset(
    {
        "ASSIGN_VARIABLE",
        "BIDIRECTIONAL_SEQUENCE_LSTM",
        "BIDIRECTIONAL_SEQUENCE_RNN",
        "CALL_ONCE",
        "LSTM",
        "READ_VARIABLE",
        "RNN",
        "SVDF",
        "UNIDIRECTIONAL_SEQUENCE_LSTM",
        "UNIDIRECTIONAL_SEQUENCE_RNN",
        "VAR_HANDLE",
    }
)


@dataclass(frozen=True, slots=True)
class Ask:
    """Where and how a compiled file shall run.

    Attributes:
        address: Which Edge TPU.
        engine: Of the device's process and of the twin.
        threads: For what stays on the CPU, and for the twin.
        fallback: The file that was compiled, a path or bytes; None is no twin.
        options: How the device is watched; None is `EdgeTpuOptions()`.
    """

    address: EdgeTpuAddress
    engine: Engine
    threads: int
    fallback: str | Path | bytes | None = None
    options: EdgeTpuOptions | None = None

    @property
    def library(self) -> str:
        """The library to load; a path is absolute, since the process works in another folder."""
        given = str((self.options.library if self.options is not None else None) or library_name())
        return str(Path(given).absolute()) if os.sep in given else given

    @property
    def delegate_options(self) -> dict[str, str]:
        """What the delegate is told."""
        return {"device": self.address.option} if self.address.option else {}


def open_on_edgetpu(source: Path | bytes, data: bytes, ask: Ask) -> tuple[Guard, ModelMetadata]:
    """Return the watched interpreter, and the metadata: what the compiled file no longer says, its twin does.

    Args:
        source: The compiled file's path, or its bytes.
        data: Its bytes.
        ask: Where and how it shall run.

    Raises:
        UnsupportedOpError: The file was not compiled for an Edge TPU.
        InputError: The twin was, or is no path and no bytes; or `edgetpu` is of another type.
        MetadataError: The twin has other inputs or outputs.
        DeviceError: The device cannot be used, and there is no twin.
        EdgeInferError: As `Runtime`, for the twin, too.
    """
    if not isinstance(ask.options, EdgeTpuOptions | None):
        raise InputError("`edgetpu` is no `EdgeTpuOptions`.", received=repr(ask.options))
    options = ask.options or EdgeTpuOptions()
    accepted = ceilings(ask.engine.name, ask.engine.version)
    path = None if isinstance(source, bytes) else source
    with naming(path):
        file = check(data, replace(accepted, custom=accepted.custom | {EDGETPU_OP}))
        if not is_compiled(file):
            raise uncompiled(ask.address)
        metadata = read(file)
    twin = None
    keeps_state = _keeps_state(file)
    if ask.fallback is not None:
        twin, original = _open_twin(ask.fallback, metadata, ask)
        metadata = _completed(metadata, read(original), twin)
        keeps_state = keeps_state or _keeps_state(original)
    device: Interpreter | None = None
    cause = None
    try:
        with naming(path):
            if options.isolate:
                device = _open_isolated(source, ask, options, _min_runtime(file))
            else:
                device = _open_here(source, ask)
    except (DeviceError, MissingDependencyError) as error:
        if twin is None:
            raise
        cause = error
    try:
        guard = Guard(
            device,
            twin,
            options=options,
            device_name=str(ask.address),
            is_there=lambda: _is_there(ask),
            cause=cause,
            keeps_state=keeps_state,
        )
    except BaseException:
        device = None  # an error holds on to this call as long as somebody holds the error
        raise
    # One shape, whatever the file says: it was compiled for it.
    return guard, replace(metadata, open_batch=False)


def _keeps_state(file: ModelFile) -> bool:
    """Return whether a model keeps something from frame to frame."""
    return any(
        any(tensor.is_variable for tensor in graph.tensors)
        or any(operator.op in _STATEFUL_OPS for operator in graph.operators)
        for graph in file.subgraphs
    )


def _min_runtime(file: ModelFile) -> int:
    try:
        return min_runtime_version(file) or 0
    except DamagedModelError:  # of another layout than the one that is known: the library may know better
        return 0


def _open_isolated(source: Path | bytes, ask: Ask, options: EdgeTpuOptions, min_runtime: int) -> Interpreter:
    """Start the model's own process; where that fails, the probe says why, in words and with a cure."""
    from edgeinfer.runtime.edgetpu.process import IsolatedInterpreter
    from edgeinfer.runtime.edgetpu.worker import Job

    job = Job("", ask.engine.name, ask.threads, ask.library, ask.delegate_options, min_runtime)
    try:
        return IsolatedInterpreter(
            source, job, deadline_s=options.deadline_s, first_deadline_s=options.first_deadline_s
        )
    except EdgeInferError as error:
        probe(ask.address, source, engine=ask.engine, library=ask.library)
        raise error  # it worked a moment later: what was wrong then is all that is known


def _open_here(source: Path | bytes, ask: Ask) -> Interpreter:
    """Open the device in this process, after a child has shown that this does not end it."""
    probe(ask.address, source, engine=ask.engine, library=ask.library)
    delegate = load_delegate(ask.engine, ask.library, ask.delegate_options)
    return open_interpreter(ask.engine, source, threads=ask.threads, delegate=delegate)


def _is_there(ask: Ask) -> bool:
    """Return whether the library still lists the device; True where it cannot say it."""
    try:
        listed = look(ask.library).devices
    except EdgeInferError:
        return True
    return listed is None or is_listed(ask.address, listed)


# --- the twin ---------------------------------------------------------------------------------------------------------


def _open_twin(fallback: str | Path | bytes, compiled: ModelMetadata, ask: Ask) -> tuple[Twin, ModelFile]:
    if not isinstance(fallback, str | os.PathLike | bytes):
        raise InputError(
            "`fallback` is no model file.",
            received=repr(fallback),
            expected="the path or the bytes of the file that was compiled",
        )
    path = None if isinstance(fallback, bytes) else Path(fallback)
    data = fallback if isinstance(fallback, bytes) else read_bytes(fallback)
    engine = ask.engine
    with naming(path):
        accepted = ceilings(engine.name, engine.version)
        file = check(data, replace(accepted, custom=accepted.custom | {EDGETPU_OP}))
        if is_compiled(file):
            raise InputError(
                "The CPU twin is itself compiled for an Edge TPU.",
                received=f"`{path.name}`" if path else "`fallback`",
                expected="the file that was compiled: the same name without `_edgetpu`, as a rule",
            )
        metadata = read(file)
        inputs = _order("inputs", compiled.inputs, metadata.inputs)
        outputs = _order("outputs", compiled.outputs, metadata.outputs)
        source = data if path is None else path
        if not engine.verifies:
            try_first(source, sha256=sha256(data), engine=engine)
        interpreter = open_on_cpu(source, engine, threads=ask.threads)
    return Twin(interpreter, metadata.outputs, inputs, outputs), file


def _order(
    what: str, ours: tuple[InputSpec | OutputSpec, ...], theirs: tuple[InputSpec | OutputSpec, ...]
) -> tuple[int, ...]:
    """Return the twin's position of each tensor of the compiled file: by name where all names agree, else by position.

    Raises:
        MetadataError: They differ in number, shape, type or quantization.
    """
    if len(ours) != len(theirs):
        raise MetadataError(
            f"The CPU twin has other {what} than the compiled file.",
            received=f"{len(theirs)} {what}",
            expected=f"{len(ours)}",
            next_step="Name the file that was compiled.",
        )
    names = [one.name for one in theirs]
    by_name = sorted(names) == sorted(one.name for one in ours) and len(set(names)) == len(names)
    order = tuple(names.index(one.name) if by_name else position for position, one in enumerate(ours))
    for one, position in zip(ours, order, strict=True):
        if stored_as(one) != stored_as(theirs[position]):
            raise MetadataError(
                f"The CPU twin has other {what} than the compiled file.",
                received=f"`{theirs[position].name}`: {stored_as(theirs[position])}",
                expected=f"`{one.name}`: {stored_as(one)}",
                next_step="Name the file that was compiled.",
            )
    return order


def stored_as(spec: InputSpec | OutputSpec) -> str:
    """Return a tensor's type, shape and quantization: what must be equal where one takes another's place."""
    quantized = f", scale {spec.scale:.6g}, zero point {spec.zero_point}" if spec.scale else ""
    return f"{spec.dtype} {spec.shape}{quantized}"


def _completed(compiled: ModelMetadata, said: ModelMetadata, twin: Twin) -> ModelMetadata:
    """Return the compiled file's metadata with what only its twin says.

    The compiler takes the last ops, and with them the softmax or the head by which a file is recognized, into one op;
    and it leaves out what lies behind the model, labels included, where it is older.
    """
    inputs = tuple(
        one
        if one.normalization is not None
        else replace(
            theirs, name=one.name, shape=one.shape, dtype=one.dtype, scale=one.scale, zero_point=one.zero_point
        )
        for one, theirs in zip(compiled.inputs, (said.inputs[place] for place in twin.inputs_of), strict=True)
    )
    outputs = tuple(
        replace(
            one,
            activation=theirs.activation if one.activation == "none" else one.activation,
            role=one.role or theirs.role,
            labels=one.labels or theirs.labels,
        )
        for one, theirs in zip(compiled.outputs, (said.outputs[place] for place in twin.outputs_of), strict=True)
    )
    task = said.task if compiled.task == "tensors" else compiled.task
    return replace(compiled, task=task, inputs=inputs, outputs=outputs, head=compiled.head or said.head)
