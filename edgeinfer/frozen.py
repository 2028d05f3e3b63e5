"""Dataclasses with slots whose methods are shared instead of generated.

`dataclasses.dataclass` writes the source of up to ten methods for each class and compiles it: 2.9 million instructions
for a class of six fields on an emulated arm64 processor (Python 3.13), against 0.17 million here, and a command that
answers one picture makes thirty of them, an eighth of its start before. Here the methods are written once and read the
class's list of fields. To a type checker, and to `dataclasses.fields`, `replace`, `asdict` and `inspect.signature`, it
is the same thing.
"""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Any, TypeVar

T = TypeVar("T")

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass
    from dataclasses import field as field
    from dataclasses import replace as replace
else:

    class _Field:
        """What `field()` was told of a field."""

        __slots__ = ("compared", "default", "factory", "shown")

        def __init__(self, default: Any, factory: Any, *, shown: bool = True, compared: bool = True) -> None:
            self.default, self.factory, self.shown, self.compared = default, factory, shown, compared

    _MISSING = object()

    def field(*, default: Any = _MISSING, default_factory: Any = None, **shown_and_compared: bool) -> Any:
        """As `dataclasses.field`: the settings of one field, `repr` and `compare` among them."""
        shown, compared = shown_and_compared.pop("repr", True), shown_and_compared.pop("compare", True)
        if shown_and_compared:
            raise TypeError(f"a field has no setting `{next(iter(shown_and_compared))}` here")
        return _Field(default, default_factory, shown=shown, compared=compared)

    def dataclass(*, slots: bool, frozen: bool = False, eq: bool = True) -> Any:
        """As `dataclasses.dataclass(slots=True, ...)`."""
        if not slots:
            raise TypeError("only classes with slots: use `dataclasses.dataclass` for others")
        return lambda cls: _make(cls, frozen, eq)

    def replace(value: T, /, **changes: Any) -> T:
        """As `dataclasses.replace`: a copy with other values in some fields."""
        for name in type(value)._fields_:
            if name not in changes:
                changes[name] = getattr(value, name)
        return type(value)(**changes)

    def _make(cls: type, frozen: bool, eq: bool) -> type:
        """Return the class anew with slots: those of a class cannot be added later."""
        space = dict(cls.__dict__)
        for name in ("__dict__", "__weakref__"):
            space.pop(name, None)
        own = tuple(cls.__annotations__)
        fields = {name: _Field(_MISSING, None) for name in own}
        for name in own:
            if name in space:
                given = space.pop(name)
                fields[name] = given if isinstance(given, _Field) else _Field(given, None)
        space |= {
            "__slots__": own,
            "__match_args__": own,
            "__qualname__": cls.__qualname__,
            "_fields_": fields,
            "__dataclass_fields__": _Twin(lambda twin: twin.__dataclass_fields__),
            "__signature__": _Twin(_signature),
        }
        compared = [name for name in own if fields[name].compared]
        # One name gives the value itself, several a tuple; either compares and hashes as the fields do.
        space["_compared_"] = staticmethod(attrgetter(*compared)) if compared else staticmethod(_nothing)
        methods = {"__init__": _init, "__repr__": _repr, "__getstate__": _get_state, "__setstate__": _set_state}
        if frozen:
            methods |= {"__setattr__": _refuse_set, "__delattr__": _refuse_delete}
        if eq:
            methods["__eq__"] = _eq
            if space.get("__hash__") is None:  # Python sets None where `__eq__` is written and `__hash__` is not
                space["__hash__"] = _hash if frozen else None
        for name, method in methods.items():
            space.setdefault(name, method)
        made = type(cls)(cls.__name__, cls.__bases__, space)
        # A slot's own setter passes by `__setattr__`, which refuses, and is quicker than `object.__setattr__`.
        made._setters_ = tuple(made.__dict__[name].__set__ for name in own)
        made._checks_ = hasattr(made, "__post_init__")
        return made

    class _Twin:
        """What the standard library would say of a class, made when somebody asks."""

        def __init__(self, ask: Any) -> None:
            self._ask = ask
            self._said: Any = None

        def __get__(self, _value: object, owner: type) -> Any:
            if self._said is None:
                self._said = self._ask(_twin(owner))
            return self._said

    def _twin(owner: type) -> type:
        import dataclasses

        space: dict[str, Any] = {"__annotations__": dict(owner.__annotations__), "__module__": owner.__module__}
        for name, own in owner._fields_.items():
            default = dataclasses.MISSING if own.default is _MISSING else own.default
            if own.factory is None:
                space[name] = dataclasses.field(default=default, repr=own.shown, compare=own.compared)
            else:
                space[name] = dataclasses.field(default_factory=own.factory, repr=own.shown, compare=own.compared)
        return dataclasses.dataclass(type(owner.__name__, (), space))

    def _signature(twin: type) -> Any:
        import inspect

        return inspect.signature(twin)

    def _nothing(_value: object) -> tuple[()]:
        return ()

    def _init(self: Any, *args: Any, **named: Any) -> None:
        cls = type(self)
        setters = cls._setters_
        if named or len(args) != len(setters):
            args = _arguments(cls, args, named)
        for put, value in zip(setters, args):  # noqa: B905 - as many, and `strict` costs a frame its time
            put(self, value)
        if cls._checks_:
            self.__post_init__()

    def _arguments(cls: type, args: tuple[Any, ...], named: dict[str, Any]) -> list[Any]:
        """Return a value for each field, or raise what Python raises for a function with these parameters."""
        fields = cls._fields_
        if len(args) > len(fields):
            raise TypeError(f"{cls.__qualname__}() takes {len(fields)} arguments but {len(args)} were given")
        found, missing = list(args), []
        for name in cls.__match_args__[len(args) :]:
            value = named.pop(name, _MISSING)
            if value is _MISSING:
                own = fields[name]
                value = own.default if own.factory is None else own.factory()
                if value is _MISSING:
                    missing.append(f"'{name}'")
            found.append(value)
        if missing:
            raise TypeError(f"{cls.__qualname__}() is missing required arguments: {', '.join(missing)}")
        if named:
            name = next(iter(named))
            what = "multiple values for" if name in fields else "an unexpected keyword"
            raise TypeError(f"{cls.__qualname__}() got {what} argument '{name}'")
        return found

    def _repr(self: Any) -> str:
        cls = type(self)
        shown = ", ".join(f"{name}={getattr(self, name)!r}" for name, own in cls._fields_.items() if own.shown)
        return f"{cls.__qualname__}({shown})"

    def _eq(self: Any, other: object) -> Any:
        cls = type(self)
        return cls._compared_(self) == cls._compared_(other) if type(other) is cls else NotImplemented

    def _hash(self: Any) -> int:
        return hash(type(self)._compared_(self))

    def _refuse_set(_self: Any, name: str, _value: object) -> None:
        from dataclasses import FrozenInstanceError

        raise FrozenInstanceError(f"cannot assign to field '{name}'")

    def _refuse_delete(_self: Any, name: str) -> None:
        from dataclasses import FrozenInstanceError

        raise FrozenInstanceError(f"cannot delete field '{name}'")

    def _get_state(self: Any) -> list[Any]:
        return [getattr(self, name) for name in type(self)._fields_]

    def _set_state(self: Any, state: list[Any]) -> None:
        for put, value in zip(type(self)._setters_, state, strict=True):
            put(self, value)
