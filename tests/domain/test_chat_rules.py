"""The rules of a chat request as values: what HTTP says about them stands in tests/api."""

from typing import Any

import msgspec
import pytest

from tidegate.domain.chat import ChatRequest
from tidegate.domain.chat_rules import LARGEST_METADATA, check_required, check_values
from tidegate.domain.errors import InvalidRequest

HELLO = {"role": "user", "content": "hello"}


def request(**members: Any) -> ChatRequest:
    return msgspec.convert({"model": "openai/x", "messages": [HELLO]} | members, ChatRequest)


def refusal(*, passes_extra_params: bool = False, **members: Any) -> str | None:
    """The code and the member at fault, or nothing."""
    try:
        check_required(request(**members))
        check_values(request(**members), passes_extra_params=passes_extra_params)
    except InvalidRequest as error:
        return f"{error.code} {error.param}"
    return None


def of_member(name: str, value: Any) -> str | None:
    members: dict[str, Any] = {name: value}
    return refusal(**members)


@pytest.mark.parametrize("messages", [None, []], ids=repr)
def test_messages_are_required(messages: Any) -> None:
    assert refusal(messages=messages) == "missing_required_parameter messages"


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("frequency_penalty", (-2, -2.0, 0, 2), (-2.01, 2.01)),
        ("presence_penalty", (-2, 2), (-3, 3)),
        ("temperature", (0, 2, 0.1), (-0.1, 2.1, 1e300)),
        ("top_p", (0, 1), (-0.1, 1.1)),
        ("top_logprobs", (0, 20, 5.0), (-1, 21)),
        ("max_completion_tokens", (1, 10**12, 1.0), (0, -1)),
        ("max_tokens", (1, 1.0), (0,)),
        ("n", (1, 128), (0,)),
        ("seed", (-(2**63), 2**63 - 1, 0, 5.0), (2**63, -(2**63) - 1, 1e19)),
        ("reasoning_max_tokens", (1, 5.0), (0,)),
    ],
)
def test_ranges(name: str, good: tuple[float, ...], bad: tuple[float, ...]) -> None:
    for value in good:
        assert of_member(name, value) is None, value
    for value in bad:
        assert of_member(name, value) == f"out_of_range {name}", value


@pytest.mark.parametrize(
    "name", ["top_logprobs", "max_completion_tokens", "max_tokens", "n", "seed", "reasoning_max_tokens"]
)
def test_a_fraction_is_no_integer(name: str) -> None:
    assert of_member(name, 1.5) == f"invalid_type {name}"


@pytest.mark.parametrize(
    ("size", "expected"), [(LARGEST_METADATA, None), (LARGEST_METADATA + 1, "too_large metadata")]
)
def test_the_size_of_metadata_is_that_of_its_json(size: int, expected: str | None) -> None:
    assert refusal(metadata={"a": "x" * (size - len('{"a":""}'))}) == expected


def test_metadata_counts_bytes_and_not_characters() -> None:
    assert refusal(metadata={"a": "é" * (LARGEST_METADATA // 2)}) == "too_large metadata"


def test_of_several_mistakes_the_first_is_told() -> None:
    """Ranges, then nested schemas, then conflicts, then stream."""
    conflict: dict[str, Any] = {"reasoning": {"effort": "low"}, "reasoning_effort": "low"}
    nested: dict[str, Any] = {"tools": [{}]}

    assert refusal(temperature=3, stream=True, **nested, **conflict) == "out_of_range temperature"
    assert refusal(stream=True, **nested, **conflict) == "missing_required_parameter tools[0].type"
    assert refusal(stream=True, **conflict) == "conflicting_parameters reasoning_effort"
    assert refusal(stream=True) == "stream_not_supported stream"
    assert refusal(stream=False) is None


@pytest.mark.parametrize(
    ("members", "without", "with_passthrough"),
    [
        (
            {"messages": [{"role": "user", "content": [{"type": "video"}]}]},
            "invalid_value messages[0].content[0].type",
            None,
        ),
        (
            {"messages": [{"role": "user", "content": [{}]}]},
            "missing_required_parameter messages[0].content[0].type",
            "missing_required_parameter messages[0].content[0].type",
        ),
        ({"tools": [{"type": "web_search"}]}, "invalid_value tools[0].type", None),
        (
            {"tools": [{"type": "web_search"}, {"type": "function"}]},
            "invalid_value tools[0].type",
            "missing_required_parameter tools[1].function.name",
        ),
        (
            {"prediction": {"type": "content", "content": [{"type": "image_url"}]}},
            "invalid_value prediction.content[0].type",
            None,
        ),
        ({"verbosity": "max"}, "invalid_value verbosity", "invalid_value verbosity"),
    ],
)
def test_passthrough_admits_the_vendor_s_own_forms_only(
    members: dict[str, Any], without: str, with_passthrough: str | None
) -> None:
    assert refusal(**members) == without
    assert refusal(passes_extra_params=True, **members) == with_passthrough


def test_a_schema_given_as_text_may_be_deep_and_must_be_an_object() -> None:
    def parameters(text: str) -> str | None:
        return refusal(tools=[{"type": "function", "function": {"name": "f", "parameters": text}}])

    assert parameters('{"type": "object"}') is None
    for text in ("", "[]", "1", "{", '{"a":' * 2000):
        assert parameters(text) == "invalid_value tools[0].function.parameters", text[:20]
