"""JSON Schema of the configuration file, for editors."""

from typing import Any

from tidegate.settings.bifrost import IGNORED
from tidegate.settings.table import Items, Leaf, Member, Node, Section, Table, root, shown


def json_schema() -> dict[str, Any]:
    heading = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Tidegate configuration",
    }
    schema = heading | _section(root(), "")
    schema["properties"]["$schema"] = {"type": "string"}
    return schema


def _section(section: Section, name: str) -> dict[str, Any]:
    properties = _ignored(name)
    for member in section.members:
        described = _member(member, f"{name}{member.name}")
        properties |= dict.fromkeys((member.name, *member.aliases), described)
    schema: dict[str, Any] = {"type": "object", "properties": properties, "additionalProperties": False}
    required = [member.name for member in section.members if member.is_required]
    return schema | ({"required": required} if required else {})


def _ignored(name: str) -> dict[str, Any]:
    """Names of Bifrost that load without effect."""
    here = {known: known.removeprefix(name) for known in IGNORED if known.startswith(name)}
    return {
        field: {"description": f"Has no effect. {IGNORED[known].consequence}".strip(), "deprecated": True}
        for known, field in here.items()
        if "." not in field
    }


def _member(member: Member, name: str) -> dict[str, Any]:
    schema = _node(member.node, name) | {"description": member.help}
    if not isinstance(member.node, Leaf | Items) or member.is_required or member.default is None:
        return schema
    if member.default_text is None and not _holds_sections(member.node):
        schema["default"] = shown(member.node, member.default)
    return schema


def _holds_sections(node: Node) -> bool:
    return isinstance(node, Items) and isinstance(node.item, Section)


def _node(node: Node, name: str) -> dict[str, Any]:
    match node:
        case Leaf(kind=kind, is_optional=is_optional):
            schema = kind.json_schema()
            return {"anyOf": [schema, {"type": "null"}]} if is_optional else schema
        case Items(item=item, shortest=shortest):
            schema = {"type": "array", "items": _node(item, f"{name}[]")}
            return schema | ({"minItems": shortest} if shortest else {})
        case Table(value=section):
            return {"type": "object", "additionalProperties": _section(section, f"{name}.<name>.")}
        case Section():
            return _section(node, f"{name}.")
