"""The result of a chat completion (contract §6.6), and what was dropped on the way to the provider (§6.1)."""

import json
from typing import Any

import msgspec
import pytest

from api.chats import says
from api.world import SCRIPT
from support.gateway import RunningGateway, chat
from tidegate.mock_vendor import MockVendor

pytestmark = pytest.mark.anyio

PASSTHROUGH = {"x-bf-passthrough-extra-params": "true"}
MESSAGE = {"role": "assistant", "content": "High water at noon."}


def reply(**members: Any) -> dict[str, Any]:
    """What a vendor says; ``None`` takes a member away."""
    usual = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1772442909,
        "model": "gpt-4o-mini-2024-07-18",
        "choices": [{"index": 0, "finish_reason": "stop", "message": MESSAGE}],
    }
    return {name: value for name, value in (usual | members).items() if value is not None}


def choice(**members: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "finish_reason": "stop", "message": MESSAGE, **members}]}


async def answered(
    gateway: RunningGateway, vendor: MockVendor, body: Any, request: dict[str, Any] | None = None
) -> dict[str, Any]:
    """The envelope of a job to which the vendor answers ``body``."""
    rule = {"model": "scripted", "body": json.dumps(body)}
    vendor.set_script(SCRIPT | {"rules": [rule, *SCRIPT["rules"]]})
    return await gateway.run(request or chat("openai/scripted"))


async def sent_upstream(
    gateway: RunningGateway,
    vendor: MockVendor,
    request: dict[str, Any],
    headers: dict[str, str] | None = None,
) -> tuple[dict[str, Any], list[str]]:
    """What reached the vendor, and what the result says was dropped."""
    vendor.clear_calls()
    envelope = await gateway.run(request, headers)
    body = vendor.calls()[-1].body
    assert body is not None
    upstream: dict[str, Any] = msgspec.json.decode(body)
    return upstream, envelope["result"]["extra_fields"].get("dropped_params", [])


async def test_66_a_result_is_what_the_provider_reports(gateway: RunningGateway, vendor: MockVendor) -> None:
    result = (await answered(gateway, vendor, reply()))["result"]

    assert {name: result[name] for name in reply()} == reply()


@pytest.mark.parametrize("missing", ["id", "object", "created", "model"])
async def test_66_what_must_be_there_is_made_up(
    gateway: RunningGateway, vendor: MockVendor, missing: str
) -> None:
    result = (await answered(gateway, vendor, reply(**{missing: None})))["result"]

    assert result["object"] == "chat.completion"
    assert result["id"].startswith("chatcmpl-")
    assert isinstance(result["created"], int)
    assert result["model"] in {"scripted", "gpt-4o-mini-2024-07-18"}
    assert result["choices"]


@pytest.mark.parametrize(
    "members",
    [
        {"service_tier": "flex"},
        {"system_fingerprint": "fp_1"},
        {"citations": ["https://x.example"]},
        {"search_results": [{"title": "t"}]},
        {"videos": [{"url": "u"}]},
    ],
    ids=str,
)
async def test_66_further_members_are_there_if_reported(
    gateway: RunningGateway, vendor: MockVendor, members: dict[str, Any]
) -> None:
    with_them = (await answered(gateway, vendor, reply(**members)))["result"]
    without = (await answered(gateway, vendor, reply()))["result"]

    assert with_them.items() >= members.items()
    assert not members.keys() & without.keys()


@pytest.mark.parametrize(
    ("reported", "shown"),
    [
        ("stop", "stop"),
        ("length", "length"),
        ("tool_calls", "tool_calls"),
        ("content_filter", "content_filter"),
        ("max_tokens", "length"),
        ("a word of its own", "a word of its own"),
    ],
)
async def test_66_finish_reasons(
    gateway: RunningGateway, vendor: MockVendor, reported: str, shown: str
) -> None:
    envelope = await answered(gateway, vendor, reply(**choice(finish_reason=reported)))

    assert envelope["result"]["choices"][0]["finish_reason"] == shown


async def test_66_a_finish_reason_that_says_failure_is_one(
    gateway: RunningGateway, vendor: MockVendor
) -> None:
    envelope = await answered(gateway, vendor, reply(**choice(finish_reason="error")))

    assert (envelope["status"], envelope["error"]["type"]) == ("failed", "upstream_invalid_response")


async def test_66_choices_keep_messages_and_logprobs(gateway: RunningGateway, vendor: MockVendor) -> None:
    message = MESSAGE | {
        "refusal": "no",
        "reasoning": "because",
        "reasoning_details": [{"type": "reasoning.text", "signature": "s+/="}],
        "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{"}}],
        "annotations": [{"type": "url_citation", "url_citation": {"title": "t"}}],
    }
    logprobs = {"content": [{"token": "a", "logprob": -0.5}], "refusal": []}

    result = (await answered(gateway, vendor, reply(**choice(message=message, logprobs=logprobs))))["result"]

    shown = result["choices"][0]
    assert shown["logprobs"] == logprobs
    assert shown["message"].items() >= {k: v for k, v in message.items() if k != "tool_calls"}.items()
    assert shown["message"]["tool_calls"][0]["function"] == {"name": "f", "arguments": "{"}


async def test_66_usage_is_never_invented(gateway: RunningGateway, vendor: MockVendor) -> None:
    usage = {
        "prompt_tokens": 14,
        "completion_tokens": 6,
        "total_tokens": 20,
        "prompt_tokens_details": {"cached_tokens": 4},
        "completion_tokens_details": {"reasoning_tokens": 2},
    }

    reported = (await answered(gateway, vendor, reply(usage=usage)))["result"]
    silent = (await answered(gateway, vendor, reply()))["result"]

    assert reported["usage"].items() >= usage.items()
    assert "usage" not in silent


async def test_66_extra_fields(gateway: RunningGateway, vendor: MockVendor) -> None:
    envelope = await answered(gateway, vendor, reply())

    extra = envelope["result"]["extra_fields"]
    assert isinstance(extra.pop("latency"), int)
    assert extra.pop("provider_response_headers").keys() == {"x-request-id"}
    assert extra == {
        "request_type": "chat_completion",
        "provider": "openai",
        "model_requested": "openai/scripted",
        "original_model_requested": "openai/scripted",
        "resolved_model_used": "scripted",
    }


async def test_66_after_a_fallback_they_name_who_answered(gateway: RunningGateway) -> None:
    request = chat("limiting/limited", fallbacks=["other/llama"])

    extra = (await gateway.run(request))["result"]["extra_fields"]

    assert (extra["provider"], extra["resolved_model_used"]) == ("other", "llama")
    assert extra["model_requested"] == "limiting/limited"


async def test_66_a_bare_model_is_shown_as_it_was_asked_for(gateway: RunningGateway) -> None:
    extra = (await gateway.run(chat("shared")))["result"]["extra_fields"]

    assert (extra["model_requested"], extra["provider"], extra["resolved_model_used"]) == (
        "shared",
        "other",
        "shared",
    )


@pytest.mark.parametrize(
    ("members", "dropped"),
    [
        ({"mystery": 1}, ["mystery"]),
        ({"metadata": {"free": {"form": 1}}, "response_format": {"type": "text", "x": 1}}, []),
        ({"messages": [{"role": "user", "content": "x", "mood": "calm"}]}, ["messages[0].mood"]),
        (says({"type": "text", "text": "x", "colour": "red"}), ["messages[0].content[0].colour"]),
        (
            {"tools": [{"type": "function", "function": {"name": "f", "x": 1}, "y": 2}]},
            ["tools[0].function.x", "tools[0].y"],
        ),
        ({"stream_options": {"include_usage": True}}, ["stream_options"]),
        ({"truncation": "auto"}, ["truncation"]),
        ({"max_tokens": 5, "max_completion_tokens": 6}, ["max_tokens"]),
        (
            {"messages": [{"role": "user", "content": "x", "reasoning": "a", "reasoning_content": "b"}]},
            ["messages[0].reasoning_content", "messages[0].reasoning"],
        ),
        ({"user": None, "mystery": None, "stop": [], "stream": False, "fallbacks": []}, ["mystery"]),
        ({}, []),
    ],
    ids=str,
)
async def test_61_what_the_provider_did_not_get_is_listed(
    gateway: RunningGateway, vendor: MockVendor, members: dict[str, Any], dropped: list[str]
) -> None:
    upstream, listed = await sent_upstream(gateway, vendor, chat() | members)

    assert listed == dropped
    assert "mystery" not in upstream
    assert upstream.keys().isdisjoint({"stream", "stream_options", "fallbacks", "truncation"})


async def test_61_passthrough_merges_unknown_members_deeply_and_never_over_known_ones(
    gateway: RunningGateway, vendor: MockVendor
) -> None:
    request = chat(
        mystery={"deep": [1]},
        top_k=5,
        api_base="https://evil.example",
        messages=[{"role": "user", "content": "x", "mood": "calm"}],
    )

    upstream, listed = await sent_upstream(gateway, vendor, request, PASSTHROUGH)

    assert upstream["mystery"] == {"deep": [1]}
    assert upstream["top_k"] == 5
    assert upstream["messages"] == [{"role": "user", "content": "x", "mood": "calm"}]
    assert upstream["model"] == "echo"
    assert "api_base" not in upstream
    assert listed == ["api_base"]


@pytest.mark.parametrize("value", ["false", "1", "TRUE", ""])
async def test_61_only_true_turns_passthrough_on(
    gateway: RunningGateway, vendor: MockVendor, value: str
) -> None:
    headers = {"x-bf-passthrough-extra-params": value}

    upstream, listed = await sent_upstream(gateway, vendor, chat(mystery=1), headers)

    assert "mystery" not in upstream
    assert listed == ["mystery"]


async def test_10_no_inbound_header_is_forwarded(gateway: RunningGateway, vendor: MockVendor) -> None:
    vendor.clear_calls()
    mine = {
        "x-mine": "secret",
        "x-request-id": "my-id",
        "cookie": "a=b",
        "x-bf-eh-x": "y",
        "user-agent": "me",
    }

    await gateway.run(headers=mine)

    sent = vendor.calls()[-1].headers
    assert sent.keys().isdisjoint({"x-mine", "cookie", "x-bf-eh-x", "x-request-id"})
    assert sent["authorization"].startswith("***")
    assert "me" not in sent["user-agent"].split("/")
