"""From stored bytes to what a dialect translates (contract §6.1, §6.2)."""

import json
from typing import Any

import pytest

from tidegate.domain.inference import InferenceRequest, RequestType
from tidegate.services.prepare_request import prepare_request

HELLO = [{"role": "user", "content": "hello"}]


def prepared(*, passes_extra_params: bool = False, **members: Any) -> InferenceRequest:
    body = json.dumps({"model": "openai/x", "messages": HELLO} | members).encode()
    return prepare_request(RequestType.CHAT_COMPLETION, body, passes_extra_params=passes_extra_params)


def fields(**members: Any) -> dict[str, Any]:
    """What is left besides the messages."""
    return {name: value for name, value in prepared(**members).fields.items() if name != "messages"}


@pytest.mark.parametrize(
    ("members", "expected", "dropped"),
    [
        pytest.param({}, {}, (), id="ours alone"),
        pytest.param({"fallbacks": ["a/b"], "stream": False}, {}, (), id="routing and streaming are ours"),
        pytest.param(
            {"stream_options": {"include_usage": True}}, {}, ("stream_options",), id="listed when sent"
        ),
        pytest.param({"stream_options": None}, {}, (), id="null is not sent"),
        pytest.param({"user": None, "x": None}, {}, ("x",), id="nulls go"),
        pytest.param({"stop": "end"}, {"stop": ["end"]}, (), id="stop as a string"),
        pytest.param({"stop": ["a", "b"]}, {"stop": ["a", "b"]}, (), id="stop as a list"),
        pytest.param({"stop": []}, {}, (), id="an empty stop is absent"),
        pytest.param({"stop": ""}, {"stop": [""]}, (), id="an empty string is a stop"),
        pytest.param({"max_tokens": 5}, {"max_completion_tokens": 5}, (), id="max_tokens maps"),
        pytest.param(
            {"max_tokens": 5, "max_completion_tokens": 6},
            {"max_completion_tokens": 6},
            ("max_tokens",),
            id="the newer name wins",
        ),
        pytest.param(
            {"max_tokens": 5, "max_completion_tokens": None}, {"max_completion_tokens": 5}, (), id="or null"
        ),
        pytest.param(
            {"reasoning_effort": "low", "reasoning_max_tokens": 9},
            {"reasoning": {"effort": "low", "max_tokens": 9}},
            (),
            id="reasoning aliases",
        ),
        pytest.param(
            {"reasoning": {"enabled": True, "effort": None}, "reasoning_effort": "low"},
            {"reasoning": {"enabled": True, "effort": "low"}},
            (),
            id="an alias beside a null",
        ),
        pytest.param(
            {"temperature": 1.0, "top_p": 0.5}, {"temperature": 1.0, "top_p": 0.5}, (), id="numbers stay"
        ),
        pytest.param(
            {"metadata": {"a": None, "x": {"y": 1}}},
            {"metadata": {"a": None, "x": {"y": 1}}},
            (),
            id="maps stay",
        ),
        pytest.param(
            {"reasoning": {"effort": "low", "x": 1}},
            {"reasoning": {"effort": "low"}},
            ("reasoning.x",),
            id="nested",
        ),
    ],
)
def test_members_have_one_name_and_one_form(
    members: dict[str, Any], expected: dict[str, Any], dropped: tuple[str, ...]
) -> None:
    assert fields(**members) == expected
    assert prepared(**members).dropped == dropped


@pytest.mark.parametrize("name", ["max_completion_tokens", "seed", "top_logprobs", "n"])
def test_a_whole_number_goes_out_as_an_integer(name: str) -> None:
    """A vendor may refuse ``5.0``."""
    value = fields(**{name: 5.0})[name]

    assert (value, type(value)) == (5, int)


@pytest.mark.parametrize(
    "members", [{"reasoning": {"max_tokens": 5.0}}, {"reasoning_max_tokens": 5.0}], ids=["nested", "alias"]
)
def test_so_does_the_one_within_reasoning(members: dict[str, Any]) -> None:
    assert json.dumps(fields(**members)) == '{"reasoning": {"max_tokens": 5}}'


def test_max_tokens_too() -> None:
    assert json.dumps(fields(max_tokens=5.0)) == '{"max_completion_tokens": 5}'


@pytest.mark.parametrize(
    ("message", "expected", "dropped"),
    [
        ({"reasoning_content": "why"}, {"reasoning": "why"}, ()),
        ({"reasoning_content": "why", "reasoning": None}, {"reasoning": "why"}, ()),
        (
            {"reasoning_content": "b", "reasoning": "a"},
            {"reasoning": "a"},
            ("messages[0].reasoning_content",),
        ),
        ({"reasoning_content": None}, {}, ()),
        ({"mood": "calm"}, {}, ("messages[0].mood",)),
    ],
    ids=str,
)
def test_63_messages(message: dict[str, Any], expected: dict[str, Any], dropped: tuple[str, ...]) -> None:
    request = prepared(messages=[{"role": "assistant"} | message])

    assert request.fields["messages"] == [{"role": "assistant"} | expected]
    assert request.dropped == dropped


class TestPassthrough:
    def test_unknown_members_stand_apart(self) -> None:
        request = prepared(passes_extra_params=True, mystery={"x": 1}, top_k=None, temperature=1)

        assert request.extra == {"mystery": {"x": 1}, "top_k": None}
        assert request.fields == {"messages": HELLO, "temperature": 1}
        assert request.dropped == ()

    def test_below_known_ones_they_stay_where_they_are(self) -> None:
        messages = [{"role": "user", "content": [{"type": "video", "video": {"url": "x"}}], "mood": None}]

        assert prepared(passes_extra_params=True, messages=messages).fields["messages"] == messages

    def test_an_alias_beside_a_null_is_not_lost(self) -> None:
        messages = [{"role": "assistant", "reasoning": None, "reasoning_content": "why"}]

        found = prepared(passes_extra_params=True, messages=messages).fields["messages"]

        assert found == [{"role": "assistant", "reasoning": "why"}]


def test_26_of_duplicate_members_the_last_wins() -> None:
    body = b'{"model":"a/b","messages":[],"user":"first","user":"last","messages":[{"role":"user"}]}'

    request = prepare_request(RequestType.CHAT_COMPLETION, body, passes_extra_params=False)

    assert request.fields == {"messages": [{"role": "user"}], "user": "last"}


def test_the_order_of_members_stays() -> None:
    """It can matter to models within a schema."""
    schema = {"zulu": {"b": 1, "a": 2}, "alpha": 1}
    tools = [{"type": "function", "function": {"name": "f", "parameters": schema}}]

    request = prepared(tools=tools, user="u", seed=1)

    assert list(request.fields) == ["messages", "tools", "user", "seed"]
    assert json.dumps(request.fields["tools"]) == json.dumps(tools)
