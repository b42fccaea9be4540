"""What a vendor of OpenAI's dialect is sent."""

import copy
import json
from typing import Any

import pytest
from openai.types.chat.completion_create_params import CompletionCreateParamsNonStreaming
from pydantic import TypeAdapter

from providers.exchange import (
    EVERYTHING,
    HELLO,
    KEY,
    SCHEMA,
    TOOL,
    body_of,
    call_of,
    content,
    conversation,
    dropped_of,
    request_of,
    target_of,
)
from tidegate.domain.inference import Credential, HttpCall, ProviderKey, Target
from tidegate.domain.secret import Secret
from tidegate.providers import VENDORS, provider_for
from tidegate.providers.vendors import KNOWN_MEMBERS

every_vendor = pytest.mark.parametrize("vendor", VENDORS)

# The call


def test_a_call_posts_json_to_the_configured_place() -> None:
    target = Target("lab", "some-model", "https://proxy.example.com/openai", KEY)

    call = provider_for(VENDORS["openai"]).build(request_of(HELLO), target)

    assert isinstance(call, HttpCall)
    assert (call.provider, call.method) == ("lab", "POST")
    assert call.url == "https://proxy.example.com/openai/v1/chat/completions"
    assert call.headers == (("content-type", "application/json"), ("accept", "application/json"))
    assert call.credential == Credential(
        "https://proxy.example.com", "authorization", Secret("Bearer sk-upstream")
    )


def test_the_model_is_the_targets_and_comes_first() -> None:
    fields = {"temperature": 0.5, "messages": [], "seed": 1}

    body = call_of("openai", fields).body

    assert body == b'{"model":"some-model","temperature":0.5,"messages":[],"seed":1}'


def test_a_model_never_reaches_the_url() -> None:
    target = Target("openai", "../../admin?x=1#", "https://api.openai.com", KEY)

    call = provider_for(VENDORS["openai"]).build(request_of(HELLO), target)

    assert isinstance(call, HttpCall)
    assert call.url == "https://api.openai.com/v1/chat/completions"
    assert json.loads(call.body)["model"] == "../../admin?x=1#"


@pytest.mark.parametrize("value", [None, Secret("")])
def test_without_a_key_nothing_is_sent_in_its_place(value: Secret | None) -> None:
    key = ProviderKey("1", "main", value)

    call = provider_for(VENDORS["vllm"]).build(request_of(HELLO), target_of("vllm", key))

    assert isinstance(call, HttpCall)
    assert call.credential is None
    assert {name for name, _ in call.headers} == {"content-type", "accept"}


def test_a_key_is_sent_where_none_is_needed() -> None:
    assert call_of("vllm", HELLO).credential is not None


def test_azure_takes_the_bare_key_in_a_header_of_its_own() -> None:
    credential = call_of("azure", HELLO).credential

    assert credential == Credential("https://example.com", "api-key", Secret("sk-upstream"))


@every_vendor
def test_a_request_serves_every_candidate(vendor: str) -> None:
    extra = {"messages": [{"x": 1}], "thinking": {"y": 2}}
    request = request_of(copy.deepcopy(EVERYTHING), copy.deepcopy(extra))

    provider_for(VENDORS[vendor]).build(request, target_of(vendor))

    assert request == request_of(EVERYTHING, extra)


# Members


@every_vendor
def test_a_known_member_is_sent_or_listed(vendor: str) -> None:
    quirks = VENDORS[vendor].quirks

    sent = body_of(vendor, EVERYTHING).keys() - {"model"}
    listed = {path for path in dropped_of(vendor, EVERYTHING) if "." not in path and "[" not in path}

    ours = {name: quirks.renames.get(name, name) for name in EVERYTHING}
    ours["reasoning"] = {"effort": "reasoning_effort", "object": "reasoning", "thinking": "thinking"}[
        quirks.reasoning
    ]
    assert EVERYTHING.keys() == KNOWN_MEMBERS
    assert {ours[name] for name in EVERYTHING.keys() - listed} <= sent
    assert not sent & {ours[name] for name in listed}
    assert quirks.drops & EVERYTHING.keys() <= listed <= quirks.drops | {"tool_choice"}


def test_openai_takes_all_but_truncation() -> None:
    listed = {path for path in dropped_of("openai", EVERYTHING) if "." not in path}

    assert listed == {"truncation"}


@pytest.mark.parametrize(
    ("vendor", "fields", "expected"),
    [
        ("openai", {"max_completion_tokens": 5, "seed": 1}, {"max_completion_tokens": 5, "seed": 1}),
        ("mistral", {"max_completion_tokens": 5, "seed": 1}, {"max_tokens": 5, "random_seed": 1}),
        ("groq", {"max_completion_tokens": 5}, {"max_completion_tokens": 5}),
        ("deepseek", {"max_completion_tokens": 5}, {"max_tokens": 5}),
        ("local", {"max_completion_tokens": 5}, {"max_tokens": 5}),
        ("openai", {"prompt_cache_retention": "in-memory"}, {"prompt_cache_retention": "in_memory"}),
        ("openai", {"prompt_cache_retention": "24h"}, {"prompt_cache_retention": "24h"}),
        ("groq", {"user": "u"}, {"user": "u"}),
        ("together", {"user": "u"}, {}),
        ("openrouter", {"metadata": {"a": 1}}, {"metadata": {"a": 1}}),
        ("perplexity", {"tools": [TOOL], "parallel_tool_calls": True}, {}),
        ("groq", {"logprobs": True, "logit_bias": {}, "top_logprobs": 1}, {}),
        ("mistral", {"verbosity": "low"}, {}),
        ("mock", {"metadata": {"a": 1}, "store": True}, {"metadata": {"a": 1}, "store": True}),
    ],
)
def test_a_vendors_names_and_gaps(vendor: str, fields: dict[str, Any], expected: dict[str, Any]) -> None:
    body = body_of(vendor, fields)

    assert {name: value for name, value in body.items() if name not in {"model", "messages"}} == expected


@pytest.mark.parametrize(
    ("vendor", "reasoning", "expected", "listed"),
    [
        ("openai", {"effort": "high"}, {"reasoning_effort": "high"}, set()),
        ("openai", {"effort": "high", "enabled": True}, {"reasoning_effort": "high"}, set()),
        ("openai", {"enabled": False}, {"reasoning_effort": "none"}, set()),
        ("openai", {"enabled": False, "effort": "none"}, {"reasoning_effort": "none"}, set()),
        ("openai", {"enabled": False, "effort": "high"}, {"reasoning_effort": "none"}, {"reasoning.effort"}),
        ("openai", {"enabled": True}, {}, {"reasoning.enabled"}),
        (
            "openai",
            {"effort": "low", "max_tokens": 10, "display": "omitted"},
            {"reasoning_effort": "low"},
            {"reasoning.max_tokens", "reasoning.display"},
        ),
        ("openai", {}, {}, set()),
        (
            "openrouter",
            {"effort": "low", "max_tokens": 10, "enabled": True, "display": "omitted"},
            {"reasoning": {"effort": "low", "max_tokens": 10, "enabled": True}},
            {"reasoning.display"},
        ),
        ("zai", {"enabled": True}, {"thinking": {"type": "enabled"}}, set()),
        ("zai", {"effort": "high"}, {"reasoning_effort": "high"}, set()),
        (
            "deepseek",
            {"enabled": True, "effort": "max"},
            {"thinking": {"type": "enabled"}, "reasoning_effort": "max"},
            set(),
        ),
        ("moonshot", {"effort": "none"}, {"thinking": {"type": "disabled"}}, set()),
        (
            "moonshot",
            {"enabled": False, "effort": "high", "max_tokens": 9},
            {"thinking": {"type": "disabled"}},
            {"reasoning.effort", "reasoning.max_tokens"},
        ),
    ],
)
def test_thinking_is_asked_for_in_the_vendors_words(
    vendor: str, reasoning: dict[str, Any], expected: dict[str, Any], listed: set[str]
) -> None:
    body = body_of(vendor, {"reasoning": reasoning})

    assert {name: value for name, value in body.items() if name not in {"model", "messages"}} == expected
    assert dropped_of(vendor, {"reasoning": reasoning}) == listed


FORCED = {"type": "function", "function": {"name": "look"}}
ALLOWED = {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [FORCED]}}


@pytest.mark.parametrize(
    ("vendor", "choice", "expected"),
    [
        ("openai", "auto", "auto"),
        ("openai", "none", "none"),
        ("openai", "required", "required"),
        ("openai", "any", "required"),
        ("openai", {"type": "any"}, "required"),
        ("openai", {"type": "none"}, "none"),
        ("openai", FORCED, FORCED),
        ("openai", ALLOWED, ALLOWED),
        ("mistral", "any", "any"),
        ("mistral", "required", "required"),
        ("moonshot", "auto", "auto"),
        ("moonshot", "required", None),
        ("moonshot", {"type": "any"}, None),
    ],
)
def test_tool_choice_is_said_in_the_vendors_words(vendor: str, choice: Any, expected: Any) -> None:
    fields = {"tool_choice": choice}

    assert body_of(vendor, fields).get("tool_choice") == expected
    assert dropped_of(vendor, fields) == (set() if expected else {"tool_choice"})


# Tools


def test_a_schema_given_as_text_is_sent_as_a_schema_in_its_order() -> None:
    text = json.dumps(SCHEMA)
    tool = {"type": "function", "function": {"name": "look", "parameters": text}}

    sent = body_of("openai", {"tools": [tool]})["tools"][0]["function"]["parameters"]

    assert json.dumps(sent) == text


@pytest.mark.parametrize("text", ["{broken", "", "[" * 100_000])
def test_text_that_is_no_schema_is_left_for_the_vendor_to_refuse(text: str) -> None:
    tool = {"type": "function", "function": {"name": "look", "parameters": text}}

    assert body_of("openai", {"tools": [tool]})["tools"] == [tool]


def test_an_integer_beyond_64_bits_is_sent_as_it_is() -> None:
    tool = {"type": "function", "function": {"name": "look", "parameters": {"maximum": 10**30, "é": "…"}}}

    assert body_of("openai", {"tools": [tool]})["tools"] == [tool]


@pytest.mark.parametrize(("vendor", "is_kept"), [("openai", True), ("ollama", False), ("moonshot", False)])
def test_strict_goes_only_where_it_is_known(vendor: str, *, is_kept: bool) -> None:
    tool = {"type": "function", "function": {"name": "look", "strict": True}}

    sent = body_of(vendor, {"tools": [TOOL, tool]})["tools"][1]["function"]

    assert ("strict" in sent) is is_kept
    assert dropped_of(vendor, {"tools": [TOOL, tool]}) == (set() if is_kept else {"tools[1].function.strict"})


def test_tools_of_other_kinds_pass() -> None:
    tools = [{"type": "custom", "custom": {"name": "sql"}}, {"type": "web_search", "limit": 3}]

    assert body_of("openai", {"tools": tools})["tools"] == tools


# OpenAI's own types


ALTERNATIVES: list[dict[str, Any]] = [
    EVERYTHING,
    {"tool_choice": {"type": "any"}, "tools": [TOOL]},
    {"tool_choice": FORCED, "tools": [TOOL]},
    {"tool_choice": ALLOWED, "tools": [TOOL]},
    {"tools": [{"type": "function", "function": {"name": "look", "parameters": json.dumps(SCHEMA)}}]},
    {"tools": [{"type": "custom", "custom": {"name": "sql", "format": {"type": "text"}}}]},
    {"reasoning": {"enabled": False}},
    {
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "n", "schema": SCHEMA, "strict": True},
        }
    },
    {"web_search_options": {"user_location": {"type": "approximate", "approximate": {"country": "DE"}}}},
    content(
        {"type": "file", "file": {"file_data": "JVBE", "file_type": "application/pdf", "filename": "a.pdf"}},
        {"type": "file", "file": {"file_id": "file-1"}},
        {"type": "input_audio", "input_audio": {"data": "UklG", "format": "wav"}},
    ),
    conversation(audio={"id": "audio_1", "data": "UklG"}, refusal="no"),
    conversation(content=[{"type": "text", "text": "a"}, {"type": "refusal", "refusal": "b"}]),
    {"prediction": {"type": "content", "content": [{"type": "text", "text": "a"}]}},
]


@pytest.mark.parametrize("vendor", ["openai", "azure"])
@pytest.mark.parametrize("fields", ALTERNATIVES, ids=lambda fields: "+".join(fields)[:40])
def test_what_is_sent_is_exactly_a_body_of_openais_own_types(vendor: str, fields: dict[str, Any]) -> None:
    body = body_of(vendor, fields)

    # Validation leaves out what a type does not have, so equality says that there is nothing else.
    assert listed(TypeAdapter(CompletionCreateParamsNonStreaming).validate_python(body)) == body


def listed(value: Any) -> Any:
    """Iterables of the SDK's types are validated while they are read."""
    if isinstance(value, dict):
        return {name: listed(member) for name, member in value.items()}
    if isinstance(value, str | int | float | None):
        return value
    return [listed(member) for member in value]
