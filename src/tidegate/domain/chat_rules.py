"""The rules for a chat completion that the gateway itself enforces (contract §6.1–6.5).

Enforced are the documented ranges and enums and what the gateway depends on; the rest is the vendor's business,
so that its new values need no release of ours.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec import Meta, Struct

from tidegate.domain.chat import (
    MOST_STOPS,
    AllowedTools,
    ChatMessage,
    ChatRequest,
    ContentPart,
    File,
    FunctionTool,
    Grammar,
    ImageUrl,
    Prediction,
    Reasoning,
    ToolCall,
    ToolChoice,
)
from tidegate.domain.errors import ErrorCode, InvalidRequest, too_many

LARGEST_METADATA: Final = 16 * 1024


def check_required(request: ChatRequest) -> None:
    if not request.messages:
        raise _missing("messages is required for chat completion", "messages")


def check_values(request: ChatRequest, *, passes_extra_params: bool) -> None:
    """Ranges, enums and nested schemas, then conflicts, then ``stream``. Raises ``InvalidRequest``."""
    _check_declared(request, "")
    if isinstance(request.stop, list) and len(request.stop) > MOST_STOPS:
        raise too_many("stop", MOST_STOPS, len(request.stop))
    if request.metadata and len(msgspec.json.encode(request.metadata)) > LARGEST_METADATA:
        raise InvalidRequest(
            ErrorCode.TOO_LARGE, f"'metadata' exceeds {LARGEST_METADATA} bytes", param="metadata"
        )
    for index, message in enumerate(request.messages or ()):
        if _is_plain(message):
            continue
        _check_message(message, f"messages[{index}]", allows_unknown=passes_extra_params)
    _check_tools(request, allows_unknown=passes_extra_params)
    _check_prediction(request.prediction, allows_unknown=passes_extra_params)
    _check_conflicts(request)
    if request.stream:
        raise InvalidRequest(
            ErrorCode.STREAM_NOT_SUPPORTED,
            "stream is not supported for async chat completions",
            param="stream",
        )


def _is_plain(message: ChatMessage) -> bool:
    """Most are: there is nothing in them to check but their role."""
    return message.role in _ROLE.enum and message.tool_calls is None and not isinstance(message.content, list)


def _check_message(message: ChatMessage, path: str, *, allows_unknown: bool) -> None:
    if message.role is None:
        raise _required(f"{path}.role")
    _check_declared(message, f"{path}.")
    _check_parts(message.content, f"{path}.content", _PART_TYPES, allows_unknown=allows_unknown)
    for index, call in enumerate(message.tool_calls or ()):
        _check_declared(call, f"{path}.tool_calls[{index}].")


def _check_parts(
    content: str | list[ContentPart] | None, path: str, allowed: Sequence[str], *, allows_unknown: bool
) -> None:
    if not isinstance(content, list):
        return
    for index, part in enumerate(content):
        where = f"{path}[{index}]"
        if part.type is None:
            raise _required(f"{where}.type")
        if part.type not in allowed:
            if allows_unknown:
                continue
            # Dropping content would change the question.
            raise _not_one_of(f"{where}.type", allowed, part.type)
        _check_part(part, where)


def _check_part(part: ContentPart, path: str) -> None:
    match part.type:
        case "text" if part.text is None:
            raise _required(f"{path}.text")
        case "refusal" if part.refusal is None:
            raise _required(f"{path}.refusal")
        case "image_url":
            if part.image_url is None or part.image_url.url is None:
                raise _required(f"{path}.image_url.url")
            _check_declared(part.image_url, f"{path}.image_url.")
        case "input_audio" if part.input_audio is None or part.input_audio.data is None:
            raise _required(f"{path}.input_audio.data")
        case "file":
            file = part.file or File()
            if file.file_data is None and file.file_id is None and file.file_url is None:
                raise _missing(
                    f"one of file_data, file_id and file_url is required in '{path}.file'", f"{path}.file"
                )
        case _:
            pass


def _check_tools(request: ChatRequest, *, allows_unknown: bool) -> None:
    for index, tool in enumerate(request.tools or ()):
        path = f"tools[{index}]"
        if tool.type is None:
            raise _required(f"{path}.type")
        if tool.type not in _TOOL_TYPES:
            if allows_unknown:
                continue
            raise _not_one_of(f"{path}.type", _TOOL_TYPES, tool.type)
        if tool.type == "function" and (tool.function is None or tool.function.name is None):
            raise _required(f"{path}.function.name")
        _check_parameters(tool.function, path)
        grammar = tool.custom.format.grammar if tool.custom and tool.custom.format else None
        if grammar is not None:
            _check_declared(grammar, f"{path}.custom.format.grammar.")
    _check_tool_choice(request.tool_choice)


def _check_parameters(function: FunctionTool | None, path: str) -> None:
    """A schema given as a string must hold an object: it is sent as one."""
    if function is None or not isinstance(function.parameters, str):
        return
    try:
        msgspec.json.decode(function.parameters, type=dict[str, Any])
    except (msgspec.MsgspecError, RecursionError) as exc:
        where = f"{path}.function.parameters"
        raise InvalidRequest(
            ErrorCode.INVALID_VALUE, f"'{where}' must hold a JSON Schema object", param=where
        ) from exc


def _check_tool_choice(choice: str | ToolChoice | None) -> None:
    if isinstance(choice, str):
        if choice not in _TOOL_CHOICES:
            raise _not_one_of("tool_choice", _TOOL_CHOICES, choice)
        return
    if choice is None:
        return
    if choice.type is None:
        raise _required("tool_choice.type")
    _check_declared(choice, "tool_choice.")
    match choice.type:
        case "function" if choice.function is None or choice.function.name is None:
            raise _required("tool_choice.function.name")
        case "custom" if choice.custom is None or choice.custom.name is None:
            raise _required("tool_choice.custom.name")
        case "allowed_tools":
            allowed = choice.allowed_tools or AllowedTools()
            if allowed.mode is None:
                raise _required("tool_choice.allowed_tools.mode")
            if allowed.tools is None:
                raise _required("tool_choice.allowed_tools.tools")
            _check_declared(allowed, "tool_choice.allowed_tools.")
        case _:
            pass


def _check_prediction(prediction: Prediction | None, *, allows_unknown: bool) -> None:
    if prediction is None:
        return
    if prediction.type is None:
        raise _required("prediction.type")
    if prediction.content is None:
        raise _required("prediction.content")
    _check_declared(prediction, "prediction.")
    _check_parts(prediction.content, "prediction.content", ("text",), allows_unknown=allows_unknown)


def _check_conflicts(request: ChatRequest) -> None:
    if request.reasoning is None:
        return
    _check_declared(request.reasoning, "reasoning.")
    for alias, member in (("reasoning_effort", "effort"), ("reasoning_max_tokens", "max_tokens")):
        if getattr(request, alias) is not None and getattr(request.reasoning, member) is not None:
            raise InvalidRequest(
                ErrorCode.CONFLICTING_PARAMETERS,
                f"both {alias} and reasoning.{member} are present",
                param=alias,
            )


class _Rule(Struct, frozen=True):
    """What one member's declaration demands of its value."""

    name: str
    is_integer: bool
    low: float | None
    high: float | None
    enum: tuple[str, ...]


def _rules_of(struct: type[Struct]) -> tuple[_Rule, ...]:
    rules = []
    for field in msgspec.structs.fields(struct):
        schema = _declared_schema(field.type)
        is_integer = schema.get("type") == "integer"
        if is_integer or schema.keys() & {"minimum", "maximum", "enum"}:
            rules.append(
                _Rule(
                    field.encode_name,
                    is_integer,
                    schema.get("minimum"),
                    schema.get("maximum"),
                    tuple(schema.get("enum", ())),
                )
            )
    return tuple(rules)


def _declared_schema(declared: Any) -> dict[str, Any]:
    metas = [meta for meta in getattr(declared, "__metadata__", ()) if isinstance(meta, Meta)]
    return next((meta.extra_json_schema for meta in metas if meta.extra_json_schema), {})


# Members whose words may be the vendor's own are checked where passthrough is known, not here.
_CHECKED: Final = (
    ChatRequest, ChatMessage, ImageUrl, Grammar, AllowedTools, ToolChoice, Prediction, Reasoning, ToolCall,
)  # fmt: skip
_RULES: Final[Mapping[type[Struct], tuple[_Rule, ...]]] = {struct: _rules_of(struct) for struct in _CHECKED}
(_ROLE,) = _RULES[ChatMessage]
_PART_TYPES: Final = ("text", "refusal", "image_url", "input_audio", "file")
_TOOL_TYPES: Final = ("function", "custom")
_TOOL_CHOICES: Final = ("none", "auto", "required", "any")


def _check_declared(value: Struct, prefix: str) -> None:
    for rule in _RULES[type(value)]:
        found = getattr(value, rule.name)
        if found is not None:
            _check_rule(rule, found, f"{prefix}{rule.name}")


def _check_rule(rule: _Rule, value: Any, path: str) -> None:
    if rule.enum:
        if value not in rule.enum:
            raise _not_one_of(path, rule.enum, value)
        return
    if rule.is_integer and isinstance(value, float) and not value.is_integer():
        raise InvalidRequest(
            ErrorCode.INVALID_TYPE, f"invalid type for '{path}': expected integer, got number", param=path
        )
    low, high = rule.low, rule.high
    if (low is None or value >= low) and (high is None or value <= high):
        return
    bounds = f"at least {low}" if high is None else f"between {low} and {high}"
    raise InvalidRequest(
        ErrorCode.OUT_OF_RANGE, f"'{path}' must be {bounds}, got {_shown(value)}", param=path
    )


def _not_one_of(path: str, allowed: Sequence[str], value: str) -> InvalidRequest:
    return InvalidRequest(
        ErrorCode.INVALID_VALUE,
        f"'{path}' must be one of {', '.join(allowed)}, got {_shown(value)}",
        param=path,
    )


def _required(path: str) -> InvalidRequest:
    return _missing(f"'{path}' is required", path)


def _missing(message: str, path: str) -> InvalidRequest:
    return InvalidRequest(ErrorCode.MISSING_REQUIRED_PARAMETER, message, param=path)


def _shown(value: Any) -> str:
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= 100 else f"{text[:100]}…"
