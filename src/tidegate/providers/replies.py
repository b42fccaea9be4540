"""A vendor's chat reply as a chat completion of the contract.

What a vendor reports beyond the contract stays where it put it; only what would mislead a reader of OpenAI's
shape is put right: missing or blank members, finish reasons, content in pieces, token counts.
"""

import hashlib
import uuid
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from tidegate.domain.inference import HttpReply
from tidegate.providers.usage import whole_number

_DECODER: Final = msgspec.json.Decoder()

_FINISH_REASONS: Final[Mapping[str, str]] = {
    "end_turn": "stop",
    "eos": "stop",
    "eos_token": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "model_length": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
    "sensitive": "content_filter",
}
_FAILED: Final = frozenset({"abort", "error", "failed", "insufficient_system_resource", "network_error"})
"""Mistral, OpenRouter: ``error``; vLLM, SGLang: ``abort``; DeepSeek and Z.AI: the last two."""


def decode_object(body: bytes) -> dict[str, Any] | None:
    """The JSON object a body holds, if it is one."""
    try:
        decoded = _DECODER.decode(body)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    return decoded if isinstance(decoded, dict) else None


def embedded_error(body: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The part of a reply with a good status that carries an error; what was generated until then is void."""
    if body.get("error"):
        return body
    choices = body.get("choices")
    for choice in choices if isinstance(choices, list) else ():
        if isinstance(choice, dict) and choice.get("error"):
            return choice
    return None


def as_chat_completion(body: dict[str, Any], reply: HttpReply) -> dict[str, Any] | None:
    """``body`` put right in place; ``None`` when it answers nothing, or says that generation failed.

    ``model`` stays absent when the vendor does not name one: only the caller knows what it asked for.
    """
    choices = body.get("choices")
    if not isinstance(choices, list) or not choices:
        return None
    if not _is_given(body.get("id")):
        body["id"] = f"chatcmpl-{_made_up_id(reply)}"
    body["object"] = "chat.completion"
    body["created"] = _created(body.get("created"), reply)
    for name in ("model", "service_tier", "system_fingerprint"):
        if body.get(name) == "":
            del body[name]
    for position, choice in enumerate(choices):
        if not (isinstance(choice, dict) and _put_right(choice, position, body["id"])):
            return None
    return body


def _is_given(value: object) -> bool:
    return isinstance(value, str) and value != ""


def _made_up_id(reply: HttpReply) -> uuid.UUID:
    """The same for the same reply, so that translating twice gives one answer."""
    digest = hashlib.sha256(reply.received_at.isoformat().encode() + reply.body).digest()
    return uuid.UUID(bytes=digest[:16], version=5)


def _created(created: object, reply: HttpReply) -> int:
    return whole_number(created) or int(reply.received_at.timestamp())


def _put_right(choice: dict[str, Any], position: int, reply_id: str) -> bool:
    message = choice.get("message")
    if not isinstance(message, dict):
        return False
    choice.setdefault("index", position)
    if not _is_given(message.get("role")):
        message["role"] = "assistant"
    _remove_blanks(message, ("audio", "function_call", "refusal"))
    if isinstance(message.get("content"), list):
        _join_content(message)
    if "reasoning_content" in message:
        thought = message.pop("reasoning_content")
        message["reasoning"] = message.get("reasoning") or thought
    calls = message.get("tool_calls")
    if calls and not _put_calls_right(calls, f"{reply_id}-{position}"):
        return False
    reason = choice.get("finish_reason") or ("tool_calls" if calls else "stop")
    choice["finish_reason"] = _FINISH_REASONS.get(reason, reason) if isinstance(reason, str) else "stop"
    return choice["finish_reason"] not in _FAILED


def _remove_blanks(record: dict[str, Any], names: tuple[str, ...]) -> None:
    """Vendors written in Go (Snowflake) send empty records where others send nothing."""
    for name in names:
        value = record.get(name)
        if value == "" or (isinstance(value, dict) and not any(value.values())):
            del record[name]


def _join_content(message: dict[str, Any]) -> None:
    """Mistral answers in pieces when it thinks; what is neither text nor thought stays a list."""
    parts = []
    thoughts = []
    for part in message["content"]:
        if isinstance(part, dict) and part.get("type") == "thinking":
            thoughts.append(_text(part.get("thinking")))
        else:
            parts.append(part)
    if thoughts:
        message["reasoning"] = message.get("reasoning") or "".join(thoughts)
    if all(_is_text(part) for part in parts):
        message["content"] = _text(parts) if parts else None
    else:
        message["content"] = parts


def _is_text(part: object) -> bool:
    return isinstance(part, str) or (isinstance(part, dict) and part.get("type") == "text")


def _text(pieces: object) -> str:
    """What a text, a part or a list of those says; not deeper, however deep a vendor nests."""
    return "".join(_piece(piece) for piece in (pieces if isinstance(pieces, list) else [pieces]))


def _piece(piece: object) -> str:
    match piece:
        case str(text) | {"text": str(text)}:
            return text
        case _:
            return ""


def _put_calls_right(calls: object, prefix: str) -> bool:
    if not isinstance(calls, list) or not all(isinstance(call, dict) for call in calls):
        return False
    for position, call in enumerate(calls):
        _remove_blanks(call, ("custom",))
        call.setdefault("index", position)
        if not _is_given(call.get("id")):
            call["id"] = f"call_{prefix}-{position}"
        function = call.get("function")
        if isinstance(function, dict):
            call.setdefault("type", "function")
            if not isinstance(function.get("arguments"), str):
                function["arguments"] = msgspec.json.encode(function.get("arguments") or {}).decode()
    return True
