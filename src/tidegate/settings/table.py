"""The schema as a tree that can be walked: sections with members, lists, tables by name, and single values."""

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from msgspec import NODEFAULT, Struct, inspect

from tidegate.domain.secret import Secret
from tidegate.settings.kinds import Choice, FilePath, Hidden, Moment, Number, Text, Truth
from tidegate.settings.quantities import Duration, Size
from tidegate.settings.schema import Settings

Readable = Text | Truth | Number | Choice | Duration | Size | FilePath | Moment


class Leaf(Struct, frozen=True):
    """One value."""

    kind: Readable | Hidden
    is_optional: bool = False


class Items(Struct, frozen=True):
    """A list."""

    item: "Node"
    shortest: int = 0


class Table(Struct, frozen=True):
    """An object whose member names are chosen by the operator."""

    value: "Section"


class Section(Struct, frozen=True):
    """An object with known members."""

    build: type[Struct]
    members: tuple["Member", ...]

    def names(self) -> tuple[str, ...]:
        return tuple(member.name for member in self.members)

    def member(self, name: str) -> "Member | None":
        return next((one for one in self.members if name == one.name or name in one.aliases), None)


Node = Leaf | Items | Table | Section


class Member(Struct, frozen=True):
    """A named place in a section: one setting, or a group of settings."""

    name: str
    attribute: str
    node: Node
    help: str
    default: Any
    """The typed default; ``NODEFAULT`` where one is required."""
    default_text: str | None
    """What to say instead of the default where it depends on others."""
    aliases: tuple[str, ...]

    @property
    def is_required(self) -> bool:
        return self.default is NODEFAULT


class Setting(Struct, frozen=True):
    """One row of the table of settings."""

    name: str
    type: str
    default: Any
    """As it would stand in the file; ``None`` for none."""
    is_required: bool
    help: str
    allowed: str
    aliases: tuple[str, ...]


@cache
def root() -> Section:
    return _section(inspect.type_info(Settings))


def reference() -> tuple[Setting, ...]:
    """Every setting, in the order of the schema; ``<name>`` and ``[]`` stand for any name or position."""
    return tuple(_settings(root(), ""))


def _settings(section: Section, prefix: str) -> Iterator[Setting]:
    for member in section.members:
        name, node = f"{prefix}{member.name}", member.node
        while isinstance(node, Items | Table):
            if isinstance(node, Items) and isinstance(node.item, Leaf):
                break
            name += "[]" if isinstance(node, Items) else ".<name>"
            node = node.item if isinstance(node, Items) else node.value
        if isinstance(node, Section):
            yield from _settings(node, f"{name}.")
        else:
            yield _row(name, node, member)


def _row(name: str, node: Node, member: Member) -> Setting:
    default = None if member.is_required or member.default is None else shown(node, member.default)
    return Setting(
        name,
        type=type_name(node),
        default=member.default_text or default,
        is_required=member.is_required,
        help=member.help,
        allowed=allowed(node),
        aliases=member.aliases,
    )


def shown(node: Node, value: Any) -> object:
    """The plain value that would read back as ``value``; a secret shows as a mask."""
    match node:
        case Leaf(kind=kind):
            return kind.show(value)
        case Items(item=item):
            return [shown(item, one) for one in value]
        case _:
            raise TypeError("sections are shown member by member")


def type_name(node: Node) -> str:
    match node:
        case Leaf(kind=kind):
            return kind.name
        case Items(item=item):
            return f"list of {type_name(item)}"
        case Table() | Section():
            return "object"


def allowed(node: Node) -> str:
    """What may stand here, in words."""
    match node:
        case Leaf(kind=kind):
            return kind.allowed
        case Items(item=Section(), shortest=shortest):
            return f"a list of {'at least one object' if shortest else 'objects'}"
        case Items(item=item, shortest=shortest):
            return f"a list{' that is not empty' if shortest else ''}, each entry {allowed(item)}"
        case Table():
            return "an object with one member per name"
        case Section():
            return f"an object with {', '.join(node.names())}"


def _section(info: inspect.Type) -> Section:
    if not isinstance(info, inspect.StructType):
        raise TypeError(f"not a section: {info}")
    return Section(info.cls, tuple(_member(field) for field in info.fields if _help(field)))


def _help(field: inspect.Field) -> str:
    """Members without help are worked out, not set."""
    described = field.type.extra_json_schema if isinstance(field.type, inspect.Metadata) else None
    return str((described or {}).get("description", ""))


def _member(field: inspect.Field) -> Member:
    facts = (field.type.extra if isinstance(field.type, inspect.Metadata) else None) or {}
    default = field.default if field.default_factory is NODEFAULT else field.default_factory()
    return Member(
        name=field.encode_name,
        attribute=field.name,
        node=_node(field.type, {}),
        help=_help(field),
        default=default,
        default_text=facts.get("default"),
        aliases=tuple(facts.get("aliases", ())),
    )


_NO_FACTS: Final[Mapping[str, Any]] = MappingProxyType({})


def _node(info: inspect.Type, facts: Mapping[str, Any]) -> Node:
    match info:
        case inspect.Metadata(type=inner, extra=extra):
            return _node(inner, {**facts, **(extra or {})})
        case inspect.UnionType(types=types):
            inner = next(one for one in types if not isinstance(one, inspect.NoneType))
            node = _node(inner, facts)
            return Leaf(node.kind, is_optional=True) if isinstance(node, Leaf) else node
        case inspect.VarTupleType(item_type=item, min_length=shortest):
            return Items(_node(item, _NO_FACTS), shortest or 0)
        case inspect.DictType(value_type=value):
            return Table(_section(value))
        case inspect.StructType():
            return _section(info)
        case _:
            return Leaf(_kind(info, facts))


def _kind(info: inspect.Type, facts: Mapping[str, Any]) -> Readable | Hidden:
    match info:
        case inspect.TimeDeltaType():
            return Duration(facts["unit"], facts["least"], facts["most"])
        case inspect.IntType() if "unit" in facts:
            return Size(facts["unit"], facts["least"], facts["most"])
        case inspect.IntType(ge=least, le=most):
            return Number(_bound(most), least, is_whole=True)
        case inspect.FloatType(ge=least, le=most, gt=above):
            return Number(_bound(most), least, above)
        case inspect.BoolType():
            return Truth()
        case inspect.LiteralType(values=values):
            return Choice(tuple(str(value) for value in values))
        case inspect.DateTimeType():
            return Moment()
        case inspect.StrType(min_length=shortest, max_length=longest, pattern=pattern):
            manner = {name: facts[name] for name in ("form", "has_lines", "is_private") if name in facts}
            return Text(shortest or 0, longest, pattern, **manner)
        case inspect.CustomType(cls=cls) if cls is Path:
            return FilePath()
        case inspect.CustomType(cls=cls) if cls is Secret:
            owner = facts["owner"]
            return Hidden(owner, facts.get("may_be_empty", False), facts.get("may_have_lines", False))
        case _:
            raise TypeError(f"a setting cannot be of this type: {info}")


def _bound(most: float | None) -> float:
    if most is None:
        raise TypeError("a number needs an upper bound")
    return most
