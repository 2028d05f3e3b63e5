"""What a device's runtime accepts, as values.

A target names the engines that a file must run in. The version of each op that an engine accepts was read
off the engine itself and stands in `edgeinfer.model.ops`; here stands only which of these ceilings apply, and
what the device wants beyond them. A device that is not among `TARGETS` is a `Target` of one's own, in code or as JSON.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from types import MappingProxyType
from typing import Literal, get_args

from converters.errors import RecipeError
from edgeinfer.model.ops import BUILTINS, ceilings

# The engines that a file is for. `edgeinfer.runtime.engines.EngineName` has TensorFlow's own as well.
EngineName = Literal["litert", "tflite-runtime"]
Scheme = Literal["int8", "int16x8", "float16", "dynamic", "float32"]
Io = Literal["int8", "uint8", "float32"]
Accelerator = Literal["", "edgetpu", "gpu"]
Pattern = Literal["dense-scale-per-channel"]

__all__ = ["CALIBRATED_SCHEMES", "TARGETS", "Accelerator", "EngineName", "Io", "Pattern", "Scheme", "Target", "target"]

# These need samples: activations become integers too, so their ranges must be known.
CALIBRATED_SCHEMES: tuple[Scheme, ...] = ("int8", "int16x8")

# What has no floats, of schemes and of ends.
_INTEGERS = ("int8", "uint8", "int16x8")
_LISTS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"engines": get_args(EngineName), "schemes": get_args(Scheme), "ios": get_args(Io), "forbidden": get_args(Pattern)}
)


@dataclass(frozen=True, slots=True)
class Target:
    """A kind of device that a model file is made for.

    Attributes:
        name: What stands behind `--target`.
        engines: The file must load and run in every one of these: of each op, the lowest version ceiling counts.
        schemes: Quantization schemes that it runs, the first is its own; left out, all that `floats` allows.
        ios: Tensors that it takes at both ends of an int8 file; the first is what it gets when the recipe does not say.
            Left out, all that `floats` allows.
        accelerator: What runs beside the processor: an Edge TPU, a GPU by its delegate, or "" for none.
        floats: Whether anything in a file may be float. False also means that no layer may stay float.
        static_shapes: Whether a shape that is computed while the model runs is refused. `convert` makes none anyway.
        metadata: Whether the file must carry TFLite Metadata. That binds `convert`; `check` says in a note that it is
            missing, because the engines run the file without it.
        forbidden: Patterns that the engines refuse or compute wrongly, "dense-scale-per-channel": dense weights of a
            dynamic range file with one scale per output channel.
        op_versions: Ceilings below those of the engines: (op, highest version), 0 for an op that the device lacks.
        tried: Whether the ceilings were read off the very engine that this device has; else they are documented.
        description: One sentence for a person.
        source: Where the facts come from.

    Raises:
        RecipeError: A value that cannot be; the message says what can.

    Example:
        >>> own = Target("camera-board", engines=("tflite-runtime",), op_versions=(("RESIZE_BILINEAR", 0),))
        >>> Target.from_json(own.to_json()) == own
        True
    """

    name: str
    engines: tuple[EngineName, ...]
    schemes: tuple[Scheme, ...] = ()
    ios: tuple[Io, ...] = ()
    accelerator: Accelerator = ""
    floats: bool = True
    static_shapes: bool = False
    metadata: bool = False
    forbidden: tuple[Pattern, ...] = ()
    op_versions: tuple[tuple[str, int], ...] = ()
    tried: bool = False
    description: str = ""
    source: str = ""

    def __post_init__(self) -> None:
        if not (isinstance(self.name, str) and self.name.replace("-", "").replace("_", "").isalnum()):
            raise _wrong("name", self.name, 'letters, digits, "-" and "_", e.g. "camera-board"')
        for field, known in _LISTS.items():
            values = getattr(self, field)
            if not isinstance(values, tuple | list) or any(one not in known for one in values):
                raise _wrong(field, values, "some of " + ", ".join(f'"{one}"' for one in known))
            if not values and field == "engines":
                raise _wrong(field, values, "at least one of " + ", ".join(f'"{one}"' for one in known))
            object.__setattr__(self, field, tuple(dict.fromkeys(values)))
        if self.accelerator not in get_args(Accelerator):
            raise _wrong("accelerator", self.accelerator, '"", "edgetpu" or "gpu"')
        for field in ("floats", "static_shapes", "metadata", "tried"):
            if not isinstance(getattr(self, field), bool):
                raise _wrong(field, getattr(self, field), "true or false")
        for field in ("description", "source"):
            if not isinstance(getattr(self, field), str):
                raise _wrong(field, getattr(self, field), "a text")
        self._agree_on_floats()
        object.__setattr__(self, "op_versions", _checked_versions(self.op_versions))

    def _agree_on_floats(self) -> None:
        """Fill in what was left out, and refuse floats beside `floats=False`."""
        for field, known in (("schemes", get_args(Scheme)), ("ios", get_args(Io))):
            allowed = tuple(one for one in known if self.floats or one in _INTEGERS)
            values = getattr(self, field) or allowed
            if any(one not in allowed for one in values):
                expected = "without floats: " + ", ".join(f'"{one}"' for one in allowed) + "; or `floats` true"
                raise _wrong(field, values, expected)
            object.__setattr__(self, field, values)

    @property
    def io(self) -> Io:
        """Tensors at both ends of an int8 file when the recipe does not say."""
        return self.ios[0]

    @property
    def per_tensor_dense(self) -> bool:
        """Whether dense weights of a dynamic range file must have one scale for the whole tensor."""
        return "dense-scale-per-channel" in self.forbidden

    @property
    def replaces_layers(self) -> bool:
        """Whether layers that it lacks are replaced in the Keras graph, see `converters.graph.substitute`."""
        return self.accelerator == "edgetpu"

    def highest(self, op: str) -> tuple[int, str]:
        """Return the highest version of an op that every engine accepts, and who sets that limit; 0 for none.

        Example:
            >>> target("raspberrypi-tflite").highest("FULLY_CONNECTED")
            (10, 'tflite-runtime 2.14.0')
        """
        own = dict(self.op_versions)
        limits = [(own[op], self.name)] if op in own else []
        for engine in self.engines:
            known = ceilings(engine)
            limits.append((known.versions.get(op, 0), f"{engine} {known.version}"))
        return min(limits, key=lambda limit: limit[0])

    def to_json(self) -> dict[str, object]:
        """Return plain dictionaries and lists."""
        lists = {field: list(getattr(self, field)) for field in _LISTS}
        plain = {field: getattr(self, field) for field in ("accelerator", "floats", "static_shapes", "metadata")}
        said = {"tried": self.tried, "description": self.description, "source": self.source}
        return {"name": self.name, **lists, **plain, "op_versions": dict(self.op_versions), **said}

    @staticmethod
    def from_json(data: Mapping[str, object]) -> Target:
        """Return the target of `to_json`; "name" and "engines" are needed, the rest has defaults.

        Raises:
            RecipeError: A setting is missing or unknown, or has a value that cannot be.
        """
        known = tuple(Target.__dataclass_fields__)
        for key in data:
            if key not in known:
                close = get_close_matches(key, known, n=1)
                raise RecipeError(
                    f"A target has no setting `{key}`.",
                    expected=", ".join(known),
                    next_step=f"Did you mean `{close[0]}`?" if close else "",
                )
        missing = [key for key in ("name", "engines") if key not in data]
        if missing:
            raise RecipeError(
                f"The target does not say its `{missing[0]}`.",
                received=", ".join(data) or "nothing",
                expected='e.g. {"name": "camera-board", "engines": ["tflite-runtime"]}',
            )
        settings = dict(data)
        versions = settings.get("op_versions", {})
        if isinstance(versions, Mapping):
            settings["op_versions"] = tuple(versions.items())
        return Target(**settings)  # type: ignore[arg-type]  # checked as it is made


def _wrong(field: str, received: object, expected: str) -> RecipeError:
    return RecipeError(f"A target cannot have this `{field}`.", received=repr(received), expected=expected)


def _checked_versions(pairs: object) -> tuple[tuple[str, int], ...]:
    names = {row[0] for row in BUILTINS}
    try:
        versions = dict(pairs)  # type: ignore[call-overload]
    except (TypeError, ValueError) as error:
        raise _wrong("op_versions", pairs, 'op and version, e.g. {"CONV_2D": 5}') from error
    for op, version in versions.items():
        if op not in names:
            close = get_close_matches(str(op).upper(), names, n=1)
            expected = "the name of a built-in op" + (f", e.g. `{close[0]}`" if close else ", e.g. `CONV_2D`")
            raise _wrong("op_versions", op, expected)
        if not isinstance(version, int) or isinstance(version, bool) or version < 0:
            raise _wrong("op_versions", {op: version}, "a version of 0 (not there) or more")
    return tuple(sorted(versions.items()))


_LITERT = "Op versions measured in ai-edge-litert 2.3.0"
_TFLITE_RUNTIME = "Op versions measured in tflite-runtime 2.14.0"
# FULLY_CONNECTED with one scale per output channel and float activations is version 12, which tflite-runtime 2.14
# refuses (its ceiling is 10); with one scale for the tensor it is version 9. Full int8 is version 4.
_OLD_DENSE: tuple[Pattern, ...] = ("dense-scale-per-channel",)

TARGETS: tuple[Target, ...] = (
    Target(
        name="cpu",
        engines=("litert",),
        tried=True,
        description="Any 64-bit Linux, macOS or Windows machine with LiteRT.",
        source=f"{_LITERT}; its wheels are for 64-bit machines only.",
    ),
    Target(
        name="raspberrypi",
        engines=("litert",),
        tried=True,
        description="A Raspberry Pi with a 64-bit system and LiteRT.",
        source=f"{_LITERT}, which has a wheel for aarch64.",
    ),
    Target(
        name="raspberrypi32",
        engines=("tflite-runtime",),
        forbidden=_OLD_DENSE,
        tried=True,
        description="A Raspberry Pi with a 32-bit system, for which LiteRT has no wheel: tflite-runtime 2.14.",
        source=f"{_TFLITE_RUNTIME}, the last one with a wheel for 32-bit ARM (CPython 3.11 and older).",
    ),
    Target(
        name="raspberrypi-tflite",
        engines=("tflite-runtime",),
        forbidden=_OLD_DENSE,
        tried=True,
        description="A Raspberry Pi or another machine that stays with tflite-runtime 2.14.",
        source=f"{_TFLITE_RUNTIME}.",
    ),
    Target(
        name="edgetpu",
        # What the chip does not take runs in the engine that holds the delegate, and so does the whole file where the
        # chip is missing: the file must run in whichever engine that is.
        engines=("litert", "tflite-runtime"),
        schemes=("int8",),
        ios=("int8", "uint8"),
        accelerator="edgetpu",
        floats=False,
        static_shapes=True,
        forbidden=_OLD_DENSE,
        tried=True,
        description="A Coral Edge TPU, by USB or PCIe, beside either engine.",
        source=f"{_LITERT} and tflite-runtime 2.14.0; what the chip takes: `converters.edgetpu`.",
    ),
    Target(
        name="android",
        engines=("litert",),
        # MediaPipe Tasks refuses an int8 input, and opens uint8 and float32.
        ios=("uint8", "float32", "int8"),
        metadata=True,
        description="An app on Android, with LiteRT or MediaPipe Tasks.",
        source=f"{_LITERT}, in its Python wheel and not on a telephone; the file was opened with MediaPipe 1.2.",
    ),
    Target(
        name="android-gpu",
        engines=("litert",),
        schemes=("int8", "float16", "dynamic", "float32"),
        ios=("uint8", "float32", "int8"),
        accelerator="gpu",
        metadata=True,
        description="An app on Android with the GPU delegate, which computes in float16 or float32.",
        source=f"{_LITERT}, in its Python wheel and not on a telephone; what the GPU takes: `converters.gpu_ops`.",
    ),
)


def target(wanted: str | Target) -> Target:
    """Return the target of this name; one that is a value already comes back, if its name is its own.

    Raises:
        RecipeError: There is none; the message lists the names and the closest one. Or a target of one's own has the
            name of another one.

    Example:
        >>> target("edgetpu").engines
        ('litert', 'tflite-runtime')
    """
    known = {one.name: one for one in TARGETS}
    if isinstance(wanted, Target):
        if known.get(wanted.name, wanted) != wanted:
            raise RecipeError(
                "A target of your own needs a name of its own.",
                received=f'"{wanted.name}", which is another one',
                next_step=f'Call it e.g. "my-{wanted.name}".',
            )
        return wanted
    if wanted in known:
        return known[wanted]
    name = str(wanted)
    close = get_close_matches(name.casefold(), known, n=1)
    raise RecipeError(
        "This target is not known.",
        received=f'"{name}"',
        expected=", ".join(f'"{one}"' for one in known) + ", or a JSON file that says one",
        next_step=f'Did you mean "{close[0]}"?' if close else "",
    )
