"""What a vendor of OpenAI's dialect is told of the conversation so far."""

from typing import Any

import pytest

from providers.exchange import TOOL, body_of, content, conversation, dropped_of, refusal_of
from tidegate.domain.failures import Failure, FailureClass, FailureCode

# Messages


@pytest.mark.parametrize(
    ("vendor", "sent", "listed"),
    [
        ("openai", set(), {"reasoning", "reasoning_details", "annotations"}),
        ("groq", {"reasoning"}, {"reasoning_details", "annotations"}),
        ("deepseek", {"reasoning_content"}, {"reasoning_details", "annotations"}),
        ("zai", {"reasoning_content"}, {"reasoning_details", "annotations"}),
        ("openrouter", {"reasoning", "reasoning_details", "annotations"}, set()),
        ("snowflake", {"reasoning", "reasoning_details"}, {"annotations"}),
    ],
)
def test_what_was_thought_is_sent_back_only_where_it_is_taken(
    vendor: str, sent: set[str], listed: set[str]
) -> None:
    details = [{"type": "reasoning.text", "text": "hm", "signature": "c2ln"}]
    fields = conversation(content="well", reasoning="hm", reasoning_details=details, annotations=[{}])

    message = body_of(vendor, fields)["messages"][1]

    assert message.keys() == {"role", "content"} | sent
    assert message.get("reasoning_details", details) == details
    assert dropped_of(vendor, fields) == {f"messages[1].{name}" for name in listed}


def test_an_empty_thought_is_sent_back_too_and_never_listed() -> None:
    """DeepSeek refuses a tool call whose turn has no reasoning_content at all."""
    fields = conversation(reasoning="", annotations=[])

    assert body_of("deepseek", fields)["messages"][1] == {"role": "assistant", "reasoning_content": ""}
    assert dropped_of("openai", fields) == set()


def test_the_role_developer_is_sent_as_system_where_it_is_unknown() -> None:
    fields = {"messages": [{"role": "developer", "content": "be brief"}]}

    assert body_of("openai", fields)["messages"][0]["role"] == "developer"
    assert body_of("deepseek", fields)["messages"] == [{"role": "system", "content": "be brief"}]
    assert dropped_of("deepseek", fields) == set()


@pytest.mark.parametrize(
    ("vendor", "named"),
    [
        ("openai", {"user", "system", "assistant", "tool"}),
        ("groq", set()),
        ("mistral", {"tool"}),
        ("xai", {"user"}),
    ],
)
def test_names_go_only_to_roles_that_may_have_one(vendor: str, named: set[str]) -> None:
    roles = ("user", "system", "assistant", "tool")
    fields = {"messages": [{"role": role, "content": "x", "name": "n"} for role in roles]}

    sent = body_of(vendor, fields)["messages"]

    assert {message["role"] for message in sent if "name" in message} == named
    assert dropped_of(vendor, fields) == {
        f"messages[{i}].name" for i, role in enumerate(roles) if role not in named
    }


def test_a_tool_call_is_sent_back_with_its_type_and_without_its_index() -> None:
    call = {"index": 0, "id": "call_1", "function": {"name": "look", "arguments": "{not json"}}

    sent = body_of("openai", conversation(tool_calls=[call]))["messages"][1]["tool_calls"]

    assert sent == [{"type": "function", "id": "call_1", "function": call["function"]}]
    assert dropped_of("openai", conversation(tool_calls=[call])) == set()


def test_a_complete_tool_call_is_sent_back_as_it_is() -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": "{}"}}

    assert body_of("openai", conversation(tool_calls=[call]))["messages"][1]["tool_calls"] == [call]


def test_a_custom_tool_call_keeps_its_type() -> None:
    custom = {"id": "call_1", "type": "custom", "custom": {"name": "sql", "input": "select 1"}}
    typeless = {"id": "call_1", "custom": custom["custom"]}

    sent = body_of("openai", conversation(tool_calls=[custom | {"index": 3}, typeless]))

    assert sent["messages"][1]["tool_calls"] == [custom, custom]


def test_an_earlier_spoken_answer_is_referred_to_by_its_id() -> None:
    spoken = conversation(audio={"id": "audio_1", "data": "UklG", "transcript": "hi"})
    nameless = conversation(audio={"data": "UklG"})

    assert body_of("openai", spoken)["messages"][1]["audio"] == {"id": "audio_1"}
    assert dropped_of("openai", spoken) == {"messages[1].audio.data", "messages[1].audio.transcript"}
    assert "audio" not in body_of("openai", nameless)["messages"][1]
    assert dropped_of("openai", nameless) == {"messages[1].audio"}


# Content


def sent_parts(vendor: str, *parts: dict[str, Any]) -> Any:
    return body_of(vendor, content(*parts))["messages"][0]["content"]


@pytest.mark.parametrize(
    ("vendor", "is_kept"), [("openai", False), ("openrouter", True), ("dashscope", True), ("mock", True)]
)
def test_cache_control_goes_only_where_it_is_known(vendor: str, *, is_kept: bool) -> None:
    marked = {"cache_control": {"type": "ephemeral", "ttl": "5m"}}
    fields = content({"type": "text", "text": "long", **marked}) | {"tools": [{**TOOL, **marked}]}

    body = body_of(vendor, fields)

    assert ("cache_control" in body["messages"][0]["content"][0]) is is_kept
    assert ("cache_control" in body["tools"][0]) is is_kept
    paths = {"messages[0].content[0].cache_control", "tools[0].cache_control"}
    assert dropped_of(vendor, fields) == (set() if is_kept else paths)


DATA: dict[str, Any] = {
    "type": "file",
    "file": {"file_data": "data:application/pdf;base64,JVBE", "filename": "a.pdf"},
}
BY_ID: dict[str, Any] = {"type": "file", "file": {"file_id": "file-1"}}
BY_URL: dict[str, Any] = {
    "type": "file",
    "file": {"file_url": "https://example.com/a.pdf", "filename": "a.pdf"},
}


@pytest.mark.parametrize(
    ("vendor", "part", "expected"),
    [
        ("openai", DATA, DATA),
        ("openai", BY_ID, BY_ID),
        (
            "openai",
            {"type": "file", "file": {"file_data": "JVBE", "file_type": "application/pdf"}},
            {"type": "file", "file": {"file_data": "data:application/pdf;base64,JVBE"}},
        ),
        (
            "openrouter",
            BY_URL,
            {"type": "file", "file": {"file_data": "https://example.com/a.pdf", "filename": "a.pdf"}},
        ),
        (
            "mistral",
            DATA,
            {
                "type": "document_url",
                "document_url": "data:application/pdf;base64,JVBE",
                "document_name": "a.pdf",
            },
        ),
        (
            "mistral",
            BY_URL,
            {"type": "document_url", "document_url": "https://example.com/a.pdf", "document_name": "a.pdf"},
        ),
        ("mistral", BY_ID, {"type": "file", "file_id": "file-1"}),
    ],
)
def test_a_file_is_attached_in_the_vendors_form(vendor: str, part: Any, expected: Any) -> None:
    assert sent_parts(vendor, part) == [expected]
    assert dropped_of(vendor, content(part)) == set()


def test_what_a_file_part_cannot_say_is_listed() -> None:
    part = {"type": "file", "file": {**DATA["file"], "file_url": "https://x.example", "file_type": "pdf"}}

    assert sent_parts("openai", part) == [DATA]
    assert dropped_of("openai", content(part)) == {
        "messages[0].content[0].file.file_url",
        "messages[0].content[0].file.file_type",
    }


def test_sound_is_attached_in_the_vendors_form() -> None:
    part = {"type": "input_audio", "input_audio": {"data": "UklG", "format": "wav"}}

    assert sent_parts("openai", part) == [part]
    assert sent_parts("mistral", part) == [{"type": "input_audio", "input_audio": "UklG"}]
    assert dropped_of("mistral", content(part)) == {"messages[0].content[0].input_audio.format"}


@pytest.mark.parametrize(
    ("vendor", "part", "words"),
    [
        ("dashscope", DATA, "content of type file"),
        ("deepseek", BY_ID, "content of type file"),
        ("openai", BY_URL, "files by URL"),
        ("groq", BY_URL, "files by URL"),
    ],
)
def test_content_a_vendor_cannot_take_is_refused_before_it_is_sent(
    vendor: str, part: dict[str, Any], words: str
) -> None:
    failure = refusal_of(vendor, {"type": "text", "text": "read this"}, part)

    assert failure == Failure(FailureCode.UNSUPPORTED_CONTENT, f'provider "{vendor}" cannot take {words}')
    assert failure.failure_class is FailureClass.PERMANENT
    assert failure.job_status == 400
