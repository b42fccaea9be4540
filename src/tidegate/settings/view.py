"""Settings as plain data for people: every value with its origin, secrets masked."""

from collections.abc import Callable, Mapping
from typing import Any

from tidegate.settings.problems import Trail, dotted
from tidegate.settings.report import Report
from tidegate.settings.schema import Settings
from tidegate.settings.table import Items, Node, Section, Table, root, shown

_Leaf = Callable[[Node, Any, Trail], object]


def show(settings: Settings, origins: Mapping[str, str]) -> dict[str, Any]:
    """Nested like the file; each value is ``{"value": …, "origin": …}``."""

    def leaf(node: Node, value: Any, trail: Trail) -> object:
        plain = None if value is None else shown(node, value)
        return {"value": plain, "origin": origins.get(dotted(trail), "default")}

    nested: dict[str, Any] = _walk(root(), settings, (), leaf)
    return nested


def origins_of(settings: Settings, report: Report) -> Mapping[str, str]:
    """For each single value of the settings, in their order."""
    origins: dict[str, str] = {}

    def leaf(_node: Node, _value: Any, trail: Trail) -> object:
        origins[dotted(trail)] = _origin(trail, report)
        return None

    _walk(root(), settings, (), leaf)
    return origins


def _origin(trail: Trail, report: Report) -> str:
    if not report.document.has(trail):
        return "default"
    place = report.document.place(trail)
    reference = report.references.get(trail, "")
    written = f"{place.origin} {place.where}".rstrip()
    return f"{written}, {reference}" if reference and place.origin != "environment" else written


def _walk(node: Node, value: Any, trail: Trail, leaf: _Leaf) -> Any:
    match node:
        case Section() if value is not None:
            return {
                member.name: _walk(member.node, getattr(value, member.attribute), (*trail, member.name), leaf)
                for member in node.members
            }
        case Table(value=section):
            return {name: _walk(section, one, (*trail, name), leaf) for name, one in value.items()}
        case Items(item=Section() as item) if value is not None:
            return [_walk(item, one, (*trail, index), leaf) for index, one in enumerate(value)]
        case _:
            return leaf(node, value, trail)
