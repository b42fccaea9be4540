"""Recorded exchanges with every vendor of this dialect: what we build, read and classify agrees with them."""

import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from openai.types.chat import ChatCompletion
from pydantic import ValidationError

from tidegate.domain.failures import Failure, FailureClass, FailureCode
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
from tidegate.providers.vendors import KNOWN_MEMBERS

FOLDER = Path(os.environ["TIDEGATE_CASSETTES"])
# The folder also has chats with Anthropic, Bedrock, Cohere, Gemini and Vertex, which speak dialects of their own.
SPEAKERS = {
    "azure",
    "cerebras",
    "deepseek",
    "groq",
    "huggingface",
    "mistral",
    "ollama",
    "openai",
    "openrouter",
    "perplexity",
    "snowflake",
    "zai",
}


class Recording(NamedTuple):
    file: str
    vendor: str
    request: dict[str, Any]
    status: int
    headers: dict[str, str]
    body: dict[str, Any]


def load(file: str) -> Recording:
    recorded = json.loads((FOLDER / file).read_text())
    response = recorded["response"]
    return Recording(
        file,
        recorded["provider"],
        recorded["request"],
        response["status"],
        response["headers"],
        response["body"],
    )


MANIFEST = json.loads((FOLDER / "MANIFEST.json").read_text())["entries"]
RECORDINGS = [
    load(entry["file"])
    for entry in MANIFEST
    if entry["operation"] == "chat" and entry["provider"] in SPEAKERS
]
ANSWERS = [pytest.param(recording, id=recording.file) for recording in RECORDINGS if recording.status == 200]


def reply_of(recording: Recording) -> HttpReply:
    return HttpReply(
        recording.status,
        recording.headers,
        json.dumps(recording.body).encode(),
        datetime(2026, 11, 1, tzinfo=UTC),
    )


def empty_request() -> InferenceRequest:
    return InferenceRequest(RequestType.CHAT_COMPLETION, {}, {}, ())


def completion_of(recording: Recording) -> Completion:
    completion = provider_for(VENDORS[recording.vendor]).parse(empty_request(), reply_of(recording))
    assert isinstance(completion, Completion)
    return completion


def test_every_recorded_chat_of_this_dialect_is_exercised() -> None:
    listed = {
        entry["file"] for entry in MANIFEST if entry["operation"] == "chat" and entry["provider"] in SPEAKERS
    }
    on_disk = {
        str(file.relative_to(FOLDER))
        for speaker in SPEAKERS
        for file in (FOLDER / speaker).glob("*.json")
        if json.loads(file.read_text())["operation"] == "chat"
    }

    exercised = {param.id for param in ANSWERS} | REFUSALS.keys()

    assert exercised == listed == on_disk
    assert {recording.vendor for recording in RECORDINGS} == SPEAKERS
    assert len(exercised) == len(RECORDINGS) == sum(1 for _ in ANSWERS) + len(REFUSALS)


# Response side


@pytest.mark.parametrize("recording", ANSWERS)
def test_a_result_validates_as_an_openai_chat_completion(recording: Recording) -> None:
    result = completion_of(recording).result

    # Groq's own service tier is reported as it is; no other deviation is left.
    is_groq = recording.vendor == "groq"
    assert invalid_members(result) == ([("service_tier",)] if is_groq else [])
    assert result.get("service_tier", "") == recording.body.get("service_tier", "")


def invalid_members(result: dict[str, Any]) -> list[tuple[int | str, ...]]:
    try:
        ChatCompletion.model_validate(result)
    except ValidationError as error:
        return [problem["loc"] for problem in error.errors()]
    return []


@pytest.mark.parametrize("recording", ANSWERS)
def test_a_result_says_what_the_raw_body_says(recording: Recording) -> None:
    result = completion_of(recording).result

    assert result["model"] == recording.body["model"]
    assert result["created"] == recording.body["created"]
    assert result["id"] == recording.body["id"] or (
        recording.body["id"] == "" and result["id"].startswith("chatcmpl-")
    )
    assert len(result["choices"]) == len(recording.body["choices"])
    for ours, theirs in zip(result["choices"], recording.body["choices"], strict=True):
        assert ours["message"].get("content") == spoken(theirs["message"])
        assert (ours["message"].get("reasoning") or None) == (thought(theirs["message"]) or None)
        assert calls(ours["message"]) == calls(theirs["message"])
        expected = theirs["finish_reason"] or ("tool_calls" if calls(theirs["message"]) else "stop")
        assert ours["finish_reason"] == expected


def spoken(message: Mapping[str, Any]) -> str | None:
    content = message.get("content")
    if not isinstance(content, list):
        return content
    return "".join(part["text"] for part in content if part["type"] == "text")


def thought(message: Mapping[str, Any]) -> str | None:
    content = message.get("content")
    if isinstance(content, list):
        return "".join(
            piece["text"] for part in content if part["type"] == "thinking" for piece in part["thinking"]
        )
    return message.get("reasoning") or message.get("reasoning_content")


def calls(message: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    return [
        (call["id"], call["function"]["name"], call["function"]["arguments"])
        for call in message.get("tool_calls") or []
    ]


@pytest.mark.parametrize("recording", ANSWERS)
def test_tool_calls_have_a_type_and_an_index(recording: Recording) -> None:
    for choice in completion_of(recording).result["choices"]:
        tool_calls = choice["message"].get("tool_calls") or []

        assert [call["index"] for call in tool_calls] == list(range(len(tool_calls)))
        assert all(call["type"] == "function" and "custom" not in call for call in tool_calls)


@pytest.mark.parametrize("recording", ANSWERS)
def test_token_sums_are_the_reported_ones(recording: Recording) -> None:
    raw = recording.body["usage"]

    completion = completion_of(recording)

    assert completion.usage is not None
    counted = (
        completion.usage.prompt_tokens,
        completion.usage.completion_tokens,
        completion.usage.total_tokens,
    )
    assert counted == (raw["prompt_tokens"], raw["completion_tokens"], raw["total_tokens"])
    assert counted[0] + counted[1] == counted[2]
    reported = completion.result["usage"]
    cached = reported.get("prompt_tokens_details", {}).get("cached_tokens")
    assert cached == (raw.get("prompt_tokens_details") or {}).get(
        "cached_tokens", raw.get("num_cached_tokens", raw.get("cached_tokens"))
    )
    if "cost" in raw:
        assert reported["cost"] == {"total_cost": raw["cost"]}


@pytest.mark.parametrize("recording", ANSWERS)
def test_headers_are_kept_by_an_allow_list(recording: Recording) -> None:
    kept = completion_of(recording).response_headers

    assert kept.keys() == {
        name
        for name in recording.headers
        if name.startswith("x-ratelimit-")
        or name in {"x-request-id", "apim-request-id", "x-generation-id", "mistral-correlation-id"}
    }
    assert all(recording.headers[name] == value for name, value in kept.items())


# Request side


def intent(recording: Recording) -> InferenceRequest:
    """What a caller would have asked of us to make the recorded request come out."""
    body = {name: value for name, value in recording.request["body"].items() if value is not None}
    del body["model"]
    assert not body.pop("stream", False)
    for ours, theirs in (("max_completion_tokens", "max_tokens"), ("seed", "random_seed")):
        if theirs in body:
            body[ours] = body.pop(theirs)
    extra = {name: body.pop(name) for name in body.keys() - KNOWN_MEMBERS - {"reasoning_effort"}}
    reasoning = {}
    if "reasoning_effort" in body:
        reasoning["effort"] = body.pop("reasoning_effort")
    thinking = dict(extra.get("thinking", {}))
    if thinking.pop("type", None) == "enabled":
        reasoning["enabled"] = True
        extra["thinking"] = thinking
    if reasoning:
        body["reasoning"] = reasoning
    body["messages"] = [message_of(message) for message in body["messages"]]
    return InferenceRequest(RequestType.CHAT_COMPLETION, body, extra, ())


def message_of(recorded: Mapping[str, Any]) -> dict[str, Any]:
    message = {name: value for name, value in recorded.items() if value is not None and name != "prefix"}
    if "reasoning_content" in message:
        message["reasoning"] = message.pop("reasoning_content")
    if isinstance(message.get("content"), list):
        message["content"] = [part_of(part) for part in message["content"]]
    return message


def part_of(recorded: dict[str, Any]) -> dict[str, Any]:
    if recorded["type"] != "document_url":
        return recorded
    return {"type": "file", "file": {"file_data": recorded["document_url"]}}


def without_defaults(body: Mapping[str, Any]) -> dict[str, Any]:
    """Members that say what is said without them too: nulls, no stream, no prefix, a call's type and index."""
    known = {name: value for name, value in body.items() if value is not None and name != "stream"}
    known["messages"] = [
        {name: value for name, value in message.items() if value is not None and name != "prefix"}
        for message in known["messages"]
    ]
    for message in known["messages"]:
        if "tool_calls" in message:
            message["tool_calls"] = [
                {"id": call["id"], "function": call["function"]} for call in message["tool_calls"]
            ]
    return known


@pytest.mark.parametrize("recording", ANSWERS)
def test_the_same_intent_makes_the_body_the_vendor_accepted(recording: Recording) -> None:
    accepted = recording.request["body"]
    request = intent(recording)

    call = provider_for(VENDORS[recording.vendor]).build(request, target_of(recording))

    assert isinstance(call, HttpCall)
    assert without_defaults(json.loads(call.body)) == without_defaults(accepted)


def target_of(recording: Recording) -> Target:
    path = VENDORS[recording.vendor].chat_path
    base_url = recording.request["url"].removesuffix(path)
    key = ProviderKey("1", "main", Secret("sk-test"))
    return Target(recording.vendor, recording.request["body"]["model"], base_url, key)


@pytest.mark.parametrize(
    "recording",
    # Azure was recorded at two older surfaces; the row speaks to its v1.
    [pytest.param(r, id=r.file) for r in RECORDINGS if r.vendor != "azure"],
)
def test_the_call_goes_where_the_recorded_one_went(recording: Recording) -> None:
    call = provider_for(VENDORS[recording.vendor]).build(intent(recording), target_of(recording))

    assert isinstance(call, HttpCall)
    assert (call.method, call.url) == (recording.request["method"], recording.request["url"])
    origin = VENDORS[recording.vendor].origin
    assert recording.request["url"].startswith(origin) or recording.vendor == "ollama"


# Error side


class Expected(NamedTuple):
    code: FailureCode
    failure_class: FailureClass
    upstream_code: str | None
    says: str
    delay: timedelta | None = None


REFUSALS = {
    "azure/chat-error-401-grok-4-1-fast-non-reasoning.json": Expected(
        FailureCode.KEY_REFUSED, FailureClass.KEY_REFUSED, "401", "invalid subscription key"
    ),
    "deepseek/chat-error-400-deepseek-chat.json": Expected(
        FailureCode.CONTEXT_LENGTH_EXCEEDED,
        FailureClass.CALLERS_FAULT,
        "invalid_request_error",
        "maximum context length is 1048565 tokens",
    ),
    "groq/chat-error-400-gpt-oss-120b.json": Expected(
        FailureCode.UPSTREAM_REJECTED,
        FailureClass.CALLERS_FAULT,
        "tool_use_failed",
        "did not call a tool",
    ),
    "groq/chat-error-404-non-existent.json": Expected(
        FailureCode.MODEL_NOT_FOUND, FailureClass.PERMANENT, "model_not_found", "does not exist"
    ),
    "ollama/chat-error-401-gpt-oss-120b.json": Expected(
        FailureCode.KEY_REFUSED, FailureClass.KEY_REFUSED, None, "Unauthorized"
    ),
    "openai/chat-error-400-gpt-4o-mini.json": Expected(
        FailureCode.UPSTREAM_REJECTED,
        FailureClass.CALLERS_FAULT,
        "invalid_image_url",
        "Error while downloading",
        # Its reset headers speak of limits that are far from exhausted.
        delay=None,
    ),
    "openai/chat-error-404-this-model-does-not-exist.json": Expected(
        FailureCode.MODEL_NOT_FOUND, FailureClass.PERMANENT, "model_not_found", "does not exist"
    ),
    "openrouter/chat-error-429-gemini-2-0-flash-exp-free.json": Expected(
        FailureCode.RATE_LIMITED, FailureClass.RATE_LIMITED, "429", "temporarily rate-limited upstream"
    ),
    "perplexity/chat-error-400-sonar.json": Expected(
        FailureCode.CONTEXT_LENGTH_EXCEEDED, FailureClass.CALLERS_FAULT, "400", "too long"
    ),
}


@pytest.mark.parametrize("recording", [pytest.param(r, id=r.file) for r in RECORDINGS if r.status != 200])
def test_a_refusal_is_classified(recording: Recording) -> None:
    expected = REFUSALS[recording.file]

    failure = provider_for(VENDORS[recording.vendor]).explain(reply_of(recording))

    assert isinstance(failure, Failure)
    assert (failure.code, failure.failure_class) == (expected.code, expected.failure_class)
    assert failure.upstream_status == recording.status
    assert failure.retry_after == expected.delay
    assert failure.message.startswith(f"provider {recording.vendor}: ")
    assert expected.says in failure.message
    assert (failure.upstream.code if failure.upstream else None) == expected.upstream_code
