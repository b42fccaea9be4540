"""What a vendor says when it refuses, in any of the shapes that OpenAI's dialect has grown."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct


class Refusal(Struct, frozen=True):
    """An error body, read."""

    message: str = ""
    type: str | None = None
    code: str | None = None
    param: str | None = None
    words: tuple[str, ...] = ()
    """Every identifier in it, most specific first, in lower case."""
    retry_delay: str | None = None
    """Google's ``RetryInfo.retryDelay``."""


def read_refusal(body: bytes) -> Refusal:
    """Any body at all; one that is empty, HTML or not text says nothing."""
    try:
        return refusal_in(msgspec.json.decode(body))
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return _plain_text(body)


def _plain_text(body: bytes) -> Refusal:
    try:
        text = body.decode().strip()
    except UnicodeError:
        return Refusal()
    return Refusal() if text.startswith(("<", "{", "[")) else Refusal(message=text)


def refusal_in(decoded: Any) -> Refusal:
    match decoded:
        case [first, *_]:  # Google wraps its errors in a list
            return refusal_in(first)
        case {"error": dict(error)} | {"error": [dict(error), *_]} | {"detail": dict(error)}:
            return _record(error)
        case {"error": str(text), "message": str(message)}:
            return _record({**decoded, "type": decoded.get("type") or text, "message": message})
        case {"error": str(text)}:  # xAI, Hugging Face, Ollama's own API
            return _record({**decoded, "message": text})
        case {"detail": [*problems]}:  # Mistral and every other FastAPI
            return Refusal(message="; ".join(filter(None, map(_problem, problems[:5]))))
        case {"detail": str(text)}:
            return _record({**decoded, "message": text})
        case dict():
            return _record(decoded)
        case str():
            return Refusal(message=decoded)
        case _:
            return Refusal()


def _problem(problem: object) -> str:
    match problem:
        case {"loc": [*place], "msg": str(text)}:
            return f"{'.'.join(str(step) for step in place)}: {text}"
        case {"msg": str(text)} | str(text):
            return text
        case _:
            return ""


def _record(error: Mapping[str, Any]) -> Refusal:
    details = [detail for detail in _list(error.get("details")) if isinstance(detail, dict)]
    metadata = _mapping(error.get("metadata"))
    inner = _mapping(error.get("innererror"))
    kind = (
        _identifier(error.get("type"))
        or _identifier(error.get("error_type"))
        or _identifier(error.get("status"))
    )
    code = _identifier(error.get("code"))
    identifiers = [
        code,
        _identifier(inner.get("code")),
        *(_identifier(detail.get("reason")) for detail in details),
        # OpenRouter tells by this member alone that moderation refused, with a plain 403.
        "content_policy_violation" if "flagged_input" in metadata else None,
        kind,
    ]
    return Refusal(
        message=": ".join(
            text for text in (_string(error.get("message")), _string(metadata.get("raw"))) if text
        ),
        type=kind,
        code=code,
        param=_string(error.get("param")) or None,
        words=tuple(word.lower() for word in identifiers if word),
        retry_delay=next((d["retryDelay"] for d in details if isinstance(d.get("retryDelay"), str)), None),
    )


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> Sequence[object]:
    return value if isinstance(value, list) else ()


def _string(value: object) -> str:
    return value if isinstance(value, str) else ""


def _identifier(value: object) -> str | None:
    """A code is sometimes a number."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return _string(value) or None
