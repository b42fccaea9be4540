"""Bodies from the outside: bytes to JSON, JSON to typed values, mistakes to errors that name the member."""

import re
from typing import Any, Final, TypeVar

import msgspec

from tidegate.api.json_shape import check_shape
from tidegate.domain.chat import ChatRequest
from tidegate.domain.errors import ErrorCode, InvalidRequest
from tidegate.services.long_work import LARGE, in_turns

T = TypeVar("T")

_decode: Final = msgspec.json.Decoder()
_POSITION: Final = re.compile(r"\(byte (\d+)\)")
_PLACE: Final = r"(?: - at `\$\.?([^`]*)`)?"
_WRONG_TYPE: Final = re.compile(rf"Expected `([^`]*)`, got `([^`]*)`{_PLACE}")
_UNKNOWN: Final = re.compile(rf"Object contains unknown field `(.*?)`{_PLACE}", re.DOTALL)
_MISSING: Final = re.compile(rf"Object missing required field `(.*?)`{_PLACE}")
_INVALID: Final = re.compile(rf"(.*?){_PLACE}", re.DOTALL)
_JSON_NAMES: Final = {
    "str": "string", "int": "integer", "float": "number", "bool": "boolean", "datetime": "string",
}  # fmt: skip
_INTEGERS: Final = frozenset(
    name
    for shape in msgspec.json.schema(ChatRequest)["$defs"].values()
    for name, member in shape["properties"].items()
    if member.get("type") == "integer"
)


async def read_json(body: bytes) -> Any:
    """As ``decode_json``; a large body on a thread, so that others get their turn between the steps."""
    return decode_json(body) if len(body) <= LARGE else await in_turns(len(body), decode_json, body)


def decode_json(body: bytes) -> Any:
    """Strict JSON of bearable shape. Raises ``InvalidRequest`` naming the byte where it breaks."""
    check_shape(body)
    try:
        return _decode.decode(body)
    except UnicodeDecodeError as exc:
        raise _unreadable(f"malformed JSON at byte {_first_that_is_not_utf8(body)}: not UTF-8") from exc
    except msgspec.ValidationError as exc:
        raise _unreadable("malformed JSON: a number is out of range") from exc
    except msgspec.DecodeError as exc:
        found = _POSITION.search(str(exc))
        raise _unreadable(f"malformed JSON at byte {found[1] if found else len(body)}") from exc


def _first_that_is_not_utf8(body: bytes) -> int:
    """Within the whole body: the decoder counts from the string at fault."""
    try:
        body.decode()
    except UnicodeDecodeError as exc:
        return exc.start
    return len(body)


def to_chat_request(value: Any) -> ChatRequest:
    """Types of all known members; values are checked later. Raises ``InvalidRequest``."""
    return convert(value, ChatRequest)


def convert(value: Any, wanted: type[T]) -> T:
    """``value`` as ``wanted``. Raises ``InvalidRequest`` with the path of the first wrong member."""
    try:
        return msgspec.convert(value, wanted)
    except msgspec.ValidationError as exc:
        raise _explain(str(exc)) from exc


def _explain(problem: str) -> InvalidRequest:
    if found := _WRONG_TYPE.fullmatch(problem):
        expected, got, path = found.groups()
        return _wrong_type(expected, got, _shown(path))
    if found := _UNKNOWN.fullmatch(problem):
        path = _below(found[2], found[1])
        return InvalidRequest(ErrorCode.UNKNOWN_FIELD, f"unknown field '{path}'", param=path)
    if found := _MISSING.fullmatch(problem):
        path = _below(found[2], found[1])
        return InvalidRequest(ErrorCode.MISSING_REQUIRED_PARAMETER, f"'{path}' is required", param=path)
    found = _INVALID.fullmatch(problem)
    words, path = found.groups() if found else (problem, "")
    return InvalidRequest(ErrorCode.INVALID_VALUE, f"'{_shown(path)}': {words}", param=_shown(path))


def _wrong_type(expected: str, got: str, path: str) -> InvalidRequest:
    names = _names(expected)
    if names == "number" and path.rpartition(".")[2] in _INTEGERS:
        names = "integer"
    where = f"'{path}'" if path else "the request body"
    return InvalidRequest(
        ErrorCode.INVALID_TYPE,
        f"invalid type for {where}: expected {names}, got {_got(got)}",
        param=path or None,
    )


def _shown(path: str | None) -> str:
    """msgspec does not name the member of a map."""
    return (path or "").replace("[...]", ".*")


def _below(path: str | None, name: str) -> str:
    return f"{_shown(path)}.{name}" if path else name


def _names(expected: str) -> str:
    """msgspec's words in JSON's; ``null`` is no choice, it counts as absent."""
    names = [_JSON_NAMES.get(name, name) for name in expected.split(" | ") if name != "null"]
    if "number" in names:
        names = [name for name in names if name != "integer"]
    return " or ".join(dict.fromkeys(names))


def _got(found: str) -> str:
    return "number" if found in {"int", "float"} else _JSON_NAMES.get(found, found)


def _unreadable(problem: str) -> InvalidRequest:
    return InvalidRequest(ErrorCode.INVALID_JSON, f"invalid request format: {problem}")
