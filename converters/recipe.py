"""Recipes: what is done to a model, step by step, as values that can be compared, saved and sent.

A recipe holds no model and no data; those are arguments of `convert`. Steps are checked when they are made, their
order when the recipe is made.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, get_args

from converters.errors import RecipeError
from converters.settings import close_name, is_whole
from converters.steps import Distill, Ending, FineTune, Fit, Prune, Quantize, Step, Verify
from converters.targets import TARGETS, Target, target
from edgeinfer.files import read_bytes, write_whole

__all__ = ["SCHEMA", "Distill", "Ending", "FineTune", "Fit", "Prune", "Quantize", "Recipe", "Step", "Verify"]

SCHEMA = 1
_STEPS: dict[str, type[Step]] = {
    "prune": Prune,
    "finetune": FineTune,
    "distill": Distill,
    "quantize": Quantize,
    "verify": Verify,
}
# Pairs in the value, an object in the file: {"block_3*": 0.25}.
_MAPPINGS = ("layers", "fallback", "attention", "features")


@dataclass(frozen=True, slots=True)
class Recipe:
    """Steps in their order, for one target.

    Attributes:
        steps: Any number of `Prune`, `FineTune` and `Distill`, then one `Quantize`; a `Verify` wherever the model shall
            be judged as it is at that point.
        target: Name of a target, or a `Target` of one's own, see `converters.targets`.
        seed: Chooses the calibration samples where there are more than a step needs, and is where all that is random
            in the training begins.
        fit: What all steps that train have in common.

    Example:
        >>> recipe = Recipe((Quantize("int8", samples=100), Verify(max_drop=0.005)), target="raspberrypi")
        >>> Recipe.from_json(recipe.to_json()) == recipe
        True
    """

    steps: tuple[Step, ...]
    target: str | Target = "cpu"
    seed: int = 0
    fit: Fit = Fit()  # noqa: RUF009 - a frozen value

    def __post_init__(self) -> None:
        if not isinstance(self.steps, tuple | list):
            raise RecipeError(
                "`steps` is a tuple or a list.", received=repr(self.steps), expected="(Quantize(), Verify())"
            )
        object.__setattr__(self, "steps", tuple(self.steps))
        if isinstance(self.target, Target) and target(self.target) in TARGETS:
            object.__setattr__(self, "target", self.target.name)  # so that equal recipes are equal
        self._check_target(target(self.target))
        if not (is_whole(self.seed) and self.seed >= 0):
            raise RecipeError("`seed` is a whole number.", received=repr(self.seed), expected="0 or more")
        if not isinstance(self.fit, Fit):
            raise RecipeError("`fit` is a Fit.", received=repr(self.fit), expected="Fit(batch_size=128)")
        for step in self.steps:
            if not isinstance(step, get_args(Step)):
                raise RecipeError(
                    "This is no step.",
                    received=repr(step),
                    expected=", ".join(f"{kind.__name__}(...)" for kind in _STEPS.values()),
                )
        self._check_order()

    def _check_target(self, machine: Target) -> None:
        for step in self.steps:
            if not isinstance(step, Quantize):
                continue
            asked: list[tuple[str, str, tuple[str, ...]]] = [("scheme", step.scheme, machine.schemes)]
            if step.scheme == "int8":  # the others have floats at both ends
                asked.append(("io", step.ends(machine.io), machine.ios))
            for name, value, known in asked:
                if value not in known:
                    raise RecipeError(
                        f"The target `{machine.name}` does not take this.",
                        received=f'{name}="{value}"',
                        expected=" or ".join(f'{name}="{one}"' for one in known),
                        next_step="Quantize so, or convert for another target.",
                    )
            if step.fallback and not machine.floats:
                raise RecipeError(
                    f"The target `{machine.name}` computes in integers only: no layer can stay float.",
                    received=", ".join(pattern for pattern, _ in step.fallback),
                    next_step="Leave `fallback` away, or convert for another target.",
                )

    def _check_order(self) -> None:
        quantizes = [number for number, step in enumerate(self.steps) if isinstance(step, Quantize)]
        if len(quantizes) != 1:
            raise RecipeError(
                "A recipe quantizes exactly once.",
                received=f"{len(quantizes)} Quantize steps in {self.order or 'an empty recipe'}",
                expected="e.g. Prune, Distill, Quantize, Verify",
            )
        if isinstance(self.steps[0], Verify):
            raise RecipeError(
                "Verify stands in front: there is nothing to compare yet.",
                received=self.order,
                expected="e.g. Quantize, Verify",
            )
        late = [step for step in self.steps[quantizes[0] + 1 :] if not isinstance(step, Verify)]
        if late:
            raise RecipeError(
                f"{type(late[0]).__name__} stands behind Quantize: integers cannot be trained any more.",
                received=self.order,
                expected="Quantize behind all steps that change the weights",
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

    @property
    def training(self) -> tuple[tuple[int, Prune | FineTune | Distill], ...]:
        """The steps before Quantize that change the Keras model, with their places among `steps`."""
        return tuple((n, step) for n, step in enumerate(self.steps) if isinstance(step, Prune | FineTune | Distill))

    @property
    def trains(self) -> bool:
        """Whether any step needs training data."""
        return any(
            getattr(step, "epochs", 0) > 0 or (isinstance(step, Prune) and step.importance == "taylor")
            for step in self.steps
        )

    @property
    def needs_keras(self) -> bool:
        """Whether any step works on the Keras model, so that it must be loaded into this process."""
        return bool(self.training) or self.quantize.prepared

    def to_json(self) -> dict[str, object]:
        """Return plain dictionaries and lists."""
        steps = [{"step": type(step).__name__.lower(), **_plain(step)} for step in self.steps]
        return {
            "schema": SCHEMA,
            "target": self.target if isinstance(self.target, str) else self.target.to_json(),
            "seed": self.seed,
            "fit": {**asdict(self.fit), "augment": list(self.fit.augment)},
            "steps": steps,
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Recipe:
        """Return the recipe of `to_json`.

        Raises:
            RecipeError: An unknown step or setting, a wrong value, or a newer schema.
        """
        if "step" in data or any(name in data for name in ("scheme", "epochs", "max_drop")):
            raise RecipeError(
                "A recipe is a list of steps, and this is one step.",
                received=", ".join(data),
                expected='{"steps": [{"step": "quantize", "scheme": "int8"}, {"step": "verify"}]}',
            )
        _known("recipe", data, ("schema", "target", "seed", "fit", "steps"))
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
        fit = data.get("fit", {})
        if not isinstance(fit, Mapping):
            raise RecipeError("`fit` is an object.", received=repr(fit), expected='{"batch_size": 128}')
        _known("`fit`", fit, tuple(field.name for field in fields(Fit)))
        wanted = data.get("target", "cpu")
        return Recipe(
            tuple(_step(row) for row in rows),
            target=Target.from_json(wanted) if isinstance(wanted, Mapping) else str(wanted),
            seed=data.get("seed", 0),
            fit=Fit(**fit),
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
            f"The step `{name}` is not known.", expected=", ".join(_STEPS), next_step=close_name(name, _STEPS)
        )
    kind = _STEPS[name]
    settings = {key: value for key, value in row.items() if key != "step"}
    _known(f"step `{name}`", settings, tuple(field.name for field in fields(kind)))
    return kind(**settings)


def _known(what: str, data: Mapping[str, Any], names: tuple[str, ...]) -> None:
    for key in data:
        if key not in names:
            raise RecipeError(
                f"The {what} has no setting `{key}`.", expected=", ".join(names), next_step=close_name(key, names)
            )


def _plain(step: Step) -> dict[str, object]:
    """Return a step's settings as JSON knows them."""
    settings = asdict(step)
    for name, value in settings.items():
        if name in _MAPPINGS:
            settings[name] = dict(value)
        elif isinstance(value, tuple):
            settings[name] = list(value)
    return settings
