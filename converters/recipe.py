"""Recipes: what is done to a model, step by step, as values that can be compared, saved and sent.

A recipe holds no model and no data; those are arguments of `convert`. Steps are checked when they are made, their
order when the recipe is made.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args

from converters.errors import RecipeError
from converters.targets import Io, Scheme, target
from edgeinfer.files import read_bytes, write_whole

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Quantize:
    """Post-training quantization.

    Attributes:
        scheme: "int8" is full integer: int8 weights and activations, no float op left. "int16x8" has int16 activations,
            "float16" halves the weights, "dynamic" stores int8 weights and computes in float, "float32" changes
            nothing.
        io: Tensors at both ends: "int8", "uint8" or "float32". None takes the target's choice: int8 for scheme
            "int8", float32 for all others, which know no other.
        samples: Calibration samples to use at most. One to 200 made no difference on an easy data set; more cost time
            (measured, see the benchmarks).
    """

    scheme: Scheme = "int8"
    io: Io | None = None
    samples: int = 200

    def __post_init__(self) -> None:
        _one_of("scheme", self.scheme, get_args(Scheme))
        if self.io is not None:
            _one_of("io", self.io, ("int8", "uint8", "float32"))
            if self.scheme != "int8" and self.io != "float32":
                raise RecipeError(
                    f'Scheme "{self.scheme}" keeps floats at both ends.',
                    received=f'io="{self.io}"',
                    expected='io="float32" or None',
                )
        if not (_is_whole(self.samples) and 1 <= self.samples <= 1_000_000):
            raise RecipeError("`samples` counts samples.", received=repr(self.samples), expected="1 to 1000000")

    def ends(self, usual: Io) -> Io:
        """Return what `io` comes to on a target whose int8 files usually have `usual` at both ends."""
        return self.io or (usual if self.scheme == "int8" else "float32")


@dataclass(frozen=True, slots=True)
class Verify:
    """A gate: the converted model against the float one, both in the device's engine.

    Attributes:
        max_drop: Accuracy that may be lost, absolute, 0..1; needs labelled validation data.
        min_agreement: Share of samples on which both models must answer the same class, 0..1; the gate where there is
            no validation data. Real int8 models agree on 95 % and more, a wrongly calibrated one on 10 to 60 %.
        max_error: Difference of the outputs, root mean square over that of the float outputs, 0..1; the gate where
            there are no classes. Outputs that have nothing to do with each other differ by 1 and more.
    """

    max_drop: float = 0.01
    min_agreement: float = 0.9
    max_error: float = 0.5

    def __post_init__(self) -> None:
        for name in ("max_drop", "min_agreement", "max_error"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
                raise RecipeError(
                    f"`{name}` is a share.", received=repr(value), expected="0 to 1, e.g. 0.01 for one point"
                )


Step = Quantize | Verify
_STEPS: dict[str, type[Step]] = {"quantize": Quantize, "verify": Verify}


@dataclass(frozen=True, slots=True)
class Recipe:
    """Steps in their order, for one target.

    Attributes:
        steps: One `Quantize`, then any number of `Verify`.
        target: Name of a target, see `converters.targets`.
        seed: Chooses the calibration samples where there are more than a step needs.

    Example:
        >>> recipe = Recipe((Quantize("int8", samples=100), Verify(max_drop=0.005)), target="raspberrypi")
        >>> Recipe.from_json(recipe.to_json()) == recipe
        True
    """

    steps: tuple[Step, ...]
    target: str = "cpu"
    seed: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.steps, tuple | list):
            raise RecipeError(
                "`steps` is a tuple or a list.", received=repr(self.steps), expected="(Quantize(), Verify())"
            )
        object.__setattr__(self, "steps", tuple(self.steps))
        target(self.target)
        if not (_is_whole(self.seed) and self.seed >= 0):
            raise RecipeError("`seed` is a whole number.", received=repr(self.seed), expected="0 or more")
        for step in self.steps:
            if not isinstance(step, Quantize | Verify):
                raise RecipeError("This is no step.", received=repr(step), expected="Quantize(...) or Verify(...)")
        quantizes = [number for number, step in enumerate(self.steps) if isinstance(step, Quantize)]
        if len(quantizes) != 1:
            raise RecipeError(
                "A recipe quantizes exactly once.",
                received=f"{len(quantizes)} Quantize steps in {self.order or 'an empty recipe'}",
                expected="Quantize, then Verify",
            )
        if quantizes[0] != 0:
            raise RecipeError(
                "Verify stands before Quantize: there is nothing to compare yet.",
                received=self.order,
                expected="Quantize, then Verify",
            )

    @staticmethod
    def int8(*, verify: bool = True) -> Recipe:
        """Return the default: full int8, then the check against the float model."""
        return Recipe((Quantize("int8"), Verify()) if verify else (Quantize("int8"),))

    @property
    def order(self) -> str:
        """The steps' names, e.g. "Quantize, Verify"."""
        return ", ".join(type(step).__name__ for step in self.steps)

    @property
    def quantize(self) -> Quantize:
        """The one step that quantizes."""
        return next(step for step in self.steps if isinstance(step, Quantize))

    def to_json(self) -> dict[str, object]:
        """Return plain dictionaries and lists."""
        steps = [{"step": type(step).__name__.lower(), **asdict(step)} for step in self.steps]
        return {"schema": SCHEMA, "target": self.target, "seed": self.seed, "steps": steps}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Recipe:
        """Return the recipe of `to_json`.

        Raises:
            RecipeError: An unknown step or setting, a wrong value, or a newer schema.
        """
        _known("recipe", data, ("schema", "target", "seed", "steps"))
        if data.get("schema", SCHEMA) != SCHEMA:
            raise RecipeError(
                "This recipe was written by another version.",
                received=f"schema {data.get('schema')}",
                expected=f"schema {SCHEMA}",
                next_step="pip install --upgrade edgeinfer",
            )
        rows = data.get("steps")
        if not isinstance(rows, Sequence) or isinstance(rows, str):
            raise RecipeError("`steps` is a list.", received=repr(rows), expected='[{"step": "quantize"}]')
        return Recipe(
            tuple(_step(row) for row in rows), target=str(data.get("target", "cpu")), seed=data.get("seed", 0)
        )

    def save(self, path: str | Path) -> None:
        """Write the recipe as JSON.

        Raises:
            OutputError: It cannot be written.
        """
        write_whole(path, (json.dumps(self.to_json(), indent=2) + "\n").encode())

    @staticmethod
    def load(path: str | Path) -> Recipe:
        """Read a recipe that `save` wrote.

        Raises:
            InputFileError: There is no such file.
            InputError: It is too large for one.
            RecipeError: It is no recipe.
        """
        content = read_bytes(path)
        try:
            data = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise RecipeError(f"`{path}` is no JSON.", received=str(error)) from error
        if not isinstance(data, dict):
            raise RecipeError(f"`{path}` is no recipe.", received=type(data).__name__, expected="a JSON object")
        return Recipe.from_json(data)


def _step(row: Any) -> Step:
    if not isinstance(row, Mapping) or "step" not in row:
        raise RecipeError("A step has a name.", received=repr(row), expected='{"step": "quantize", ...}')
    name = str(row["step"])
    if name not in _STEPS:
        raise RecipeError(
            f"The step `{name}` is not known.", expected=", ".join(_STEPS), next_step=_close(name, _STEPS)
        )
    kind = _STEPS[name]
    settings = {key: value for key, value in row.items() if key != "step"}
    _known(f"step `{name}`", settings, tuple(field.name for field in fields(kind)))
    return kind(**settings)


def _known(what: str, data: Mapping[str, Any], names: tuple[str, ...]) -> None:
    for key in data:
        if key not in names:
            raise RecipeError(
                f"The {what} has no setting `{key}`.", expected=", ".join(names), next_step=_close(key, names)
            )


def _close(name: str, names: Sequence[str] | Mapping[str, object]) -> str:
    close = get_close_matches(name, list(names), n=1)
    return f"Did you mean `{close[0]}`?" if close else ""


def _is_whole(value: object) -> bool:
    # True is an int to Python, but nobody means one sample by it.
    return isinstance(value, int) and not isinstance(value, bool)


def _one_of(what: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise RecipeError(
            f"`{what}` has a value that is not known.",
            received=repr(value),
            expected=", ".join(f'"{one}"' for one in allowed),
            next_step=_close(str(value), allowed),
        )
