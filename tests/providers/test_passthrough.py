"""Members the gateway does not know reach the vendor, but never steer the request or overrule a known one."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.exchange import EVERYTHING, HELLO, body_of, call_of, content, dropped_of, refusal_of
from tidegate.domain.failures import FailureCode
from tidegate.providers import VENDORS
from tidegate.providers.passthrough import is_ours_to_say

# Members of the caller's own (passthrough)


def test_unknown_members_are_merged_at_every_depth() -> None:
    extra = {
        "top_k": 40,
        "provider": {"order": ["x"]},
        "thinking": {"type": "never", "clear_thinking": False},
    }

    body = body_of("zai", {"reasoning": {"enabled": True}}, extra)

    assert (body["top_k"], body["provider"]) == (40, {"order": ["x"]})
    assert body["thinking"] == {"type": "enabled", "clear_thinking": False}
    assert dropped_of("zai", {"reasoning": {"enabled": True}}, extra) == set()


def test_unknown_members_inside_known_ones_pass() -> None:
    """Where they are allowed, they have not been taken out."""
    fields = {
        "messages": [
            {"role": "assistant", "content": [{"type": "text", "text": "a", "y": 1}], "prefix": True}
        ],
        "tools": [{"type": "function", "function": {"name": "look", "z": 2}}],
        "reasoning": {"effort": "low", "exclude": True},
    }

    body = body_of("openrouter", fields)

    assert {name: body[name] for name in fields} == fields
    assert dropped_of("openrouter", fields) == set()


@pytest.mark.parametrize("vendor", VENDORS)
def test_nulls_beside_them_count_as_absent(vendor: str) -> None:
    nothing = dict.fromkeys(
        ("content", "name", "refusal", "reasoning", "reasoning_details", "tool_calls", "audio", "annotations")
    )
    fields = {
        "messages": [
            {"role": "assistant", **nothing, "tool_call_id": None},
            {"role": "assistant", **nothing, "tool_calls": [{"id": "c", "type": None, "index": None}]},
            {"role": "assistant", **nothing, "audio": {"id": "a", "data": None}},
        ],
        "reasoning": {"enabled": None, "effort": None, "max_tokens": None, "display": None},
        "tools": [{"type": "function", "function": {"name": "look", "parameters": None}}],
    }

    assert body_of(vendor, fields)["messages"] == [
        {"role": "assistant"},
        {"role": "assistant", "tool_calls": [{"type": "function", "id": "c"}]},
        {"role": "assistant", "audio": {"id": "a"}},
    ]
    assert dropped_of(vendor, fields) == VENDORS[vendor].quirks.drops & {"tools"}


def test_a_file_with_nulls_beside_it_is_the_file_it_is() -> None:
    by_url = {"file_url": "https://example.com/a.pdf", "file_id": None, "file_data": None, "file_type": None}
    by_id = {"file_url": None, "file_id": "file-1", "file_data": None}

    sent = body_of("mistral", content({"type": "file", "file": by_url}, {"type": "file", "file": by_id}))

    assert sent["messages"][0]["content"] == [
        {"type": "document_url", "document_url": "https://example.com/a.pdf"},
        {"type": "file", "file_id": "file-1"},
    ]
    assert refusal_of("openai", {"type": "file", "file": by_url}).code is FailureCode.UNSUPPORTED_CONTENT


def test_a_vendors_own_name_of_a_known_member_cannot_be_overruled() -> None:
    extra = {"random_seed": 1, "max_tokens": 9}

    body = body_of("mistral", {"seed": 7, "max_completion_tokens": 5}, extra)

    assert (body["random_seed"], body["max_tokens"]) == (7, 5)


TEXT = st.text("aä{\n", max_size=3)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


@given(extra=st.dictionaries(st.sampled_from([*EVERYTHING, "model", "thinking", "k"]), JSON, max_size=4))
@pytest.mark.parametrize("vendor", ["openai", "mistral", "zai"])
def test_nothing_we_say_is_ever_overruled(vendor: str, extra: dict[str, Any]) -> None:
    plain = body_of(vendor, EVERYTHING)

    merged = body_of(
        vendor, EVERYTHING, {n: v for n, v in extra.items() if n not in VENDORS[vendor].quirks.drops}
    )

    assert list(merged)[: len(plain)] == list(plain)
    assert_contains(merged, plain)


def assert_contains(merged: Any, plain: Any) -> None:
    if isinstance(plain, dict):
        assert plain.keys() <= merged.keys()
        for name, value in plain.items():
            assert_contains(merged[name], value)
    elif isinstance(plain, list):
        assert len(merged) == len(plain)
        for mine, value in zip(merged, plain, strict=True):
            assert_contains(mine, value)
    else:
        assert merged == plain


STEERING = [
    "api_base",
    "api-base",
    "apiBase",
    "API_BASE",
    "base_url",
    "baseURL",
    "api_key",
    "api-key",
    "apikey",
    "url",
    "uri",
    "endpoint",
    "api_endpoint",
    "endpoint_url",
    "azure_endpoint",
    "host",
    "hostname",
    "custom_host",
    "origin",
    "proxy",
    "proxies",
    "http_proxy",
    "https_proxy",
    "proxy_url",
    "headers",
    "header",
    "extra_headers",
    "default_headers",
    "custom_headers",
    "cookies",
    "extra_body",
    "extra_query",
    "default_query",
    "authorization",
    "auth",
    "auth_token",
    "access_token",
    "bearer_token",
    "azure_ad_token",
    "credentials",
    "secret",
    "password",
    "organization",
    "project",
    "api_version",
    "api_type",
    "aws_access_key_id",
    "aws_secret_access_key",
    "aws_session_token",
    "aws_region_name",
    "aws_bedrock_runtime_endpoint",
    "vertex_project",
    "vertex_location",
    "vertex_credentials",
    "custom_llm_provider",
    "litellm_params",
    "user_config",
    "model_list",
    "models",
    "model",
    "stream",
    "stream_options",
    "verify",
    "ssl_verify",
    "ca_cert",
    "client_cert",
    "http_client",
    "transport",
    "socket_path",
    "virtual_key",
]


@pytest.mark.parametrize("word", STEERING)
def test_a_word_that_steers_the_request_goes_nowhere(word: str) -> None:
    plain = call_of("openai", HELLO)

    call = call_of("openai", HELLO, {word: "https://evil.example", "top_k": 1})

    assert json.loads(call.body) == json.loads(plain.body) | {"top_k": 1}
    assert (call.url, call.headers, call.credential) == (plain.url, plain.headers, plain.credential)
    assert dropped_of("openai", HELLO, {word: "https://evil.example"}) == {word}


def test_ordinary_parameters_do_not_steer() -> None:
    ordinary = ("top_k", "min_p", "repetition_penalty", "provider", "transforms", "thinking", "safe_prompt")

    assert not any(is_ours_to_say(name) for name in ordinary)
    assert len(STEERING) >= 50
