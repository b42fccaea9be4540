"""A chat request as the members of one vendor's JSON body."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec
from msgspec import Struct

from tidegate.domain.inference import InferenceRequest
from tidegate.providers.messages import translate_messages
from tidegate.providers.passthrough import merge_extra
from tidegate.providers.vendors import Quirks


class Translation(Struct, frozen=True):
    """The members in the caller's order, and the paths of those that go nowhere."""

    members: dict[str, Any]
    dropped: tuple[str, ...]


def translate(request: InferenceRequest, quirks: Quirks) -> Translation:
    members: dict[str, Any] = {}
    dropped: list[str] = []
    for name, value in request.fields.items():
        if name in quirks.drops:
            dropped.append(name)
        elif (translated := _TRANSLATED.get(name)) is not None:
            members.update(translated(value, quirks, dropped))
        else:
            members[quirks.renames.get(name, name)] = value
    if request.extra:
        dropped.extend(merge_extra(members, request.extra))
    return Translation(members, tuple(dropped))


def _messages(messages: list[dict[str, Any]], quirks: Quirks, dropped: list[str]) -> dict[str, Any]:
    return {"messages": translate_messages(messages, quirks, dropped)}


def _tools(tools: list[dict[str, Any]], quirks: Quirks, dropped: list[str]) -> dict[str, Any]:
    return {"tools": [_tool(tool, f"tools[{i}]", quirks, dropped) for i, tool in enumerate(tools)]}


def _tool(tool: dict[str, Any], path: str, quirks: Quirks, dropped: list[str]) -> dict[str, Any]:
    if "cache_control" in tool and not quirks.keeps_cache_control:
        dropped.append(f"{path}.cache_control")
        tool = {name: value for name, value in tool.items() if name != "cache_control"}
    function = tool.get("function")
    if not isinstance(function, dict):
        return tool
    if "strict" in function and not quirks.keeps_strict:
        dropped.append(f"{path}.function.strict")
        function = {name: value for name, value in function.items() if name != "strict"}
    if isinstance(function.get("parameters"), str):
        function = {**function, "parameters": _schema(function["parameters"])}
    return tool if function is tool["function"] else {**tool, "function": function}


def _schema(text: str) -> Any:
    """A schema given as JSON text; text that is none goes on as it is, for the vendor to refuse by name."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return text


def _tool_choice(choice: str | dict[str, Any], quirks: Quirks, dropped: list[str]) -> dict[str, Any]:
    word = choice if isinstance(choice, str) else choice.get("type")
    if word not in {"none", "auto", "any", "required"}:
        return {"tool_choice": choice}
    if word in {"any", "required"} and not quirks.can_require_tools:
        dropped.append("tool_choice")
        return {}
    return {"tool_choice": quirks.any_tool if word == "any" else word}


def _retention(retention: str, _quirks: Quirks, _dropped: list[str]) -> dict[str, Any]:
    # Bifrost's page writes "in-memory", OpenAI's schema "in_memory".
    return {"prompt_cache_retention": retention.replace("-", "_")}


def _reasoning(reasoning: dict[str, Any], quirks: Quirks, dropped: list[str]) -> dict[str, Any]:
    given = {name: value for name, value in reasoning.items() if value is not None}
    match quirks.reasoning:
        case "object":
            # What it does not know of ours is left out; what we do not know of its own passes.
            taken = given.keys() - {"display"}
            members = {"reasoning": {name: value for name, value in given.items() if name in taken}}
        case "thinking":
            taken, members = _thinking(given)
        case "effort":
            taken, members = _effort(given)
    dropped.extend(f"reasoning.{name}" for name in given if name not in taken)
    return members


def _effort(reasoning: dict[str, Any]) -> tuple[set[str], dict[str, Any]]:
    """Which members of ``reasoning`` it says, and how. That thinking is wanted is said by an effort only."""
    effort = reasoning.get("effort")
    if reasoning.get("enabled") is False:
        said = {"enabled", "effort"} if effort == "none" else {"enabled"}
        return said, {"reasoning_effort": "none"}
    if effort is None:
        return set(), {}
    return {"enabled", "effort"}, {"reasoning_effort": effort}


def _thinking(reasoning: dict[str, Any]) -> tuple[set[str], dict[str, Any]]:
    effort = reasoning.get("effort")
    if effort == "none" or reasoning.get("enabled") is False:
        said = {"enabled", "effort"} if effort == "none" else {"enabled"}
        return said, {"thinking": {"type": "disabled"}}
    members: dict[str, Any] = {"thinking": {"type": "enabled"}} if "enabled" in reasoning else {}
    if effort is not None:
        members["reasoning_effort"] = effort
    return {"enabled", "effort"}, members


_TRANSLATED: Final[Mapping[str, Callable[[Any, Quirks, list[str]], dict[str, Any]]]] = {
    "messages": _messages,
    "tools": _tools,
    "tool_choice": _tool_choice,
    "reasoning": _reasoning,
    "prompt_cache_retention": _retention,
}
