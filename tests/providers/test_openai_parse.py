"""What becomes of a good reply, and of one that only looks good."""

import copy
import re
from typing import Any

import pytest

from providers.exchange import ANSWER, HELLO, parse, reply_of, request_of, with_choice, with_message
from tidegate.domain.inference import Completion, Usage
from tidegate.providers import VENDORS, provider_for


def completion_of(body: object, **how: Any) -> Completion:
    completion = parse(body, **how)
    assert isinstance(completion, Completion), completion
    return completion


def message_of(body: object, **how: Any) -> dict[str, Any]:
    message: dict[str, Any] = completion_of(body, **how).result["choices"][0]["message"]
    return message


# The whole


def test_a_reply_in_openais_own_shape_is_left_as_it_is() -> None:
    completion = completion_of(ANSWER)

    assert completion == Completion(result=ANSWER, usage=Usage(9, 2, 11))


def test_what_a_vendor_reports_beyond_the_contract_is_kept() -> None:
    body = ANSWER | {
        "citations": ["https://example.com"],
        "search_results": [{"title": "t"}],
        "x_groq": {"id": "req_1"},
        "service_tier": "on_demand",
        "system_fingerprint": None,
    }

    assert completion_of(body).result == body


def test_missing_members_are_filled_in_the_same_way_every_time() -> None:
    bare = {"choices": [{"message": {"content": "hello"}}]}

    result = completion_of(bare).result

    assert re.fullmatch(r"chatcmpl-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", result["id"])
    assert result == completion_of(bare).result
    assert result == {
        "id": result["id"],
        "object": "chat.completion",
        "created": 1793534400,
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}
        ],
    }
    assert completion_of({"choices": [{"message": {"content": "other"}}]}).result["id"] != result["id"]


@pytest.mark.parametrize("name", ["id", "object", "created"])
@pytest.mark.parametrize("blank", [None, "", 0])
def test_blank_members_are_filled_too(name: str, blank: object) -> None:
    result = completion_of(ANSWER | {name: blank}).result

    assert result[name] not in {None, "", 0}


def test_a_model_nobody_named_is_left_to_the_caller() -> None:
    assert "model" not in completion_of(ANSWER | {"model": ""}).result


def test_blank_records_count_as_not_reported() -> None:
    body = with_message(
        content="hi",
        refusal="",
        audio={"id": "", "data": "", "expires_at": 0, "transcript": ""},
        function_call={"name": "", "arguments": ""},
    ) | {"service_tier": "", "system_fingerprint": ""}

    result = completion_of(body).result

    assert result["choices"][0]["message"] == {"role": "assistant", "content": "hi"}
    assert not {"service_tier", "system_fingerprint"} & result.keys()


def test_only_the_mock_says_that_it_is_simulated() -> None:
    assert completion_of(ANSWER, vendor="mock").is_simulated
    assert not completion_of(ANSWER, vendor="local").is_simulated


def test_headers_that_tell_of_the_request_and_of_limits_are_kept() -> None:
    kept = {
        "x-request-id": "req_1",
        "apim-request-id": "a",
        "x-ratelimit-remaining-tokens": "39977",
        "x-ratelimit-limit": "10",
    }
    other = {"set-cookie": "s=1", "server": "cloudflare", "retry-after": "3", "openai-organization": "org-1"}

    assert completion_of(ANSWER, headers=kept | other).response_headers == kept


# Choices


@pytest.mark.parametrize(
    ("reported", "expected"),
    [
        ("stop", "stop"),
        ("length", "length"),
        ("tool_calls", "tool_calls"),
        ("content_filter", "content_filter"),
        ("", "stop"),
        (None, "stop"),
        (7, "stop"),
        ("eos", "stop"),
        ("eos_token", "stop"),
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("model_length", "length"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tool_calls"),
        ("sensitive", "content_filter"),
        ("refusal", "content_filter"),
        ("a word of its own", "a word of its own"),
    ],
)
def test_a_finish_reason_is_said_in_openais_words(reported: object, expected: str) -> None:
    assert (
        completion_of(with_choice(finish_reason=reported)).result["choices"][0]["finish_reason"] == expected
    )


def test_an_unfinished_answer_with_tool_calls_finished_for_them() -> None:
    call = {"id": "c", "function": {"name": "look", "arguments": "{}"}}
    body = with_choice(finish_reason="", message={"content": None, "tool_calls": [call]})

    assert completion_of(body).result["choices"][0]["finish_reason"] == "tool_calls"


def test_several_choices_are_numbered() -> None:
    choices = [{"message": {"content": "a"}}, {"message": {"content": "b"}}]

    assert [choice["index"] for choice in completion_of({"choices": choices}).result["choices"]] == [0, 1]


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content"])
def test_a_thought_has_one_name(name: str) -> None:
    assert message_of(with_message(content="hi", **{name: "hm"})) == {
        "role": "assistant",
        "content": "hi",
        "reasoning": "hm",
    }


def test_an_empty_thought_does_not_hide_the_other() -> None:
    message = message_of(with_message(content="hi", reasoning="", reasoning_content="hm"))

    assert message["reasoning"] == "hm"


THINKING = {"type": "thinking", "thinking": [{"type": "text", "text": "h"}, {"type": "text", "text": "m"}]}
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBO"}}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], {"content": "ab"}),
        ([THINKING, {"type": "text", "text": "a"}], {"content": "a", "reasoning": "hm"}),
        ([THINKING], {"content": None, "reasoning": "hm"}),
        ([{"type": "thinking", "thinking": "hm"}, "a"], {"content": "a", "reasoning": "hm"}),
        ([], {"content": None}),
        ([THINKING, "a", PICTURE], {"content": ["a", PICTURE], "reasoning": "hm"}),
        ("plain", {"content": "plain"}),
    ],
)
def test_content_in_pieces_becomes_one_text(content: object, expected: dict[str, Any]) -> None:
    assert message_of(with_message(content=content)) == {"role": "assistant", **expected}


def test_a_tool_call_is_completed() -> None:
    calls = [
        {"function": {"name": "look", "arguments": "{broken"}},
        {"id": "c2", "index": 5, "type": "function", "function": {"name": "look", "arguments": {"a": 1}}},
        {"id": "c3", "function": {"name": "look"}, "custom": {"name": "", "input": ""}},
        {"id": "c4", "type": "custom", "custom": {"name": "sql", "input": "select 1"}},
    ]

    made = message_of(with_message(content=None, tool_calls=calls))["tool_calls"]

    assert made == [
        {
            "id": "call_chatcmpl-1-0-0",
            "type": "function",
            "index": 0,
            "function": {"name": "look", "arguments": "{broken"},
        },
        {"id": "c2", "type": "function", "index": 5, "function": {"name": "look", "arguments": '{"a":1}'}},
        {"id": "c3", "type": "function", "index": 2, "function": {"name": "look", "arguments": "{}"}},
        {"id": "c4", "type": "custom", "index": 3, "custom": {"name": "sql", "input": "select 1"}},
    ]


def test_a_request_is_not_changed_by_its_reply() -> None:
    request = request_of(copy.deepcopy(HELLO))

    provider_for(VENDORS["openai"]).parse(request, reply_of(ANSWER))

    assert request == request_of(HELLO)


def test_nesting_without_end_is_read_without_harm() -> None:
    deep: Any = "hm"
    for _ in range(300):
        deep = [deep]

    message = message_of(with_message(content=[{"type": "thinking", "thinking": deep}]))

    assert message["content"] is None


def test_a_null_error_beside_an_answer_is_no_error() -> None:
    assert message_of(ANSWER | {"error": None})["content"] == "hello"
    assert message_of(with_choice(error=None))["content"] == "hello"
