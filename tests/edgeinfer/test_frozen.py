"""Our dataclasses against the standard library's: the same class made by both must behave alike."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeinfer import frozen

pytestmark = pytest.mark.device


def box(decorate: Any, field: Any) -> Any:
    """A class with every kind of field, and a check of its own."""

    @decorate(frozen=True, slots=True)
    class Box:
        """A box."""

        width: int
        height: int = 2
        names: list[str] = field(default_factory=list)
        data: bytes = field(default=b"", repr=False, compare=False)

        def __post_init__(self) -> None:
            if self.width < 0:
                raise ValueError("negative")

        @property
        def area(self) -> int:
            return self.width * self.height

    return Box


OURS, THEIRS = box(frozen.dataclass, frozen.field), box(dataclasses.dataclass, dataclasses.field)


@frozen.dataclass(frozen=True, slots=True)
class Point:
    """Of a module, so that it can be pickled."""

    x: float
    y: float = 0.0


@frozen.dataclass(frozen=True, slots=True, eq=False)
class Row:
    """Compared by what it is, and not by what it holds."""

    x: float


@frozen.dataclass(slots=True)
class Loose:
    """Not frozen."""

    x: float


values = st.tuples(st.integers(0, 3), st.integers(0, 3), st.lists(st.text(max_size=2), max_size=2), st.binary())


@given(values)
def test_it_is_shown_as_the_standard_librarys(given: tuple[Any, ...]) -> None:
    assert repr(OURS(*given)) == repr(THEIRS(*given))


@given(values, values)
def test_two_are_equal_where_the_standard_librarys_are(one: tuple[Any, ...], other: tuple[Any, ...]) -> None:
    assert (OURS(*one) == OURS(*other)) == (THEIRS(*one) == THEIRS(*other))


@given(st.floats(allow_nan=False), st.floats(allow_nan=False))
def test_equal_ones_have_one_hash(x: float, y: float) -> None:
    assert hash(Point(x, y)) == hash(Point(x, y))
    assert len({Point(x, y), Point(x, y)}) == 1


CALLS: dict[str, Callable[[Any], Any]] = {
    "by place": lambda cls: cls(1, 2, ["a"]),
    "by name": lambda cls: cls(height=5, width=1),
    "with defaults": lambda cls: cls(3).area,
    "nothing": lambda cls: cls(),
    "too many": lambda cls: cls(1, 2, [], b"", 5),
    "twice": lambda cls: cls(1, width=2),
    "unknown": lambda cls: cls(1, depth=2),
    "refused by its own check": lambda cls: cls(-1),
    "a field set": lambda cls: setattr(cls(1), "width", 2),
    "a field deleted": lambda cls: delattr(cls(1), "width"),
    "another class": lambda cls: cls(1) == (1, 2, []),
    "unhashable content": lambda cls: hash(cls(1)),
    "fields": lambda cls: [(one.name, one.repr, one.compare) for one in dataclasses.fields(cls)],
    "asdict": lambda cls: dataclasses.asdict(cls(1, names=["a"])),
    "replace": lambda cls: dataclasses.replace(cls(1), width=4),
    "replace with nonsense": lambda cls: dataclasses.replace(cls(1), depth=4),
    "is one": lambda cls: dataclasses.is_dataclass(cls),
    "signature": lambda cls: str(inspect.signature(cls)),
    "documentation": lambda cls: cls.__doc__,
    "deep copy": lambda cls: copy.deepcopy(cls(1, names=["a"])),
    "match": lambda cls: cls.__match_args__,
    "a list of its own": lambda cls: cls(1).names is cls(1).names,
}


@pytest.mark.parametrize("name", CALLS)
def test_a_call_does_what_it_does_with_the_standard_librarys(name: str) -> None:
    def outcome(cls: Any) -> Any:
        try:
            said = CALLS[name](cls)
        except Exception as error:
            return type(error)
        return repr(said) if isinstance(said, cls) else said

    assert outcome(OURS) == outcome(THEIRS)


def test_what_is_no_field_cannot_be_set_either() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):  # before Python 3.14 the standard library's is a TypeError
        Point(1.0).depth = 2  # type: ignore[attr-defined]


def test_our_replace_is_the_standard_librarys() -> None:
    assert frozen.replace(OURS(1, names=["a"]), width=4) == dataclasses.replace(OURS(1, names=["a"]), width=4)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1)[2:])
def test_it_can_be_pickled(protocol: int) -> None:
    assert pickle.loads(pickle.dumps(Point(1.0, 2.0), protocol)) == Point(1.0, 2.0)


def test_it_has_slots_and_no_dictionary() -> None:
    assert not hasattr(Point(1.0), "__dict__")


def test_without_eq_it_is_compared_by_what_it_is() -> None:
    assert Row(1.0) != Row(1.0)
    assert len({Row(1.0), Row(1.0)}) == 2


def test_one_that_is_not_frozen_can_be_changed_and_has_no_hash() -> None:
    loose = Loose(1.0)
    loose.x = 2.0
    assert loose == Loose(2.0)
    with pytest.raises(TypeError):
        hash(loose)


def test_a_class_without_slots_is_refused() -> None:
    with pytest.raises(TypeError, match="slots"):
        frozen.dataclass(slots=False)
