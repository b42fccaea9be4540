"""Flag over environment over file: what each says, laid over one another into one document."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any, Final, Protocol

from tidegate.settings.document import Document, Place
from tidegate.settings.files import read_file
from tidegate.settings.problems import Code, Trail
from tidegate.settings.report import Report
from tidegate.settings.table import Items, Leaf, Node, Section, Table, root

CONFIG_VARIABLE: Final = "TIDEGATE_CONFIG"
PREFIX: Final = "TIDEGATE__"
MOCK: Final = "mock"


class VendorFacts(Protocol):
    """What the settings need to know of a vendor."""

    @property
    def origin(self) -> str: ...
    @property
    def chat_path(self) -> str: ...
    @property
    def key_variable(self) -> str | None: ...
    @property
    def needs_key(self) -> bool: ...
    @property
    def default_models(self) -> tuple[str, ...]: ...


def gather(
    path: Path | None,
    environ: Mapping[str, str],
    overrides: Mapping[str, object],
    vendors: Mapping[str, VendorFacts],
    extra_providers: Sequence[str],
) -> Report:
    """The document, in a report that already knows what could not be laid over it."""
    path = path or (Path(environ[CONFIG_VARIABLE]) if environ.get(CONFIG_VARIABLE) else None)
    document, duplicates = read_file(path) if path else (_without_a_file(environ, vendors), [])
    report = Report(document)
    for trail, place in duplicates:
        report.problem(Code.DUPLICATE, trail, "Given a second time.", "Keep one", place=place)
    _enable(document, extra_providers)
    for name in sorted(environ):
        if name.startswith(PREFIX):
            steps = name.removeprefix(PREFIX).lower().split("__")
            _lay_over(report, steps, environ[name], Place("environment", name))
    for dotted_path in sorted(overrides):
        if overrides[dotted_path] is not None:
            _lay_over(report, dotted_path.split("."), overrides[dotted_path], Place("flag"))
    return report


def _without_a_file(environ: Mapping[str, str], vendors: Mapping[str, VendorFacts]) -> Document:
    """Every vendor whose usual variable is set, and the mock."""
    document = Document({"providers": {}})
    for name, vendor in vendors.items():
        variable = vendor.key_variable
        if variable and environ.get(variable, "").strip():
            keys = [{"name": variable, "value": f"env.{variable}"}]
            document.values["providers"][name] = {"keys": keys}
            document.places["providers", name] = Place("environment", variable)
    if MOCK in vendors:
        document.values["providers"].setdefault(MOCK, {})
    return document


def _enable(document: Document, names: Iterable[str]) -> None:
    """Add providers the caller wants beside those of the file."""
    for name in names:
        if document.values.get("providers") is None:
            document.values["providers"] = {}
        providers = document.values["providers"]
        if isinstance(providers, dict) and name not in providers:
            document.put(providers, ("providers", name), {}, Place("flag"))


def _lay_over(report: Report, steps: Sequence[str], value: object, place: Place) -> None:
    document = report.document
    parent: dict[str, Any] = document.values
    node: Node | None = root()
    trail: Trail = ()
    for step in steps[:-1]:
        name = _name(node, parent, step)
        trail, node = (*trail, name), _child(node, name)
        if parent.get(name) is None:
            document.put(parent, trail, {}, place)
        if isinstance(parent[name], list):
            report.problem(
                Code.UNKNOWN_FIELD, trail, "A list has no members.", "Set it as a whole, as JSON", place=place
            )
        if not isinstance(parent[name], dict):
            return  # whatever stands there will be found wrong itself
        parent = parent[name]
    name = _name(node, parent, steps[-1])
    if isinstance(node, Section) and (member := node.member(name)) is not None:
        for alias in member.aliases:
            parent.pop(alias, None)
    document.put(parent, (*trail, name), _value(_child(node, name), value), place)


def _name(node: Node | None, parent: Mapping[str, Any], step: str) -> str:
    """The member that ``step`` means. Variables know neither case nor hyphens."""
    if isinstance(node, Section):
        member = node.member(step)
        return member.name if member else step
    return next((name for name in parent if _folded(name) == _folded(step)), step)


def _folded(name: str) -> str:
    return name.casefold().replace("-", "_")


def _child(node: Node | None, name: str) -> Node | None:
    match node:
        case Section():
            member = node.member(name)
            return member.node if member else None
        case Table(value=value):
            return value
        case _:
            return None


def _value(node: Node | None, value: object) -> object:
    """Text from outside becomes what the setting takes: a number, true or false, JSON."""
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, tuple):
        return list(value)
    if not isinstance(value, str):
        return value
    match node:
        case Leaf(kind=kind):
            return kind.parse(value)
        case Items() | Table() | Section():
            return _json_or_text(value)
        case None:
            return value


def _json_or_text(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
