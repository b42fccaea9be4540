"""One attempt: who may still run it, what its result says, what is kept of its calls."""

from typing import Any

import msgspec
import pytest

from support.attempts import (
    BODY,
    COMPLETION,
    UNREACHABLE,
    USAGE,
    Answer,
    Bench,
    a_provider,
    a_virtual_key,
    completion,
    error_of,
    refusal,
    result_of,
    seconds,
)
from tidegate.domain.access import KeyId, ProviderGrant
from tidegate.domain.failures import Failure, FailureCode
from tidegate.domain.inference import Call, UpstreamDetail
from tidegate.domain.jobs import Outcome

pytestmark = pytest.mark.anyio

EXTRA = {
    "request_type": "chat_completion",
    "provider": "openai",
    "model_requested": "openai/gpt",
    "original_model_requested": "openai/gpt",
    "resolved_model_used": "gpt",
    "latency": 0,
}


# The result and the record of a good call


async def test_a_good_answer_becomes_the_result() -> None:
    bench = Bench()

    ending, calls = await bench.attempt()

    assert result_of(ending) == {**COMPLETION, "extra_fields": EXTRA}
    now = bench.clock.now()
    assert calls == [
        Call(0, "openai", "gpt", "main", now, now, status_code=200, usage=USAGE, billing="known")
    ]


async def test_the_latency_is_that_of_the_successful_call() -> None:
    bench = Bench()
    bench.vendors.will(refusal(503, takes=9), Answer(takes=5.4126))

    ending, _ = await bench.attempt()

    assert result_of(ending)["extra_fields"]["latency"] == 5413


async def test_the_extra_fields_name_the_provider_that_answered_and_the_model_that_was_asked_for() -> None:
    bench = Bench(a_provider(), a_provider("groq"))
    bench.vendors.will(refusal(404))

    ending, calls = await bench.attempt("openai/gpt", "groq/llama", model="gpt")

    assert result_of(ending)["extra_fields"] == {
        **EXTRA,
        "provider": "groq",
        "model_requested": "gpt",
        "original_model_requested": "gpt",
        "resolved_model_used": "llama",
    }
    assert [(call.candidate, call.provider, call.model) for call in calls] == [
        (0, "openai", "gpt"),
        (1, "groq", "llama"),
    ]


async def test_what_went_nowhere_is_listed_ours_first_then_the_vendors() -> None:
    bench = Bench()

    ending, _ = await bench.attempt(body={**BODY, "truncation": "auto", "colour": "red"})

    assert result_of(ending)["extra_fields"]["dropped_params"] == ["colour", "truncation"]
    assert bench.vendors.sent[0].body.keys() == {"model", "messages"}


async def test_unknown_members_reach_the_vendor_when_the_job_says_so() -> None:
    bench = Bench()

    ending, _ = await bench.attempt(body={**BODY, "colour": "red"}, passes_extra_params=True)

    assert bench.vendors.sent[0].body["colour"] == "red"
    assert "dropped_params" not in result_of(ending)["extra_fields"]


async def test_request_ids_and_limits_of_the_vendor_are_kept() -> None:
    bench = Bench()
    bench.vendors.will(Answer(headers={"x-request-id": "req-7", "set-cookie": "s=1"}))

    ending, _ = await bench.attempt()

    assert result_of(ending)["extra_fields"]["provider_response_headers"] == {"x-request-id": "req-7"}


async def test_an_answer_of_the_mock_says_that_it_is_simulated() -> None:
    bench = Bench(a_provider("mock", dialect="mock"))

    ending, calls = await bench.attempt("mock/echo")

    assert result_of(ending)["extra_fields"]["simulated"] is True
    assert calls[0].simulated


async def test_a_result_names_a_model_even_if_the_vendor_does_not() -> None:
    bench = Bench()
    bench.vendors.will(completion(model=None))

    ending, _ = await bench.attempt()

    assert result_of(ending)["model"] == "gpt"


async def test_without_usage_it_is_not_known_what_was_billed() -> None:
    bench = Bench()
    bench.vendors.will(completion(usage=None))

    _, calls = await bench.attempt()

    assert (calls[0].usage, calls[0].billing) == (None, "unknown")


async def test_the_vendor_sees_the_candidates_model_and_the_keys_secret() -> None:
    bench = Bench()

    await bench.attempt("openai/org/gpt")

    (sent,) = bench.vendors.sent
    assert (sent.model, sent.key, sent.time_limit) == ("org/gpt", "sk-main", seconds(600))


# The record of a failed call

FAILED_CALLS: dict[str, tuple[Answer, dict[str, Any]]] = {
    "refusal": (
        refusal(
            422,
            message="too hot",
            type="invalid_request_error",
            code="bad",
            headers={"x-request-id": "req-1"},
        ),
        {
            "status_code": 422,
            "error_code": "upstream_rejected",
            "message": "provider openai: too hot",
            "billing": "none",
            "upstream": UpstreamDetail("invalid_request_error", "bad", "req-1"),
        },
    ),
    "rate limit": (
        refusal(429, retry_after=40.2),
        {
            "status_code": 429,
            "error_code": "upstream_rate_limited",
            "message": "provider openai: no",
            "retry_after": 41,
            "billing": "none",
        },
    ),
    "never reached": (
        UNREACHABLE,
        {
            "error_code": "upstream_connection_failed",
            "message": 'could not reach provider "x"',
            "billing": "none",
        },
    ),
    "broken off": (
        Answer(failure=Failure(FailureCode.CONNECTION_FAILED, "reset", upstream_status=200, was_sent=True)),
        {
            "status_code": 200,
            "error_code": "upstream_connection_failed",
            "message": "reset",
            "billing": "unknown",
        },
    ),
    "unusable": (
        Answer(body=b"<html>"),
        {
            "status_code": 200,
            "error_code": "upstream_invalid_response",
            "message": 'provider "openai" sent an unusable response',
            "billing": "unknown",
        },
    ),
}


@pytest.mark.parametrize(("answer", "facts"), FAILED_CALLS.values(), ids=FAILED_CALLS)
async def test_a_failed_call_is_recorded(answer: Answer, facts: dict[str, Any]) -> None:
    bench = Bench(a_provider())
    bench.vendors.will(answer)
    now = bench.clock.now()

    _, calls = await bench.attempt(max_attempts=1)

    assert calls[0] == Call(0, "openai", "gpt", "main", now, now, **facts)


async def test_a_call_is_on_record_with_when_it_began_and_ended() -> None:
    bench = Bench()
    bench.vendors.will(refusal(400, takes=2.5))
    now = bench.clock.now()

    _, (call,) = await bench.attempt()

    assert (call.started_at, call.ended_at) == (now, now + seconds(2.5))


@pytest.mark.parametrize("place", ["transport", "dialect"])
async def test_a_defect_leaves_its_call_on_record(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    if place == "transport":
        bench.vendors.will(Answer(error=ValueError("a call that must not be made")))
    else:

        def stumble(*_: object) -> None:
            raise KeyError("defect")

        monkeypatch.setattr(type(bench.tools.dialects["openai"]), "parse", stumble)
    run = bench.run()

    with pytest.raises((ValueError, KeyError)):
        await run.execute()

    assert [(call.key, call.billing) for call in run.calls] == [("main", "unknown")]
    assert not run.is_calling


async def test_a_body_that_cannot_be_read_is_a_defect_before_any_call() -> None:
    bench = Bench()
    run = bench.run(body=b'{"model": "openai/gpt", "mess')

    with pytest.raises(msgspec.DecodeError):
        await run.execute()

    assert (run.calls, bench.vendors.sent) == ([], [])


# The virtual key is checked again

VANISHED_RIGHTS: dict[str, tuple[dict[str, Any] | None, tuple[str, int]]] = {
    "deleted": (None, ("virtual_key_not_found", 401)),
    "inactive": ({"is_active": False}, ("virtual_key_blocked", 403)),
    "expired": ({"expires_at": Bench().clock.now()}, ("virtual_key_expired", 401)),
    "inactive and expired": (
        {"is_active": False, "expires_at": Bench().clock.now()},
        ("virtual_key_blocked", 403),
    ),
    "provider no longer allowed": ({"grants": ()}, ("provider_blocked", 403)),
    "model no longer allowed": (
        {"grants": (ProviderGrant("openai", ("other",)),)},
        ("model_blocked", 403),
    ),
}


@pytest.mark.parametrize(("members", "error"), VANISHED_RIGHTS.values(), ids=VANISHED_RIGHTS)
async def test_rights_that_are_gone_end_the_job_without_a_call(
    members: dict[str, Any] | None, error: tuple[str, int]
) -> None:
    bench = Bench(virtual_key=a_virtual_key(**(members or {})))
    key_id = KeyId("deleted") if members is None else KeyId("vk")

    ending, _ = await bench.attempt(key_id=key_id)

    found = error_of(ending)
    assert (found.code, found.status_code) == error
    assert found.outcome is Outcome.REFUSED
    assert bench.vendors.sent == []


async def test_jobs_of_nobody_in_particular_have_no_key_to_check() -> None:
    bench = Bench()

    result_of((await bench.attempt())[0])

    assert bench.key_shelf.looked_up == []
