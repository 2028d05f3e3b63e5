"""The input by which a device is checked: one on which a broken device cannot answer right by chance.

On noise many models answer with next to nothing (MobileNet v2: 18 to 25 of 255 at most), and a device that answers
zeros passes. So a few patterns are tried on the CPU twin, until for one of them three pretended answers are found out:
all numbers the lowest, all numbers zero, and the right answer shifted by one (the next class gets what this one has).

An honest device rounds otherwise, and what the file computes out of its numbers on the CPU may change altogether by
that: two kernels of one engine place MoveNet's points up to 196 of 256 steps apart on these patterns (x86, LiteRT 2.3).
So the twin is also asked with the pattern's numbers changed by a step each, twice: an output that differs then by more
than half of what `agreement` allows is not compared. How close that comes to an Edge TPU's own rounding was not
measured: none was at hand.

Of published models (google-coral/test_data and others, x86): MobileNet v1 and v2, DeepLab v3, SSD MobileNet v1 (its
scores and its count) and ResNet-8 can be checked so; MoveNet cannot.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from edgeinfer.frozen import dataclass
from edgeinfer.model.metadata import OutputSpec
from edgeinfer.runtime.edgetpu.agreement import difference, disagreement
from edgeinfer.runtime.trial import fill

Run = Callable[[Sequence[NDArray[Any]]], list[NDArray[Any]]]
# A pattern more costs a run of the twin, 5 to 40 ms for the models tried (x86, LiteRT 2.3): a start must not take long
# because a model answers nothing to any of them.
SEARCH_S, AT_LEAST = 5.0, 3
_PRETENDED = 3


@dataclass(frozen=True, slots=True)
class KnownInput:
    """An input and the CPU's answer to it.

    Attributes:
        inputs: Stored numbers, one array for each input of the model.
        expected: The outputs, stored numbers.
        compared: For each output, whether it is compared; else it is only asked for its shape and for being numbers.
        sees: Whether a broken device would be found out.
        specs: Of the outputs.
    """

    inputs: tuple[NDArray[Any], ...]
    expected: tuple[NDArray[Any], ...]
    compared: tuple[bool, ...]
    sees: bool
    specs: tuple[OutputSpec, ...]

    def disagreement(self, answers: Sequence[NDArray[Any]]) -> str:
        """Return what of a device's answers to this input cannot be; "" where they could be right."""
        return disagreement(answers, self.expected, self.specs, self.compared)


def choose(run: Run, inputs: Sequence[NDArray[Any]], specs: Sequence[OutputSpec]) -> KnownInput:
    """Return the first pattern by which a broken device is found out; else the one that comes closest to it.

    Args:
        run: Runs the CPU twin: from one array for each input to copies of the outputs.
        inputs: Arrays of the inputs' shapes and dtypes; they are not changed.
        specs: Of the outputs.
    """
    from time import monotonic

    best: tuple[list[NDArray[Any]], list[NDArray[Any]]] | None = None
    most = -1
    ends = monotonic() + SEARCH_S
    for number, given in enumerate(_patterns(inputs), start=1):
        expected = run(given)
        found = _found_out(expected, specs, tuple(True for _ in specs))
        if found == _PRETENDED:
            compared = _steady(run, given, expected, specs)
            found = _found_out(expected, specs, compared)
            if found == _PRETENDED:
                return KnownInput(tuple(given), tuple(expected), compared, True, tuple(specs))
        if found > most:
            best, most = (given, expected), found
        if number >= AT_LEAST and monotonic() > ends:
            break
    given, expected = cast(tuple[list[NDArray[Any]], list[NDArray[Any]]], best)
    return KnownInput(
        tuple(given), tuple(expected), _steady(run, given, expected, specs), sees=False, specs=tuple(specs)
    )


def _steady(
    run: Run, given: Sequence[NDArray[Any]], expected: Sequence[NDArray[Any]], specs: Sequence[OutputSpec]
) -> tuple[bool, ...]:
    """Return for each output whether it stays what it is when the input's numbers change by a step."""
    shaken = [run(_shaken(given, seed)) for seed in range(2)]
    return tuple(
        not any(difference(answers[place], expected[place], spec, room=0.5) for answers in shaken)
        for place, spec in enumerate(specs)
    )


def pretended(expected: Sequence[NDArray[Any]], specs: Sequence[OutputSpec]) -> list[list[NDArray[Any]]]:
    """Return what a broken device could answer: lowest numbers, zeros, and the right answer shifted by one.

    Args:
        expected: The right answers, stored numbers.
        specs: Of the outputs.
    """
    lowest = [np.full_like(one, _lowest(one, spec)) for one, spec in zip(expected, specs, strict=True)]
    zeros = [np.zeros_like(one) for one in expected]
    shifted = [_shifted(one, spec) for one, spec in zip(expected, specs, strict=True)]
    return [lowest, zeros, shifted]


def _lowest(expected: NDArray[Any], spec: OutputSpec) -> Any:
    """Return the lowest number that an output can have; for floats and classes, the lowest that it has."""
    if expected.dtype.kind in "iu" and spec.scale:
        return np.iinfo(expected.dtype).min
    return expected.min() if expected.size else 0


def _shifted(expected: NDArray[Any], spec: OutputSpec) -> NDArray[Any]:
    """Return the answer with each class's number at the next class; where the numbers are classes, the next class."""
    if expected.dtype.kind in "iu" and not spec.scale:
        return np.asarray(expected + expected.dtype.type(1))
    if expected.ndim and expected.shape[-1] > 1:
        return np.roll(expected, 1, axis=-1)
    return np.roll(expected, 1)


def _found_out(expected: Sequence[NDArray[Any]], specs: Sequence[OutputSpec], compared: Sequence[bool]) -> int:
    """Return how many of the pretended answers are found out by the outputs that are compared."""
    return sum(bool(disagreement(answers, expected, specs, compared)) for answers in pretended(expected, specs))


# --- patterns ---------------------------------------------------------------------------------------------------------


def _patterns(inputs: Sequence[NDArray[Any]]) -> Iterator[list[NDArray[Any]]]:
    """Yield inputs, the same ones each time; those first that the models at hand answer most clearly."""
    for draw, seeds in _DRAWN:
        for seed in range(seeds):
            random = np.random.default_rng(seed)
            yield [_stored(one, draw(one.shape, random)) for one in inputs]
    for seed in range(2):
        random = np.random.default_rng(seed)
        yield [_noise(one, random) for one in inputs]


def _places(shape: tuple[int, ...]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return for each number how far down and to the right it lies, from 0 to below 1, and its channel."""
    if not shape:
        nothing = np.zeros(())
        return nothing, nothing, nothing.astype(np.intp)
    whole = np.indices(shape, sparse=True)  # each is as long as its own axis, and 1 elsewhere
    tall, wide = min(1, len(shape) - 1), min(2, len(shape) - 1)
    return whole[tall] / max(shape[tall], 1), whole[wide] / max(shape[wide], 1), whole[-1]


def _checkerboard(shape: tuple[int, ...], _random: np.random.Generator) -> NDArray[Any]:
    down, right, _ = _places(shape)
    return np.asarray((np.floor(down * 16) + np.floor(right * 16)) % 2)


def _colours(shape: tuple[int, ...], random: np.random.Generator) -> NDArray[Any]:
    """Return one half of few colours, which no two channels have alike, and one of noise in the same colours."""
    _, right, channel = _places(shape)
    channels = shape[-1] if shape else 1
    level = (channel + 1) * 0.618034 % 1.0 if channels > 3 else channel / max(channels - 1, 1)
    return np.asarray(np.where(right < 0.5, level, level * random.random(shape)))


def _blocks(shape: tuple[int, ...], random: np.random.Generator) -> NDArray[Any]:
    """Return eight by eight coloured fields."""
    down, right, channel = _places(shape)
    fields = random.random((8, 8, shape[-1] if shape else 1))
    return np.asarray(fields[(down * 8).astype(np.intp), (right * 8).astype(np.intp), channel])


def _disc(shape: tuple[int, ...], _random: np.random.Generator) -> NDArray[Any]:
    down, right, _ = _places(shape)
    return np.asarray((down - 0.5) ** 2 + (right - 0.5) ** 2 < 0.0625, np.float64)


def _thing(shape: tuple[int, ...], random: np.random.Generator) -> NDArray[Any]:
    """Return an upright ellipse of noise on a plain ground: to a segmentation model, something before nothing."""
    down, right, channel = _places(shape)
    noise, ground = random.random(shape), random.random(shape[-1] if shape else 1)
    return np.asarray(np.where((down - 0.5) ** 2 / 0.16 + (right - 0.5) ** 2 / 0.04 < 1, noise, ground[channel]))


def _level(shape: tuple[int, ...], random: np.random.Generator) -> NDArray[Any]:
    return np.full(shape, random.random())


def _gradient(shape: tuple[int, ...], _random: np.random.Generator) -> NDArray[Any]:
    down, right, channel = _places(shape)
    return np.asarray(np.where(channel % 2 == 0, right, down))


# With how many different ones of each are tried.
_DRAWN = ((_checkerboard, 1), (_thing, 4), (_colours, 1), (_blocks, 6), (_disc, 1), (_gradient, 1), (_level, 2))


def _stored(like: NDArray[Any], values: NDArray[Any]) -> NDArray[Any]:
    """Return values from 0..1 as an input that any model can take, as `trial.fill` does with noise."""
    if like.dtype.kind in "iu" and like.dtype.itemsize <= 2:
        limits = np.iinfo(like.dtype)
        span = int(limits.max) - int(limits.min)
        values = np.rint(values * span) + int(limits.min)
    elif like.dtype.kind != "f":
        return np.zeros_like(like)
    return np.array(np.broadcast_to(values, like.shape), like.dtype)


def _noise(like: NDArray[Any], random: np.random.Generator) -> NDArray[Any]:
    made = np.empty_like(like)
    fill(made, random)
    return made


def _shaken(inputs: Sequence[NDArray[Any]], seed: int) -> list[NDArray[Any]]:
    """Return inputs whose numbers each lie one step of 256 away, up or down at random."""
    random = np.random.default_rng(seed)
    shaken = []
    for one in inputs:
        up = random.integers(0, 2, one.shape) * 2 - 1
        if one.dtype.kind == "f":
            shaken.append((one + up / 256).astype(one.dtype))
        elif one.dtype.kind in "iu" and one.dtype.itemsize <= 2:
            limits = np.iinfo(one.dtype)
            step = 256 ** (one.dtype.itemsize - 1)
            shaken.append(np.clip(one.astype(np.int64) + up * step, limits.min, limits.max).astype(one.dtype))
        else:
            shaken.append(one)
    return shaken
