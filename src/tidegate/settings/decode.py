"""A document becomes typed settings; every deviation from the schema becomes a problem."""

from typing import Any, Final

from tidegate.settings.bifrost import IGNORED
from tidegate.settings.kinds import Hidden, type_of
from tidegate.settings.problems import Code, Refused, Trail, did_you_mean, dotted, nearest, quoted
from tidegate.settings.report import Report
from tidegate.settings.schema import Settings
from tidegate.settings.secrets import SecretReader
from tidegate.settings.table import Items, Leaf, Node, Section, Table, allowed, reference, root
from tidegate.settings.unsupported import UNSUPPORTED

_UNUSABLE: Final = object()
_SILENT: Final = frozenset({"$schema"})


def decode(report: Report, secrets: SecretReader) -> Settings:
    """Settings as far as they could be read: after a problem, parts of them are placeholders."""
    settings: Settings = _Decoder(report, secrets).section(root(), report.document.values, (), "")
    return settings


class _Decoder:
    """``name`` is a setting's name in the reference, where ``<name>`` and ``[]`` stand for the actual steps."""

    def __init__(self, report: Report, secrets: SecretReader) -> None:
        self._report = report
        self._secrets = secrets

    def section(self, section: Section, value: Any, trail: Trail, name: str) -> Any:
        known: dict[str, Any] = {}
        if isinstance(value, dict):
            for key, item in value.items():
                self._member(section, str(key), item, trail, name, known)
            self._note_missing(section, known, trail)
        elif value is not None:
            self._wrong_type(section, value, trail)
        blanks = {one.attribute: None for one in section.members if one.is_required}
        return section.build(**(blanks | known))

    def _member(
        self, section: Section, key: str, value: Any, trail: Trail, name: str, known: dict[str, Any]
    ) -> None:
        member = section.member(key)
        if member is None:
            self._unknown(section, key, trail, f"{name}{key}")
            return
        here = (*trail, member.name)
        if key != member.name:
            self._report.document.places.setdefault(here, self._report.document.place((*trail, key)))
        if value is None:
            return  # null is the same as not there
        if member.attribute in known:
            self._report.problem(
                Code.CONFLICT,
                here,
                f"Given under two names: {' and '.join((member.name, *member.aliases))}.",
                "Keep one",
            )
            return
        decoded = self._node(member.node, value, here, f"{name}{member.name}")
        if decoded is not _UNUSABLE:
            known[member.attribute] = decoded

    def _node(self, node: Node, value: Any, trail: Trail, name: str) -> Any:
        match node:
            case Section():
                return self.section(node, value, trail, f"{name}.")
            case Table(value=section):
                return self._table(node, section, value, trail, name)
            case Items(item=item):
                return self._items(node, item, value, trail, name)
            case Leaf(kind=kind):
                return self._leaf(kind, value, trail)

    def _table(self, node: Table, section: Section, value: Any, trail: Trail, name: str) -> Any:
        if not isinstance(value, dict):
            return self._wrong_type(node, value, trail)
        return {
            str(key): self.section(section, item, (*trail, str(key)), f"{name}.<name>.")
            for key, item in value.items()
        }

    def _items(self, node: Items, item: Node, value: Any, trail: Trail, name: str) -> Any:
        if not isinstance(value, list):
            return self._wrong_type(node, value, trail)
        if len(value) < node.shortest:
            self._report.refused(trail, Refused(Code.OUT_OF_RANGE, "The list is empty."), allowed(node))
        decoded = (self._item(item, one, (*trail, index), f"{name}[]") for index, one in enumerate(value))
        return tuple(one for one in decoded if one is not _UNUSABLE)

    def _item(self, node: Node, value: Any, trail: Trail, name: str) -> Any:
        if value is None and isinstance(node, Section):
            self._wrong_type(node, value, trail)
        return self._node(node, value, trail, name)

    def _leaf(self, kind: Any, value: Any, trail: Trail) -> Any:
        try:
            return self._secret(kind, value, trail) if isinstance(kind, Hidden) else kind.read(value)
        except Refused as reason:
            self._report.refused(trail, reason, kind.allowed)
            return _UNUSABLE

    def _secret(self, kind: Hidden, value: Any, trail: Trail) -> Any:
        found = self._secrets.read(kind, value)
        if found.reference:
            self._report.references[trail] = found.reference
        elif found.secret is not None and self._report.document.place(trail).origin != "environment":
            self._report.literals.append(trail)
        return found.secret

    def _wrong_type(self, node: Node, value: Any, trail: Trail) -> Any:
        self._report.refused(
            trail, Refused(Code.WRONG_TYPE, f"Wrong type: found {type_of(value)}."), allowed(node)
        )
        return _UNUSABLE

    def _note_missing(self, section: Section, known: dict[str, Any], trail: Trail) -> None:
        for member in section.members:
            here = (*trail, member.name)
            if member.is_required and member.attribute not in known and self._report.is_usable(*here):
                self._report.refused(
                    here, Refused(Code.MISSING_FIELD, f"{member.name} is missing."), allowed(member.node)
                )

    def _unknown(self, section: Section, key: str, trail: Trail, name: str) -> None:
        here = (*trail, key)
        if name in _SILENT:
            return
        if name in IGNORED:
            self._ignore(name, here)
        elif name in UNSUPPORTED:
            self._report.problem(
                Code.UNSUPPORTED,
                here,
                f"{quoted(key)} is not supported by this version.",
                "Remove it; ignoring it silently would break what it promises",
            )
        else:
            self._report.problem(
                Code.UNKNOWN_FIELD,
                here,
                f"Unknown field {quoted(key)}.",
                f"Allowed here: {', '.join(section.names())}",
                _near_field(section, key, trail, name.removesuffix(key)),
            )

    def _ignore(self, name: str, here: Trail) -> None:
        ignored = IGNORED[name]
        self._report.ignore(name, ignored.consequence)
        if ignored.is_warned:
            place = self._report.document.place(here)
            self._report.warn(f"{place}: {dotted(here)} has no effect: {ignored.consequence}")


def _near_field(section: Section, key: str, trail: Trail, prefix: str) -> str:
    """A sibling of a like name; else a setting of that very name further down, or anywhere."""
    if nearest(key, section.names()) is not None:
        return did_you_mean(key, section.names())
    elsewhere = [row.name for row in reference() if row.name.rpartition(".")[2] == key]
    below = [name for name in elsewhere if name.startswith(prefix)]
    if below:
        return f"Did you mean {dotted(trail)}{'.' if trail else ''}{below[0].removeprefix(prefix)}?"
    return f"Did you mean {elsewhere[0]}?" if elsewhere else ""
