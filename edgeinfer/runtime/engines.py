"""The engines that can run a TFLite file: the only file that imports one, and the place where their errors are mapped.

Order of choice: LiteRT (verifies the file, fastest on every machine measured), tflite-runtime (small, also on 32-bit
ARM), TensorFlow (a workstation that has nothing else).
"""

from __future__ import annotations

import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast, get_args

import numpy as np
from numpy.typing import NDArray

from edgeinfer.errors import (
    DamagedModelError,
    DeviceError,
    EdgeInferError,
    InputError,
    MissingDependencyError,
    UnsupportedOpError,
    close_name,
)
from edgeinfer.frozen import dataclass
from edgeinfer.model.ops import EDGETPU_OP

if TYPE_CHECKING:
    import ctypes

EngineName = Literal["litert", "tflite-runtime", "tensorflow"]

_MODULES: dict[EngineName, str] = {
    "litert": "ai_edge_litert",
    "tflite-runtime": "tflite_runtime",
    "tensorflow": "tensorflow",
}
_DISTRIBUTIONS: dict[EngineName, str] = {
    "litert": "ai-edge-litert",
    "tflite-runtime": "tflite-runtime",
    "tensorflow": "tensorflow",
}


class Interpreter(Protocol):
    """What all three engines offer."""

    def allocate_tensors(self) -> None:
        """Give memory to all tensors."""

    def invoke(self) -> None:
        """Run the model."""

    def get_input_details(self) -> list[dict[str, Any]]:
        """Return one dictionary an input."""
        ...

    def get_output_details(self) -> list[dict[str, Any]]:
        """Return one dictionary an output."""
        ...

    def resize_tensor_input(self, input_index: int, tensor_size: Sequence[int]) -> None:
        """Change an input's shape; `allocate_tensors` has to follow."""

    def get_tensor(self, index: int) -> NDArray[Any]:
        """Return a copy of a tensor."""
        ...

    def tensor(self, index: int) -> Callable[[], NDArray[Any]]:
        """Return a function that gives a view of a tensor's memory."""
        ...


@dataclass(frozen=True, slots=True)
class Engine:
    """An engine that is installed.

    Attributes:
        name: "litert", "tflite-runtime" or "tensorflow".
        version: Of the installed package.
        verifies: True where the engine checks a file's structure itself, so that a damaged one is refused and does
            not end the process.
    """

    name: EngineName
    version: str
    verifies: bool


def installed_engines() -> tuple[Engine, ...]:
    """Return the engines that are installed, best first, without importing any."""
    return tuple(_engine(name) for name in get_args(EngineName) if _is_installed(name))


def find_engine(name: str | None = None) -> Engine:
    """Return the engine of this name, or the best one that is installed.

    Args:
        name: None reads `EDGEINFER_ENGINE`, and without it takes the first of LiteRT, tflite-runtime, TensorFlow.

    Raises:
        InputError: There is no engine of this name.
        MissingDependencyError: It is not installed.
    """
    wanted = name or os.environ.get("EDGEINFER_ENGINE") or None
    if wanted is None:
        for candidate in get_args(EngineName):
            if _is_installed(candidate):
                return _engine(candidate)
        raise MissingDependencyError(
            "No engine for TFLite files is installed.",
            expected="ai-edge-litert, tflite-runtime or tensorflow",
            next_step=install_line(),
        )
    if wanted not in get_args(EngineName):
        raise InputError(
            "This engine is not known.",
            received=f'"{wanted}"' if name else f'EDGEINFER_ENGINE="{wanted}"',
            expected=", ".join(get_args(EngineName)),
            next_step=close_name(wanted, get_args(EngineName)),
        )
    known = cast(EngineName, wanted)
    if not _is_installed(known):
        raise MissingDependencyError(f"The engine `{wanted}` is not installed.", next_step=install_line(known))
    return _engine(known)


def install_line(name: EngineName | None = None) -> str:
    """Return the line that installs an engine on this machine."""
    narrow = sys.maxsize <= 2**32
    if name == "tensorflow":
        return "pip install tensorflow"
    if name == "tflite-runtime" or (name is None and narrow):
        if sys.version_info >= (3, 12):
            return "tflite-runtime has no wheel after Python 3.11: use Python 3.11, or 64 bit with LiteRT"
        return "pip install 'tflite-runtime==2.14.0' 'numpy<2'"
    return "pip install ai-edge-litert"


class Delegate(Protocol):
    """A loaded delegate, as the engine's own `load_delegate` returns it; it must outlive its interpreters."""


def load_library(library: str) -> ctypes.PyDLL:
    """Load a delegate's library into this process.

    A library of another ABI can end the process already here: call it in a child.

    Args:
        library: A path, or a name that the system's loader finds, such as "libedgetpu.so.1".

    Raises:
        MissingDependencyError: It, or a library that it needs, is not there; `received` is what the loader says.
        DeviceError: It is no delegate.
    """
    import ctypes

    try:
        symbols = ctypes.PyDLL(library)
    except OSError as error:
        raise MissingDependencyError(f"The library `{library}` cannot be loaded.", received=str(error)) from error
    if not all(hasattr(symbols, f"tflite_plugin_{name}_delegate") for name in ("create", "destroy")):
        raise DeviceError(f"`{library}` is not a TFLite delegate.", received="it has no tflite_plugin_create_delegate")
    return symbols


def load_delegate(engine: Engine, library: str, options: Mapping[str, str] | None = None) -> Delegate:
    """Load a delegate's library and let it make its delegate.

    A device that does not answer can stop this process, and a library end it: call it in a child.

    Args:
        engine: From `find_engine`.
        library: As `load_library`.
        options: Handed to the delegate as texts, such as {"device": "usb:0"}.

    Raises:
        MissingDependencyError: As `load_library`, or the engine cannot run here.
        DeviceError: It is no delegate, or it refused to make one: then `received` holds its own words, "" where it
            gives no reason.
    """
    module = import_engine(engine)
    # Looked at first: an engine that fails half-way leaves an object whose end writes an AttributeError on stderr.
    load_library(library)
    load = module.experimental.load_delegate if engine.name == "tensorflow" else module.load_delegate
    try:
        return cast(Delegate, load(library, dict(options or {})))
    except ValueError as error:  # "Failed to load delegate from LIBRARY" and, on the next line, the reason, if any
        reason = " ".join(str(error).partition("\n")[2].split())
        raise DeviceError(f"The delegate in `{library}` refuses to start.", received=reason) from error


def open_interpreter(
    engine: Engine,
    model: Path | bytes,
    *,
    threads: int = 1,
    default_delegates: bool = True,
    delegate: Delegate | None = None,
) -> Interpreter:
    """Load a model, allocate its tensors, and return the interpreter.

    Args:
        engine: From `find_engine`.
        model: A path is mapped into memory and shared between interpreters of one file; bytes are private.
        threads: For the engine's own pool.
        default_delegates: False leaves XNNPACK out, for a graph that it refuses.
        delegate: From `load_delegate`; it takes the ops that it knows.

    Raises:
        UnsupportedOpError: The engine does not know an op, or this version of it.
        DamagedModelError: The engine refuses the file for another reason.
        DeviceError: The delegate refuses the file.
        MissingDependencyError: The engine cannot run beside the installed NumPy.
    """
    module = import_engine(engine)
    arguments: dict[str, Any] = {"num_threads": threads}
    if isinstance(model, bytes):
        arguments["model_content"] = model
    else:
        arguments["model_path"] = str(model)
    if not default_delegates:
        arguments["experimental_op_resolver_type"] = module.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    if delegate is not None:
        arguments["experimental_delegates"] = [delegate]
    try:
        with _deprecation_silenced(engine):
            interpreter = cast(Interpreter, module.Interpreter(**arguments))
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError, OSError) as error:
        raise engine_error(str(error), engine) from error
    return interpreter


def engine_error(text: str, engine: Engine) -> EdgeInferError:
    """Turn what an engine says while it loads a file into the error tree's own words."""
    said = " ".join(text.split())
    missing = re.search(r"Didn't find op for builtin opcode '(\w+)' version '(\d+)'", said)
    if missing:
        return UnsupportedOpError(
            f"{engine.name} {engine.version} cannot run {missing[1]} in version {missing[2]}.",
            received=said,
            next_step="Convert the model again with `edgeinfer-convert --target raspberrypi-tflite`, or install "
            "LiteRT.",
        )
    newer = re.search(r"requires runtime version \((\d+)\).*this runtime version \((\d+)\)", said)
    if newer:
        return old_runtime_error(int(newer[1]), int(newer[2]), said)
    if "EdgeTpuDelegateForCustomOp" in said:
        return DeviceError(
            "The Edge TPU's library refuses the file.",
            received=said,
            next_step="sudo apt install --only-upgrade libedgetpu1-std  # or compile the model again",
        )
    custom = re.search(r"unresolved custom op: ([\w-]+)", said)
    if custom and custom[1] == EDGETPU_OP:
        return UnsupportedOpError(
            f"{engine.name} {engine.version} does not know the custom op `edgetpu-custom-op`: the file was compiled "
            "for an Edge TPU.",
            received=said,
            next_step='Pass `device="edgetpu"`, or use the file that it was compiled from.',
        )
    if custom:
        return UnsupportedOpError(
            f"{engine.name} {engine.version} does not know the custom op `{custom[1]}`.",
            received=said,
            next_step="Convert the model without custom ops, or load the delegate that brings this one.",
        )
    return DamagedModelError(f"{engine.name} {engine.version} refuses the file.", received=said)


def old_runtime_error(needed: int, runtime: int, received: str) -> DeviceError:
    """Return the error for a file that asks for a newer Edge TPU runtime (libedgetpu) than there is.

    Args:
        needed: Lowest runtime version that the file asks for.
        runtime: The version that is there.
        received: Who says so, in its own words.
    """
    return DeviceError(
        f"The file was compiled for Edge TPU runtime {needed} and later, and this is runtime {runtime}.",
        received=received,
        next_step="sudo apt install --only-upgrade libedgetpu1-std  # or compile the model again: "
        f"edgetpu_compiler -m {runtime} MODEL.tflite",
    )


@contextmanager
def _deprecation_silenced(engine: Engine) -> Iterator[None]:
    """Keep back what TensorFlow 2.21 says at every start: that LiteRT is better. It is only taken where none is."""
    if engine.name != "tensorflow":  # the filters belong to the whole process: left alone where nothing is said
        yield
        return
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"(?s).*tf\.lite\.Interpreter is deprecated", UserWarning)
        yield


def _is_installed(name: EngineName) -> bool:
    return find_spec(_MODULES[name]) is not None


def _engine(name: EngineName) -> Engine:
    return Engine(name, _installed_version(name), verifies=name != "tflite-runtime")


def _installed_version(name: EngineName) -> str:
    """Return the version of an engine's package, as the folder beside it says; "unknown" for a vendor's own build.

    `importlib.metadata` says the same and takes 20 ms to import, a tenth of the time to a first answer (x86-64); it is
    asked where the folder does not say it.

    Source: PyPA, "Recording installed projects": NAME-VERSION.dist-info, with `_` for `-` in the name.
    """
    distribution = _DISTRIBUTIONS[name]
    spec = find_spec(_MODULES[name].partition(".")[0])
    for place in (spec.submodule_search_locations or ()) if spec is not None else ():
        folders = list(Path(place).parent.glob(f"{distribution.replace('-', '_')}-*.dist-info"))
        if len(folders) == 1:
            return folders[0].name.removesuffix(".dist-info").partition("-")[2]
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(distribution)
    except PackageNotFoundError:  # a distribution under another name: tensorflow-cpu, a vendor's build
        return "unknown"


def import_engine(engine: Engine) -> Any:
    """Import an engine and return the module that holds its `Interpreter`.

    Raises:
        MissingDependencyError: It cannot be imported, or cannot run beside the installed NumPy.
    """
    if engine.name == "tflite-runtime" and int(np.__version__.split(".")[0]) >= 2:
        # Its extension module was built against NumPy 1 and ends in a SystemError beside NumPy 2.
        raise MissingDependencyError(
            "tflite-runtime 2.14 does not run beside NumPy 2.",
            received=f"numpy {np.__version__}",
            expected="numpy below 2",
            next_step="pip install 'numpy<2' 'opencv-python-headless<4.12'",
        )
    path = "tensorflow.lite" if engine.name == "tensorflow" else f"{_MODULES[engine.name]}.interpreter"
    try:
        if engine.name != "tensorflow":
            return import_module(path)
        lite = import_module("tensorflow").lite
    except ImportError as error:
        raise MissingDependencyError(
            f"The engine `{engine.name}` is installed but cannot be imported.",
            received=str(error),
            next_step=install_line(engine.name),
        ) from error
    # tf.lite keeps the resolver types under `experimental`; the others have them beside the Interpreter.
    lite.OpResolverType = lite.experimental.OpResolverType
    return lite
