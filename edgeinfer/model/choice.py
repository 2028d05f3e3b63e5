"""One value out of a few that are allowed."""

from __future__ import annotations

from edgeinfer.errors import MetadataError


def one_of(what: str, value: object, allowed: tuple[object, ...]) -> None:
    """Refuse a value that is not one of those allowed; `what` is its name in the error."""
    if value not in allowed:
        raise MetadataError(
            f"`{what}` has a value that is not known.",
            received=repr(value),
            expected=", ".join(f'"{one}"' for one in allowed),
        )
