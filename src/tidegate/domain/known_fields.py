"""Which members of a request the gateway knows, told from the typed request itself."""

from collections.abc import Mapping
from functools import cache
from types import UnionType
from typing import Annotated, Any, Final, Union, get_args, get_origin

import msgspec
from msgspec import Struct

MOST_DROPPED: Final = 1000

Shape = Mapping[str, "Shape | None"]
"""Known names of an object; the value is the shape of what lies below, ``None`` where anything goes."""


@cache
def shape_of(struct: type[Struct]) -> Shape:
    return {field.encode_name: _shape_below(field.type) for field in msgspec.structs.fields(struct)}


def _shape_below(declared: Any) -> Shape | None:
    """The shape of the objects in a member, be they its value or the items of its list."""
    origin = get_origin(declared)
    if origin is Annotated or origin in {Union, UnionType, list}:
        shapes = [_shape_below(argument) for argument in get_args(declared)]
        return next((shape for shape in shapes if shape is not None), None)
    if isinstance(declared, type) and issubclass(declared, Struct):
        return shape_of(declared)
    return None


def keep_known(value: Any, shape: Shape, path: str, dropped: list[str]) -> Any:
    """``value`` without unknown members and nulls; the paths of what was unknown go to ``dropped``.

    Works in place where it can: most requests hold nothing to take away.
    """
    if isinstance(value, dict):
        return _known_members(value, shape, path, dropped)
    if isinstance(value, list):
        for index, item in enumerate(value):
            value[index] = keep_known(item, shape, f"{path}[{index}]", dropped)
    return value


def _known_members(members: dict[str, Any], shape: Shape, path: str, dropped: list[str]) -> dict[str, Any]:
    prefix = f"{path}." if path else ""
    for name, value in members.items():
        if name not in shape:
            if len(dropped) < MOST_DROPPED:
                dropped.append(f"{prefix}{name}")
        elif isinstance(value, dict | list) and (below := shape[name]) is not None:
            members[name] = keep_known(value, below, f"{prefix}{name}", dropped)
    if members.keys() <= shape.keys() and None not in members.values():
        return members
    return {name: value for name, value in members.items() if name in shape and value is not None}
