"""Ranges, words, nested schemas, limits and conflicts of a chat completion (contract §6.1–6.5)."""

from typing import Any

import pytest

from api.chats import CHOICES, INT64, PARTS, ROLES, says, tool
from api.refusals import assert_refused
from support.gateway import RunningGateway, chat

pytestmark = pytest.mark.anyio

# What is sent, the code, the member at fault, and the message.
REFUSED: list[tuple[dict[str, Any], str, str, str]] = [
    # 6.2 ranges
    *[
        ({name: value}, "out_of_range", name, f"'{name}' must be between {low} and {high}, got {value}")
        for name, low, high, values in (
            ("frequency_penalty", -2, 2, (-2.1, 2.1, 100)),
            ("presence_penalty", -2, 2, (-3, 2.0000001)),
            ("temperature", 0, 2, (-0.1, 3, 2.1)),
            ("top_p", 0, 1, (-1, 1.1)),
            ("top_logprobs", 0, 20, (-1, 21)),
            ("seed", -INT64, INT64 - 1, (INT64, -INT64 - 1, 10**30)),
        )
        for value in values
    ],
    *[
        ({name: value}, "out_of_range", name, f"'{name}' must be at least 1, got {value}")
        for name in ("max_completion_tokens", "max_tokens", "n", "reasoning_max_tokens")
        for value in (0, -5)
    ],
    (
        {"reasoning": {"max_tokens": 0}},
        "out_of_range",
        "reasoning.max_tokens",
        "'reasoning.max_tokens' must be at least 1, got 0",
    ),
    # 6.2 words
    (
        {"verbosity": "max"},
        "invalid_value",
        "verbosity",
        "'verbosity' must be one of low, medium, high, got \"max\"",
    ),
    (
        {"prompt_cache_retention": "1h"},
        "invalid_value",
        "prompt_cache_retention",
        "'prompt_cache_retention' must be one of in-memory, 24h, got \"1h\"",
    ),
    (
        {"prediction": {"type": "guess", "content": "x"}},
        "invalid_value",
        "prediction.type",
        "'prediction.type' must be one of content, got \"guess\"",
    ),
    # 6.2 required members and limits
    ({"model": None}, "missing_required_parameter", "model", "model is required"),
    ({"model": ""}, "missing_required_parameter", "model", "model is required"),
    ({"model": "openai/"}, "missing_required_parameter", "model", "model is required"),
    ({"model": "openai/" + "m" * 250}, "too_large", "model", "'model' exceeds 256 characters"),
    (
        {"messages": None},
        "missing_required_parameter",
        "messages",
        "messages is required for chat completion",
    ),
    ({"messages": []}, "missing_required_parameter", "messages", "messages is required for chat completion"),
    ({"stop": list("abcde")}, "too_many_items", "stop", "'stop' takes at most 4 entries, got 5"),
    (
        {"fallbacks": ["openai/echo"] * 11},
        "too_many_items",
        "fallbacks",
        "'fallbacks' takes at most 10 entries, got 11",
    ),
    ({"metadata": {"a": "x" * 16384}}, "too_large", "metadata", "'metadata' exceeds 16384 bytes"),
    (
        {"reasoning": {"effort": "low"}, "reasoning_effort": "high"},
        "conflicting_parameters",
        "reasoning_effort",
        "both reasoning_effort and reasoning.effort are present",
    ),
    (
        {"reasoning": {"max_tokens": 5}, "reasoning_max_tokens": 5},
        "conflicting_parameters",
        "reasoning_max_tokens",
        "both reasoning_max_tokens and reasoning.max_tokens are present",
    ),
    (
        {"stream": True},
        "stream_not_supported",
        "stream",
        "stream is not supported for async chat completions",
    ),
    (
        {"prediction": {"content": "x"}},
        "missing_required_parameter",
        "prediction.type",
        "'prediction.type' is required",
    ),
    (
        {"prediction": {"type": "content"}},
        "missing_required_parameter",
        "prediction.content",
        "'prediction.content' is required",
    ),
    (
        {"prediction": {"type": "content", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}},
        "invalid_value",
        "prediction.content[0].type",
        "'prediction.content[0].type' must be one of text, got \"image_url\"",
    ),
    # 6.3 messages
    (
        {"messages": [{"content": "x"}]},
        "missing_required_parameter",
        "messages[0].role",
        "'messages[0].role' is required",
    ),
    (
        {"messages": [{"role": "user"}, {"role": "robot"}]},
        "invalid_value",
        "messages[1].role",
        f"'messages[1].role' must be one of {ROLES}, got \"robot\"",
    ),
    # 6.4 content parts
    (
        says({"text": "x"}),
        "missing_required_parameter",
        "messages[0].content[0].type",
        "'messages[0].content[0].type' is required",
    ),
    (
        says({"type": "text", "text": "x"}, {"type": "video"}),
        "invalid_value",
        "messages[0].content[1].type",
        f"'messages[0].content[1].type' must be one of {PARTS}, got \"video\"",
    ),
    *[
        (
            says(part),
            "missing_required_parameter",
            f"messages[0].content[0].{path}",
            f"'messages[0].content[0].{path}' is required",
        )
        for part, path in (
            ({"type": "text"}, "text"),
            ({"type": "text", "text": None}, "text"),
            ({"type": "refusal"}, "refusal"),
            ({"type": "image_url"}, "image_url.url"),
            ({"type": "image_url", "image_url": {"detail": "low"}}, "image_url.url"),
            ({"type": "input_audio"}, "input_audio.data"),
            ({"type": "input_audio", "input_audio": {"format": "wav"}}, "input_audio.data"),
        )
    ],
    *[
        (
            says(part),
            "missing_required_parameter",
            "messages[0].content[0].file",
            "one of file_data, file_id and file_url is required in 'messages[0].content[0].file'",
        )
        for part in ({"type": "file"}, {"type": "file", "file": {"filename": "a.pdf"}})
    ],
    (
        says({"type": "image_url", "image_url": {"url": "https://x", "detail": "huge"}}),
        "invalid_value",
        "messages[0].content[0].image_url.detail",
        "'messages[0].content[0].image_url.detail' must be one of low, high, auto, got \"huge\"",
    ),
    # 6.5 tools
    (
        tool(function={"name": "f"}),
        "missing_required_parameter",
        "tools[0].type",
        "'tools[0].type' is required",
    ),
    (
        tool(type="web_search"),
        "invalid_value",
        "tools[0].type",
        "'tools[0].type' must be one of function, custom, got \"web_search\"",
    ),
    (
        tool(type="function"),
        "missing_required_parameter",
        "tools[0].function.name",
        "'tools[0].function.name' is required",
    ),
    (
        tool(type="function", function={"name": "f", "parameters": "[]"}),
        "invalid_value",
        "tools[0].function.parameters",
        "'tools[0].function.parameters' must hold a JSON Schema object",
    ),
    (
        tool(type="custom", custom={"format": {"type": "grammar", "grammar": {"syntax": "bnf"}}}),
        "invalid_value",
        "tools[0].custom.format.grammar.syntax",
        "'tools[0].custom.format.grammar.syntax' must be one of lark, regex, got \"bnf\"",
    ),
    (
        {"tool_choice": "maybe"},
        "invalid_value",
        "tool_choice",
        "'tool_choice' must be one of none, auto, required, any, got \"maybe\"",
    ),
    ({"tool_choice": {}}, "missing_required_parameter", "tool_choice.type", "'tool_choice.type' is required"),
    (
        {"tool_choice": {"type": "maybe"}},
        "invalid_value",
        "tool_choice.type",
        f"'tool_choice.type' must be one of {CHOICES}, got \"maybe\"",
    ),
    *[
        (
            {"tool_choice": choice},
            "missing_required_parameter",
            f"tool_choice.{path}",
            f"'tool_choice.{path}' is required",
        )
        for choice, path in (
            ({"type": "function"}, "function.name"),
            ({"type": "function", "function": {}}, "function.name"),
            ({"type": "custom"}, "custom.name"),
            ({"type": "allowed_tools"}, "allowed_tools.mode"),
            ({"type": "allowed_tools", "allowed_tools": {"mode": "auto"}}, "allowed_tools.tools"),
        )
    ],
    (
        {"tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "any", "tools": []}}},
        "invalid_value",
        "tool_choice.allowed_tools.mode",
        "'tool_choice.allowed_tools.mode' must be one of auto, required, got \"any\"",
    ),
    # 6.1 the first violation is reported
    (
        {"top_p": 5, "temperature": 5, "verbosity": "max", "messages": [{}], "stream": True},
        "out_of_range",
        "temperature",
        "'temperature' must be between 0 and 2, got 5",
    ),
]


@pytest.mark.parametrize(
    ("members", "code", "param", "message"),
    REFUSED,
    ids=[f"{row[1]} {row[2]} {str(row[0])[:40]}" for row in REFUSED],
)
async def test_62_what_is_refused(
    gateway: RunningGateway, members: dict[str, Any], code: str, param: str, message: str
) -> None:
    response = await gateway.submit(chat() | members)

    assert_refused(response, code, message, param=param)


async def test_61_a_long_value_is_not_repeated_in_full(gateway: RunningGateway) -> None:
    response = await gateway.submit(chat(verbosity="x" * 10_000))

    assert_refused(response, "invalid_value", param="verbosity")
    assert len(response.json()["error"]["message"]) < 200
