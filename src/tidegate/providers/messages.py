"""The messages of a chat request as one vendor takes them."""

from collections.abc import Sequence
from typing import Any, Final

from tidegate.providers.vendors import Quirks

_PLAIN: Final = frozenset({"role", "content", "tool_call_id", "tool_calls", "refusal"})
_REPLAYED: Final = frozenset({"reasoning", "reasoning_details", "annotations"})


def unsupported_part(messages: Sequence[dict[str, Any]], quirks: Quirks) -> str | None:
    """The first form of content that cannot be said in this dialect, in words for the caller."""
    for message in messages:
        content = message.get("content")
        if not isinstance(content, list):
            continue
        for part in content:
            kind = part.get("type")
            if kind in quirks.refused_parts:
                return f"content of type {kind}"
            if kind == "file" and quirks.parts == "openai" and _is_by_url(part):
                return "files by URL"
    return None


def _is_by_url(part: dict[str, Any]) -> bool:
    file = _without_nulls(part["file"])
    return "file_url" in file and "file_data" not in file and "file_id" not in file


def _without_nulls(record: dict[str, Any]) -> dict[str, Any]:
    """Where unknown members are passed through, the nulls beside them were not taken out."""
    return {name: value for name, value in record.items() if value is not None}


def translate_messages(
    messages: Sequence[dict[str, Any]], quirks: Quirks, dropped: list[str]
) -> list[dict[str, Any]]:
    return [
        message
        if _says_the_same_everywhere(message, quirks)
        else _message(message, f"messages[{position}]", quirks, dropped)
        for position, message in enumerate(messages)
    ]


def _says_the_same_everywhere(message: dict[str, Any], quirks: Quirks) -> bool:
    return (
        _PLAIN.issuperset(message)
        and None not in message.values()
        and not isinstance(message.get("content"), list)
        and (quirks.keeps_developer or message.get("role") != "developer")
        and ("tool_calls" not in message or all(map(_is_complete, message["tool_calls"])))
    )


def _message(message: dict[str, Any], path: str, quirks: Quirks, dropped: list[str]) -> dict[str, Any]:
    translated: dict[str, Any] = {}
    for name, value in message.items():
        match name:
            case _ if value is None:
                pass
            case "role" if value == "developer" and not quirks.keeps_developer:
                translated["role"] = "system"
            case "content" if isinstance(value, list):
                translated["content"] = [
                    _part(part, f"{path}.content[{i}]", quirks, dropped) for i, part in enumerate(value)
                ]
            case "tool_calls":
                translated["tool_calls"] = [_tool_call(call) for call in value]
            case "name" if message.get("role") in quirks.nameless_roles:
                dropped.append(f"{path}.name")
            case "audio":
                translated |= _spoken(value, path, dropped)
            case _ if name not in _REPLAYED:
                translated[name] = value
            case _ if name in quirks.replays:
                translated[quirks.replays[name]] = value
            case _ if value:
                dropped.append(f"{path}.{name}")
    return translated


def _spoken(audio: dict[str, Any], path: str, dropped: list[str]) -> dict[str, Any]:
    """An earlier spoken answer is referred to by its id."""
    given = _without_nulls(audio)
    if "id" not in given:
        dropped.append(f"{path}.audio")
        return {}
    dropped.extend(f"{path}.audio.{name}" for name in given if name != "id")
    return {"audio": {"id": given["id"]}}


def _is_complete(call: dict[str, Any]) -> bool:
    return call.get("type") is not None and "index" not in call


def _tool_call(call: dict[str, Any]) -> dict[str, Any]:
    """With its type, and without an index, which the position in the list says as well.

    OpenAI refuses one: "Unknown parameter: 'messages[1].tool_calls[0].index'".
    """
    given = _without_nulls(call)
    given.pop("index", None)
    return {"type": "custom" if "custom" in given else "function", **given}


def _part(part: dict[str, Any], path: str, quirks: Quirks, dropped: list[str]) -> dict[str, Any]:
    if "cache_control" in part and not quirks.keeps_cache_control:
        dropped.append(f"{path}.cache_control")
        part = {name: value for name, value in part.items() if name != "cache_control"}
    if part.get("type") == "file":
        return _file(part, path, quirks, dropped)
    if part.get("type") == "input_audio" and quirks.parts == "mistral":
        return _sound_at_mistral(part, path, dropped)
    return part


def _file(part: dict[str, Any], path: str, quirks: Quirks, dropped: list[str]) -> dict[str, Any]:
    file = _without_nulls(part["file"])
    file_type = file.pop("file_type", None)
    data = file.get("file_data")
    if file_type is not None and data is not None and not data.startswith("data:"):
        file["file_data"] = f"data:{file_type};base64,{data}"
    elif file_type is not None:
        dropped.append(f"{path}.file.file_type")
    if quirks.parts == "mistral":
        return _document_at_mistral(part, file)
    url = file.pop("file_url", None)
    if quirks.parts == "openrouter" and url is not None and data is None:
        # It takes a URL where OpenAI takes data: openrouter.ai/docs/features/multimodal/pdfs
        file["file_data"] = url
    elif url is not None:
        dropped.append(f"{path}.file.file_url")
    return {**part, "file": file}


def _document_at_mistral(part: dict[str, Any], file: dict[str, Any]) -> dict[str, Any]:
    rest = {name: value for name, value in part.items() if name not in {"type", "file"}}
    if "file_id" in file:
        return {"type": "file", "file_id": file["file_id"], **rest}
    named = {"document_name": file["filename"]} if "filename" in file else {}
    return {
        "type": "document_url",
        "document_url": file.get("file_data") or file.get("file_url"),
        **named,
        **rest,
    }


def _sound_at_mistral(part: dict[str, Any], path: str, dropped: list[str]) -> dict[str, Any]:
    sound = part["input_audio"]
    if sound.get("format") is not None:
        dropped.append(f"{path}.input_audio.format")
    return {**part, "input_audio": sound["data"]}
