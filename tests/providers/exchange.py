"""What every test of this dialect needs: a request, where it goes, and what came of it."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

from tidegate.domain.failures import Failure
from tidegate.domain.inference import (
    Completion,
    HttpCall,
    HttpReply,
    InferenceRequest,
    ProviderKey,
    RequestType,
    Target,
)
from tidegate.domain.secret import Secret
from tidegate.providers import VENDORS, provider_for

KEY = ProviderKey("1", "main", Secret("sk-upstream"))
HELLO: dict[str, Any] = {"messages": [{"role": "user", "content": "hello"}]}
SCHEMA = {"type": "object", "properties": {"z": {"type": "string"}, "a": {"type": "integer"}}}
TOOL: dict[str, Any] = {
    "type": "function",
    "function": {"name": "look", "description": "Looks.", "parameters": SCHEMA},
}
EVERYTHING: dict[str, Any] = {
    "messages": [
        {"role": "developer", "content": "be brief", "name": "boss"},
        {"role": "user", "content": "hello", "name": "ada"},
        {
            "role": "assistant",
            "content": "well",
            "reasoning": "hm",
            "reasoning_details": [{"type": "reasoning.text", "text": "hm", "signature": "c2ln"}],
            "annotations": [{"type": "url_citation", "url_citation": {"start_index": 0, "end_index": 1}}],
            "tool_calls": [{"index": 0, "id": "call_1", "function": {"name": "look", "arguments": "{}"}}],
        },
        {"role": "tool", "content": "seen", "tool_call_id": "call_1"},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "and this?", "cache_control": {"type": "ephemeral"}},
                {"type": "image_url", "image_url": {"url": "https://example.com/a.png", "detail": "low"}},
            ],
        },
    ],
    "audio": {"format": "mp3", "voice": "alloy"},
    "frequency_penalty": 0.5,
    "logit_bias": {"50256": -100},
    "logprobs": True,
    "max_completion_tokens": 100,
    "metadata": {"team": "blue"},
    "modalities": ["text"],
    "n": 2,
    "parallel_tool_calls": False,
    "prediction": {"type": "content", "content": "hello"},
    "presence_penalty": 0.5,
    "prompt_cache_key": "cache",
    "prompt_cache_retention": "in-memory",
    "reasoning": {"enabled": True, "effort": "low", "max_tokens": 10, "display": "summarized"},
    "response_format": {"type": "json_object"},
    "safety_identifier": "safe",
    "seed": 7,
    "service_tier": "auto",
    "stop": ["END"],
    "store": False,
    "temperature": 0.5,
    "tool_choice": "any",
    "tools": [{**TOOL, "cache_control": {"type": "ephemeral"}}],
    "top_logprobs": 2,
    "top_p": 0.9,
    "truncation": "auto",
    "user": "u1",
    "verbosity": "low",
    "web_search_options": {"search_context_size": "low"},
}


def request_of(fields: dict[str, Any], extra: dict[str, Any] | None = None) -> InferenceRequest:
    return InferenceRequest(RequestType.CHAT_COMPLETION, fields, extra or {}, ())


def target_of(vendor: str, key: ProviderKey = KEY) -> Target:
    return Target(vendor, "some-model", VENDORS[vendor].origin or "https://example.com/base", key)


def call_of(vendor: str, fields: dict[str, Any], extra: dict[str, Any] | None = None) -> HttpCall:
    call = provider_for(VENDORS[vendor]).build(request_of(fields, extra), target_of(vendor))
    assert isinstance(call, HttpCall)
    return call


def body_of(vendor: str, fields: dict[str, Any], extra: dict[str, Any] | None = None) -> dict[str, Any]:
    body = json.loads(call_of(vendor, HELLO | fields, extra).body)
    assert isinstance(body, dict)
    return body


def dropped_of(vendor: str, fields: dict[str, Any], extra: dict[str, Any] | None = None) -> set[str]:
    """The paths that the result will list, which is where a caller learns of them."""
    dropped = call_of(vendor, HELLO | fields, extra).dropped
    assert len(set(dropped)) == len(dropped)
    return set(dropped)


def content(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": list(parts)}]}


def conversation(**members: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", **members}]}


def refusal_of(vendor: str, *parts: dict[str, Any]) -> Failure:
    """Why a content is not even sent."""
    failure = provider_for(VENDORS[vendor]).build(request_of(content(*parts)), target_of(vendor))
    assert isinstance(failure, Failure)
    return failure


def reply_of(body: object, status: int = 200, headers: Mapping[str, str] = MappingProxyType({})) -> HttpReply:
    """Received at noon of the first of November 2026."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return HttpReply(status, headers, raw, datetime(2026, 11, 1, 12, tzinfo=UTC))


def explain(
    status: int,
    body: object = b"",
    headers: Mapping[str, str] = MappingProxyType({}),
    vendor: str = "openai",
) -> Failure:
    return provider_for(VENDORS[vendor]).explain(reply_of(body, status, headers))


def parse(body: object, *, vendor: str = "openai", **reply: Any) -> Completion | Failure:
    return provider_for(VENDORS[vendor]).parse(request_of(HELLO), reply_of(body, **reply))


ANSWER: dict[str, Any] = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1749514895,
    "model": "gpt-4o-2024-08-06",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "hello", "refusal": None},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ],
    "usage": {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11},
    "service_tier": "default",
}


def with_choice(**members: Any) -> dict[str, Any]:
    return ANSWER | {"choices": [ANSWER["choices"][0] | members]}


def with_message(**members: Any) -> dict[str, Any]:
    return with_choice(message={"role": "assistant", **members})
