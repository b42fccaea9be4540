"""Chat completions that are accepted (contract §6.1–6.5)."""

from typing import Any

import pytest

from api.chats import EVERY_FIELD, INT64, ROLES, says, tool
from api.refusals import assert_refused
from api.world import bearer
from support.gateway import CHAT, RunningGateway, chat

pytestmark = pytest.mark.anyio

PASSTHROUGH = {"x-bf-passthrough-extra-params": "true"}


@pytest.mark.parametrize("name", EVERY_FIELD)
async def test_62_every_field_is_accepted(gateway: RunningGateway, name: str) -> None:
    assert (await gateway.submit(chat() | {name: EVERY_FIELD[name]})).status_code == 202


@pytest.mark.parametrize("name", EVERY_FIELD)
async def test_61_null_counts_as_absent(gateway: RunningGateway, name: str) -> None:
    assert (await gateway.submit(chat() | {name: None})).status_code == 202


async def test_62_all_fields_together_are_accepted(gateway: RunningGateway) -> None:
    assert (await gateway.submit(chat(**EVERY_FIELD))).status_code == 202


ACCEPTED: dict[str, dict[str, Any]] = {
    "6.1 5.0 is an integer": {
        "top_logprobs": 5.0, "max_completion_tokens": 5.0, "seed": 5.0, "n": 1.0, "max_tokens": 5.0,
        "reasoning_max_tokens": 5.0,
    },
    "6.1 nulls below": {"reasoning": {"effort": None, "max_tokens": None}, "stream_options": {"include_usage": None}},
    "6.1 a null beside its alias is no conflict": {"reasoning": {"effort": None}, "reasoning_effort": "low"},
    "6.1 unknown members": {"mystery": {"deep": [1]}, "Temperature": 99},
    "6.2 the other ends of the ranges": {
        "frequency_penalty": 2, "presence_penalty": -2, "temperature": 2, "top_p": 0, "top_logprobs": 0,
        "seed": INT64 - 1,
    },
    "6.2 metadata of 16 KiB": {"metadata": {"a": "x" * (16384 - 8)}},
    "6.2 a model of 256 characters": {"model": "openai/" + "m" * 249},
    "6.2 ten fallbacks": {"fallbacks": ["openai/echo"] * 10},
    "6.2 no fallbacks": {"fallbacks": []},
    "6.2 stop as a string": {"stop": "end"},
    "6.2 stop as an empty list": {"stop": []},
    "6.2 both names of the token limit": {"max_tokens": 5, "max_completion_tokens": 6},
    "6.2 prediction as text": {"prediction": {"type": "content", "content": "x"}},
    "6.3 only a role, as the seed has it": {"messages": [{"role": "assistant"}]},
    "6.3 every role": {"messages": [{"role": role, "content": "x"} for role in ROLES.split(", ")]},
    "6.3 every member": {
        "messages": [
            {
                "role": "assistant", "content": None, "name": "n", "tool_call_id": "t", "refusal": "r",
                "reasoning": "because", "reasoning_details": [{"index": 0, "signature": "s", "data": {}}],
                "tool_calls": [{"index": 0.0, "id": "c", "type": "function",
                                "function": {"name": "f", "arguments": "{broken"}}],
                "audio": {"id": "a", "expires_at": 5.5},
                "annotations": [{"type": "url_citation", "url_citation": {"start_index": 0, "url": "u"}}],
            }
        ]
    },
    "6.3 roles in any order": {"messages": [{"role": "tool"}, {"role": "tool"}, {"role": "system"}]},
    "6.4 every part": says(
        {"type": "text", "text": "", "cache_control": {"type": "ephemeral", "ttl": "5m"}},
        {"type": "refusal", "refusal": "no"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA==", "detail": "auto"}},
        {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}},
        {"type": "file", "file": {"file_data": "AA==", "filename": "a.pdf", "file_type": "application/pdf"}},
        {"type": "file", "file": {"file_id": "f"}},
        {"type": "file", "file": {"file_url": "https://x"}},
    ),
    "6.4 no parts": says(),
    "6.5 parameters as text": tool(type="function", function={"name": "f", "parameters": '{"a": 1}'}),
    "6.5 a custom tool without anything": tool(type="custom"),
    "6.5 a grammar": tool(
        type="custom",
        custom={"format": {"type": "grammar", "grammar": {"definition": "x", "syntax": "lark"}}},
    ),
    **{f"6.5 tool_choice {word}": {"tool_choice": word} for word in ("none", "auto", "required", "any")},
    **{
        f"6.5 tool_choice.type {word}": {"tool_choice": {"type": word}}
        for word in ("none", "auto", "any", "required")
    },
    "6.5 tool_choice names a tool nobody knows": {
        "tool_choice": {"type": "function", "function": {"name": "unknown"}}
    },
    "6.5 tool_choice custom": {"tool_choice": {"type": "custom", "custom": {"name": "c"}}},
    "6.5 tool_choice allowed_tools": {
        "tool_choice": {
            "type": "allowed_tools",
            "allowed_tools": {"mode": "required", "tools": [{"type": "function", "function": {"name": "f"}}]},
        }
    },
}  # fmt: skip


@pytest.mark.parametrize("members", ACCEPTED.values(), ids=list(ACCEPTED))
async def test_62_what_passes(gateway: RunningGateway, members: dict[str, Any]) -> None:
    response = await gateway.submit(chat() | members)

    assert response.status_code == 202, response.text


@pytest.mark.parametrize(
    "members",
    [
        says({"type": "video", "video": {"url": "x"}}),
        tool(type="web_search_preview"),
        {"prediction": {"type": "content", "content": [{"type": "other"}]}},
    ],
    ids=["6.4 another part", "6.5 another tool", "6.2 another part of a prediction"],
)
async def test_64_passthrough_lets_the_vendor_s_own_forms_through(
    gateway: RunningGateway, members: dict[str, Any]
) -> None:
    refused = await gateway.submit(chat() | members)
    passed = await gateway.submit(chat() | members, PASSTHROUGH)

    assert_refused(refused, "invalid_value")
    assert passed.status_code == 202


@pytest.mark.parametrize(
    "members",
    [{"temperature": 3}, {"verbosity": "max"}, says({"type": "text"}), {"messages": [{"role": "robot"}]}],
    ids=str,
)
async def test_61_passthrough_waives_no_other_rule(gateway: RunningGateway, members: dict[str, Any]) -> None:
    assert (await gateway.submit(chat() | members, PASSTHROUGH)).status_code == 400


async def test_26_of_duplicate_members_the_last_wins(gateway: RunningGateway) -> None:
    body = '{"model":"nobody","messages":[],"model":"openai/echo","messages":[{"role":"user","content":"x"}]}'

    response = await gateway.client.post(CHAT, content=body, headers=bearer())

    assert response.status_code == 202
    assert (await gateway.details(response.json()["id"]))["model"] == "openai/echo"
