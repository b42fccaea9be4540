"""Replies with a good status that are failures all the same, and the promise that every reply is one or an answer."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.exchange import ANSWER, parse, with_choice
from tidegate.domain.failures import Failure, FailureClass, FailureCode
from tidegate.domain.inference import Completion, UpstreamDetail


def failure_of(body: object, **how: Any) -> Failure:
    failure = parse(body, **how)
    assert isinstance(failure, Failure)
    return failure


@pytest.mark.parametrize("reason", ["error", "abort", "network_error", "insufficient_system_resource"])
def test_a_finish_reason_that_says_failure_is_a_failure(reason: str) -> None:
    body = ANSWER | {"choices": [ANSWER["choices"][0], with_choice(finish_reason=reason)["choices"][0]]}

    assert failure_of(body).code is FailureCode.INVALID_RESPONSE


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"\x00\xff",
        b"<html>200 OK</html>",
        b'{"choices": [',
        b"[" * 100_000,
        b"[" * 500 + b"]" * 500,
        b"null",
        b'"text"',
        b"{}",
        b'{"choices": null}',
        b'{"choices": []}',
        b'{"choices": {}}',
        b'{"choices": [null]}',
        b'{"choices": [{}]}',
        b'{"choices": [{"message": null}]}',
        b'{"choices": [{"message": {"tool_calls": [1]}}]}',
        b'{"choices": [{"message": {"tool_calls": "x"}}]}',
        b'{"error": "something strange"}',
        b'{"error": {"message": "odd", "type": "unheard_of"}}',
    ],
    ids=lambda body: repr(body[:40]),
)
def test_a_reply_that_answers_nothing_is_unusable(body: bytes) -> None:
    failure = failure_of(body, vendor="groq", headers={"retry-after": "7"})

    assert failure.code is FailureCode.INVALID_RESPONSE
    assert failure.message == 'provider "groq" sent an unusable response'
    assert (failure.upstream_status, failure.retry_after, failure.was_sent) == (200, None, False)
    assert (failure.failure_class, failure.job_status) == (FailureClass.PERMANENT, 502)


def test_an_unusable_reply_can_be_found_at_the_vendor() -> None:
    failure = failure_of({"error": {"type": "unheard_of"}}, headers={"x-request-id": "req_1"})

    assert failure.upstream == UpstreamDetail("unheard_of", None, "req_1")


# Errors inside good replies


@pytest.mark.parametrize(
    ("error", "code", "status"),
    [
        ({"code": 502, "message": "Provider returned error"}, FailureCode.SERVER_ERROR, 502),
        ({"code": 429, "message": "slow down"}, FailureCode.RATE_LIMITED, 429),
        ({"code": "429", "message": "slow down"}, FailureCode.RATE_LIMITED, 429),
        ({"code": 402, "message": "out of credits"}, FailureCode.KEY_REFUSED, 402),
        ({"code": 400, "message": "maximum context length is 10"}, FailureCode.CONTEXT_LENGTH_EXCEEDED, 400),
        ({"code": 403, "metadata": {"flagged_input": "x"}}, FailureCode.CONTENT_POLICY_VIOLATION, 403),
        ({"type": "insufficient_quota", "message": "no"}, FailureCode.KEY_REFUSED, 429),
        ({"type": "rate_limit_error", "message": "no"}, FailureCode.RATE_LIMITED, 429),
        ({"type": "overloaded_error", "message": "no"}, FailureCode.SERVER_ERROR, 503),
        ({"type": "server_error", "message": "no"}, FailureCode.SERVER_ERROR, 500),
        ({"code": "model_not_found", "message": "no"}, FailureCode.MODEL_NOT_FOUND, 400),
        ({"type": "invalid_request_error", "message": "no"}, FailureCode.UPSTREAM_REJECTED, 400),
    ],
)
def test_an_error_in_a_good_reply_counts_as_the_status_it_would_have_had(
    error: dict[str, Any], code: FailureCode, status: int
) -> None:
    at_top = failure_of({"error": error}, vendor="openrouter", headers={"retry-after": "7"})
    in_choice = failure_of(with_choice(error=error, finish_reason="error"), vendor="openrouter")
    beside = failure_of(ANSWER | {"error": error}, vendor="openrouter")

    assert (at_top.code, at_top.upstream_status, at_top.retry_after) == (code, status, None)
    assert (in_choice.code, in_choice.upstream_status) == (code, status)
    assert (beside.code, beside.upstream_status) == (code, status)


# Anything at all

SHAPES = {
    "choices": st.lists(
        st.fixed_dictionaries(
            {},
            optional={
                "message": st.fixed_dictionaries(
                    {},
                    optional={
                        name: st.none()
                        | st.just("a")
                        | st.lists(st.dictionaries(st.just("type"), st.text("ab")))
                        for name in ("content", "tool_calls", "reasoning", "role", "audio")
                    },
                ),
                "finish_reason": st.none() | st.text("ab") | st.lists(st.none()),
                "index": st.none() | st.integers(0, 3),
            },
        ),
        max_size=2,
    ),
    "usage": st.none() | st.dictionaries(st.sampled_from(["prompt_tokens", "cost"]), st.floats() | st.none()),
    "error": st.none()
    | st.text("ab")
    | st.lists(st.text("ab"))
    | st.dictionaries(st.just("code"), st.integers()),
}
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 600) | st.text("ab"),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*SHAPES, "id"]), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(body=ANYTHING | st.fixed_dictionaries({}, optional=SHAPES))
def test_any_json_is_an_answer_or_a_failure(body: object) -> None:
    raw = json.dumps(body).encode()

    outcome = parse(raw)

    if isinstance(outcome, Completion):
        assert outcome.result["object"] == "chat.completion"
        assert outcome.result["id"]
        assert all(choice["finish_reason"] for choice in outcome.result["choices"])
        assert msgspec.json.encode(outcome.result)
    else:
        assert outcome.message


@given(raw=st.binary(max_size=50))
def test_any_bytes_are_an_answer_or_a_failure(raw: bytes) -> None:
    assert isinstance(parse(raw), Failure)
