"""Pieces of chat requests, and the words the contract allows in them."""

from typing import Any

INT64 = 2**63
ROLES = "assistant, user, system, tool, developer"
PARTS = "text, refusal, image_url, input_audio, file"
CHOICES = "none, auto, any, required, function, custom, allowed_tools"


# Each at an end of its range, where it has one.
EVERY_FIELD: dict[str, Any] = {
    "fallbacks": ["openai/other", "other/llama"],
    "stream": False,
    "frequency_penalty": -2,
    "presence_penalty": 2,
    "temperature": 0,
    "top_p": 1,
    "top_logprobs": 20,
    "max_completion_tokens": 1,
    "seed": -INT64,
    "logprobs": True,
    "parallel_tool_calls": False,
    "store": True,
    "logit_bias": {"50256": -100, "1": 0.5},
    "metadata": {"team": "search", "deep": {"any": [1, None, True]}},
    "modalities": ["text", "audio"],
    "prompt_cache_key": "k",
    "safety_identifier": "s",
    "service_tier": "flex",
    "user": "u",
    "prompt_cache_retention": "24h",
    "verbosity": "low",
    "reasoning": {"enabled": True, "effort": "anything", "max_tokens": 1, "display": "x"},
    "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}},
    "stop": ["a", "b", "c", "d"],
    "stream_options": {"include_usage": True, "include_obfuscation": False},
    "tool_choice": "auto",
    "tools": [
        {
            "type": "function",
            "function": {"name": "f", "description": "d", "parameters": {"type": "object"}, "strict": True},
            "cache_control": {"type": "ephemeral", "ttl": "1h"},
        },
        {"type": "custom", "custom": {"name": "c", "description": "d", "format": {"type": "text"}}},
    ],
    "prediction": {"type": "content", "content": [{"type": "text", "text": "x"}]},
    "web_search_options": {
        "search_context_size": "low",
        "user_location": {"type": "approximate", "approximate": {"city": "Dover", "timezone": "UTC"}},
    },
    "truncation": "auto",
    "n": 1,
    "audio": {"format": "mp3", "voice": {"id": "v"}},
    "max_tokens": 5,
}


def says(*content: Any) -> dict[str, Any]:
    """One message of content parts."""
    return {"messages": [{"role": "user", "content": list(content)}]}


def tool(**members: Any) -> dict[str, Any]:
    return {"tools": [members]}
