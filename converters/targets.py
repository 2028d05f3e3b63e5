"""What a device's runtime accepts, as values.

A target names the engines that a file must run in. The version of each op that an engine accepts was read
off the engine itself and stands in `edgeinfer.model.ops`; here stands only which of these ceilings apply.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Literal, get_args

from converters.errors import RecipeError

if TYPE_CHECKING:
    from edgeinfer.runtime.engines import EngineName

__all__ = ["CALIBRATED_SCHEMES", "TARGETS", "Io", "Scheme", "Target", "target"]

Scheme = Literal["int8", "int16x8", "float16", "dynamic", "float32"]
Io = Literal["int8", "uint8", "float32"]

# These need samples: activations become integers too, so their ranges must be known.
CALIBRATED_SCHEMES: tuple[Scheme, ...] = ("int8", "int16x8")

_ALL: tuple[Scheme, ...] = get_args(Scheme)


@dataclass(frozen=True, slots=True)
class Target:
    """A kind of device that a model file is made for.

    Attributes:
        name: What stands behind `--target`.
        engines: The file must load and run in every one of these: of each op, the lowest version ceiling
            counts.
        schemes: Quantization schemes that these engines run.
        io: Tensors at both ends of an int8 file when the recipe does not say.
        per_tensor_dense: True where dense weights of a dynamic range file must have one scale for the whole
            tensor.
        description: One sentence for a person.
        source: Where the facts come from.
    """

    name: str
    engines: tuple[EngineName, ...]
    schemes: tuple[Scheme, ...]
    io: Io
    per_tensor_dense: bool
    description: str
    source: str


TARGETS: tuple[Target, ...] = (
    Target(
        name="cpu",
        engines=("litert",),
        schemes=_ALL,
        io="int8",
        per_tensor_dense=False,
        description="Any 64-bit Linux, macOS or Windows machine with LiteRT.",
        source="Op versions measured in ai-edge-litert 2.3.0; its wheels are for 64-bit machines only.",
    ),
    Target(
        name="raspberrypi",
        engines=("litert", "tflite-runtime"),
        schemes=_ALL,
        io="int8",
        # FULLY_CONNECTED with one scale per output channel and float activations is version 12, which
        # tflite-runtime 2.14 refuses (its ceiling is 10); with one scale for the tensor it is version 9.
        # Full int8 is version 4.
        per_tensor_dense=True,
        description="A Raspberry Pi with 64 bit (LiteRT) or 32 bit (tflite-runtime).",
        source="Op versions measured in ai-edge-litert 2.3.0 and tflite-runtime 2.14.0, the last one with a "
        "wheel for 32-bit ARM (CPython 3.11 and older).",
    ),
)


def target(name: str) -> Target:
    """Return the target of this name.

    Raises:
        RecipeError: There is none; the message lists the names and the closest one.

    Example:
        >>> target("raspberrypi").engines
        ('litert', 'tflite-runtime')
    """
    known = {one.name: one for one in TARGETS}
    if name in known:
        return known[name]
    close = get_close_matches(name.casefold(), known, n=1)
    raise RecipeError(
        "This target is not known.",
        received=f'"{name}"',
        expected=", ".join(f'"{one}"' for one in known),
        next_step=f'Did you mean "{close[0]}"?' if close else "",
    )
