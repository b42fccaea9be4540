"""Configuration files in YAML, TOML and JSON, read into values with their places."""

import json
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import yaml

from tidegate.settings.document import Document, Place
from tidegate.settings.kinds import found
from tidegate.settings.problems import Code, Problem, SettingsError, Trail, quoted

_LARGEST_FILE: Final = 4 << 20
_DEEPEST: Final = 50
_MOST_VALUES: Final = 100_000
_STRING: Final = "tag:yaml.org,2002:str"
_MAPPING: Final = "tag:yaml.org,2002:map"
_SEQUENCE: Final = "tag:yaml.org,2002:seq"
_TOML_PLACE: Final = re.compile(r" \(at line (\d+), column (\d+)\)")


class _Unreadable(Exception):
    """Not valid in its format. Never quotes the file: what stands there may be a secret."""

    def __init__(self, message: str, line: int | None = None, column: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.position = "" if line is None else f":{line}:{column}"


def read_file(path: Path) -> tuple[Document, list[tuple[Trail, Place]]]:
    """The document, and what stands in it a second time. Raises ``SettingsError`` if there is no reading it."""
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise _unreadable(path, f"{quoted(path.name)} is no known format.", "Use .yaml, .yml, .toml or .json")
    try:
        document, duplicates = reader(_text(path), str(path))
    except OSError as error:
        raise _unreadable(
            path, f"Cannot be read: {error.strerror}.", "Name a file that can be read"
        ) from error
    except _Unreadable as error:
        raise _unreadable(path, error.message, "Correct the file", error.position) from error
    except RecursionError as error:
        raise _unreadable(path, "Nested too deeply.", f"At most {_DEEPEST} levels are read") from error
    document.file = path
    return document, duplicates


def _unreadable(path: Path, message: str, allowed: str, position: str = "") -> SettingsError:
    return SettingsError([Problem("", f"{path}{position}", message, f"{allowed}.", "", Code.UNREADABLE)])


def _text(path: Path) -> str:
    with path.open("rb") as file:
        content = file.read(_LARGEST_FILE + 1)
    if len(content) > _LARGEST_FILE:
        raise _Unreadable(f"Larger than {_LARGEST_FILE >> 20} MiB.")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise _Unreadable("Not UTF-8 text.") from None


_Read = tuple[Document, list[tuple[Trail, Place]]]


def _yaml(text: str, name: str) -> _Read:
    nodes = _Nodes(name)
    try:
        values = nodes.read(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        said = error.problem if isinstance(error, yaml.scanner.ScannerError | yaml.parser.ParserError) else ""
        message = f"Not valid YAML: {said}." if said else "Not valid YAML: an unknown tag, alias or merge."
        raise _Unreadable(message, *((mark.line + 1, mark.column + 1) if mark else ())) from None
    except (yaml.YAMLError, ValueError, OverflowError):
        raise _Unreadable("Not valid YAML: a character or number that cannot be.") from None
    return Document(_members(values), nodes.places), nodes.duplicates


def _json(text: str, name: str) -> _Read:
    try:
        values = json.loads(text, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        raise _Unreadable(f"Not valid JSON: {error.msg}.", error.lineno, error.colno) from None
    except ValueError:
        raise _Unreadable("Not valid JSON: a number that cannot be.") from None
    nodes = _Nodes(name)
    try:
        # JSON is YAML but for tabs, and strings of JSON hold none: so columns stay what they are.
        nodes.read(text.replace("\t", " "))
    except (yaml.YAMLError, ValueError, OverflowError, _Unreadable):
        nodes = _Nodes(name)
    return Document(_members(values), nodes.places), nodes.duplicates


def _toml(text: str, name: str) -> _Read:
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        said, _, _ = str(error).partition(" (at ")
        place = _TOML_PLACE.search(str(error))
        position = (int(place[1]), int(place[2])) if place else ()
        raise _Unreadable(f"Not valid TOML: {said}.", *position) from None
    except ValueError:
        raise _Unreadable("Not valid TOML: a number that cannot be.") from None
    return Document(values, {(): Place("file", name)}), []


def _no_constant(name: str) -> None:
    raise ValueError(name)


def _members(values: object) -> dict[str, Any]:
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise _Unreadable(f"The file must hold an object with members, found {found(values)}.")
    return values


class _Nodes:
    """Turns PyYAML's nodes into values and remembers where each stood."""

    def __init__(self, name: str) -> None:
        self.places: dict[Trail, Place] = {(): Place("file", name)}
        self.duplicates: list[tuple[Trail, Place]] = []
        self._name = name
        self._count = 0
        self._loader: Any = None

    def read(self, text: str) -> object:
        self._loader = yaml.SafeLoader(text)
        try:
            node = self._loader.get_single_node()
            return None if node is None else self._value(node, ())
        finally:
            self._loader.dispose()

    def _value(self, node: Any, trail: Trail) -> object:
        self._count += 1
        if self._count > _MOST_VALUES or len(trail) > _DEEPEST:
            # An alias may repeat, or even contain, what it names.
            raise _Unreadable("Nested too deeply, or too many values.")
        match node:
            case yaml.MappingNode(tag=tag) if tag == _MAPPING:
                return self._mapping(node, trail)
            case yaml.SequenceNode(tag=tag, value=items) if tag == _SEQUENCE:
                return [self._placed(item, item, (*trail, index)) for index, item in enumerate(items)]
            case yaml.ScalarNode():
                return self._scalar(node)
            case _:
                raise self._refuse(node, "tags are not read")

    def _mapping(self, node: Any, trail: Trail) -> dict[str, Any]:
        self._note_duplicates(node, trail)
        self._loader.flatten_mapping(node)
        return {
            self._key(key): self._placed(key, value, (*trail, self._key(key))) for key, value in node.value
        }

    def _note_duplicates(self, node: Any, trail: Trail) -> None:
        seen: set[str] = set()
        for key, _ in node.value:
            name = self._key(key)
            if name in seen and name != "<<":
                self.duplicates.append(((*trail, name), self._place(key)))
            seen.add(name)

    def _key(self, node: Any) -> str:
        if not isinstance(node, yaml.ScalarNode):
            raise self._refuse(node, "a member's name must be text")
        return str(node.value)

    def _placed(self, marked: Any, node: Any, trail: Trail) -> object:
        self.places[trail] = self._place(marked)
        return self._value(node, trail)

    def _scalar(self, node: Any) -> object:
        if node.tag == _STRING:
            return node.value
        if node.tag != self._loader.resolve(yaml.ScalarNode, node.value, (node.style is None, False)):
            raise self._refuse(node, "tags are not read")
        try:
            return self._loader.construct_object(node)
        except (ValueError, OverflowError):  # a date or number that cannot be: text, then
            return node.value

    def _place(self, node: Any) -> Place:
        mark = node.start_mark
        return Place("file", self._name, mark.line + 1, mark.column + 1)

    def _refuse(self, node: Any, message: str) -> _Unreadable:
        mark = node.start_mark
        return _Unreadable(f"Not valid here: {message}.", mark.line + 1, mark.column + 1)


_READERS: Final = MappingProxyType[str, Callable[[str, str], _Read]](
    {".yaml": _yaml, ".yml": _yaml, ".toml": _toml, ".json": _json}
)
