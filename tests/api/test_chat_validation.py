"""What a chat completion may ask (contract §6.1–6.5): every field, its type, its range, its words."""

import re
from itertools import pairwise
from typing import Any

import pytest

from api.refusals import assert_refused
from api.world import bearer
from support.gateway import CHAT, RunningGateway, chat

pytestmark = pytest.mark.anyio

Path = str


def placed(path: Path, value: Any) -> dict[str, Any]:
    """A request with ``value`` at ``path``, such as ``messages[0].role``; what lies around it is made up."""
    request = chat()
    names = re.findall(r"[^.\[\]]+", path)
    place: Any = request
    for name, following in pairwise(names):
        empty: Any = [] if following.isdigit() else {}
        if not isinstance(found_in(place, name), type(empty)):
            put(place, name, empty)
        place = found_in(place, name)
    put(place, names[-1], value)
    return request


def found_in(place: Any, name: str) -> Any:
    if isinstance(place, list):
        return place[int(name)] if int(name) < len(place) else None
    return place.get(name)


def put(place: Any, name: str, value: Any) -> None:
    if isinstance(place, list):
        place[int(name) :] = [value]
    else:
        place[name] = value


def table(expected: str, *rows: tuple[Path, Any]) -> list[Any]:
    """Rows of wrong types: what is expected, where, and what is sent."""
    return [
        pytest.param(
            path,
            value,
            f"invalid type for '{path}': expected {expected}, got {JSON_NAMES[type(value)]}",
            id=f"6.2 {path} {value!r}",
        )
        for path, value in rows
    ]


JSON_NAMES = {
    str: "string",
    int: "number",
    float: "number",
    bool: "boolean",
    list: "array",
    dict: "object",
    type(None): "null",
}

WRONG_TYPES = [
    *table(
        "string",
        ("model", 5),
        ("fallbacks[0]", 5),
        ("modalities[0]", 5),
        ("modalities[0]", None),
        ("prompt_cache_key", 5),
        ("safety_identifier", 5),
        ("service_tier", 5),
        ("user", 5),
        ("user", {}),
        ("prompt_cache_retention", 24),
        ("verbosity", 1),
        ("truncation", {}),
        ("reasoning_effort", 5),
        ("reasoning.effort", 5),
        ("reasoning.display", True),
        ("stop[0]", 5),
        ("messages[0].role", 5),
        ("messages[0].name", 5),
        ("messages[0].tool_call_id", 5),
        ("messages[0].refusal", 5),
        ("messages[0].reasoning", 5),
        ("messages[0].reasoning_content", 5),
        ("messages[0].reasoning_details[0].signature", 5),
        ("messages[0].tool_calls[0].id", 5),
        ("messages[0].tool_calls[0].function.name", 5),
        ("messages[0].tool_calls[0].function.arguments", {}),
        ("messages[0].audio.id", 5),
        ("messages[0].annotations[0].url_citation.title", 5),
        ("tools[0].function.name", 5),
        ("tools[0].function.description", 5),
        ("tools[0].cache_control.type", 5),
        ("tool_choice.function.name", 5),
        ("prediction.type", 5),
        ("web_search_options.search_context_size", 5),
        ("web_search_options.user_location.type", 5),
        ("web_search_options.user_location.approximate.city", 5),
        ("audio.format", 5),
    ),
    *table(
        "number",
        ("frequency_penalty", "1"),
        ("presence_penalty", True),
        ("temperature", "0.5"),
        ("temperature", True),
        ("temperature", []),
        ("top_p", "1"),
    ),
    *table(
        "integer",
        ("top_logprobs", "5"),
        ("top_logprobs", 5.5),
        ("max_completion_tokens", "5"),
        ("max_completion_tokens", 1.5),
        ("max_completion_tokens", True),
        ("seed", "5"),
        ("seed", 0.1),
        ("n", 1.2),
        ("n", "1"),
        ("max_tokens", 1.5),
        ("reasoning_max_tokens", 2.5),
        ("reasoning_max_tokens", "5"),
        ("reasoning.max_tokens", 2.5),
        ("reasoning.max_tokens", "5"),
        ("messages[0].tool_calls[0].index", "0"),
        ("messages[0].tool_calls[0].index", 0.5),
    ),
    *table(
        "boolean",
        ("stream", "true"),
        ("stream", 1),
        ("logprobs", 1),
        ("parallel_tool_calls", "yes"),
        ("store", 0),
        ("reasoning.enabled", "yes"),
        ("stream_options.include_usage", 1),
        ("stream_options.include_obfuscation", "no"),
        ("tools[0].function.strict", 1),
    ),
    *table(
        "object",
        ("logit_bias", []),
        ("metadata", "x"),
        ("metadata", []),
        ("reasoning", "high"),
        ("response_format", "json_object"),
        ("stream_options", True),
        ("prediction", "x"),
        ("web_search_options", True),
        ("web_search_options.user_location", "Dover"),
        ("audio", "mp3"),
        ("messages[1]", "x"),
        ("messages[1]", None),
        ("messages[0].audio", "x"),
        ("messages[0].tool_calls[0]", "x"),
        ("messages[0].tool_calls[0].function", "x"),
        ("messages[0].content[0]", "x"),
        ("messages[0].content[0].image_url", "https://x"),
        ("messages[0].content[0].input_audio", "x"),
        ("messages[0].content[0].file", "x"),
        ("messages[0].content[0].cache_control", "ephemeral"),
        ("tools[0]", "search"),
        ("tools[0].function", "search"),
        ("tools[0].custom", "search"),
        ("tool_choice.function", "search"),
        ("tool_choice.allowed_tools.tools[0]", "search"),
    ),
    *table(
        "array",
        ("messages", "hello"),
        ("messages", {}),
        ("fallbacks", "openai/echo"),
        ("modalities", "text"),
        ("tools", {}),
        ("messages[0].tool_calls", {}),
        ("messages[0].reasoning_details", {}),
        ("messages[0].annotations", {}),
        ("tool_choice.allowed_tools.tools", {}),
    ),
    *table(
        "string or array",
        ("stop", 5),
        ("messages[0].content", 5),
        ("messages[0].content", {}),
        ("prediction.content", 5),
    ),
    *table("string or object", ("tool_choice", 5), ("tools[0].function.parameters", [])),
]


@pytest.mark.parametrize(("path", "value", "message"), WRONG_TYPES)
async def test_61_wrong_type(gateway: RunningGateway, path: Path, value: Any, message: str) -> None:
    response = await gateway.submit(placed(path, value))

    assert_refused(response, "invalid_type", message, param=path)


@pytest.mark.parametrize("body", [[], "x", 5, True], ids=repr)
async def test_61_the_body_is_an_object(gateway: RunningGateway, body: Any) -> None:
    response = await gateway.client.post(CHAT, json=body, headers=bearer())

    found = JSON_NAMES[type(body)]
    assert_refused(
        response, "invalid_type", f"invalid type for the request body: expected object, got {found}"
    )
    assert "param" not in response.json()["error"]


async def test_61_a_member_of_a_map_is_named_by_its_map(gateway: RunningGateway) -> None:
    response = await gateway.submit(chat(logit_bias={"50256": "x"}))

    assert_refused(response, "invalid_type", param="logit_bias.*")
