"""One attempt: which candidates are asked in which order, whose error wins, what comes after."""

from typing import Any

import pytest

from support.attempts import (
    BODY,
    OK,
    UNREACHABLE,
    Bench,
    a_provider,
    a_virtual_key,
    error_of,
    refusal,
    result_of,
    seconds,
)
from tidegate.domain.access import ProviderGrant
from tidegate.domain.inference import Call
from tidegate.domain.jobs import Outcome, Postponed
from tidegate.domain.models import ProviderSetup

pytestmark = pytest.mark.anyio


def two_providers(**members: Any) -> tuple[ProviderSetup, ProviderSetup]:
    return a_provider(), a_provider("groq", **members)


async def test_a_candidate_that_is_no_longer_allowed_is_skipped() -> None:
    key = a_virtual_key(grants=(ProviderGrant("groq", ("*",)),))
    bench = Bench(*two_providers(), virtual_key=key)

    ending, calls = await bench.attempt("openai/gpt", "groq/llama")

    assert result_of(ending)["extra_fields"]["provider"] == "groq"
    assert calls[0] == Call(0, error_code="provider_blocked")


async def test_a_skipped_primary_is_permanent_and_its_error_wins() -> None:
    key = a_virtual_key(grants=(ProviderGrant("groq", ("*",)),))
    bench = Bench(*two_providers(), virtual_key=key)
    bench.vendors.will(refusal(503), provider="groq")

    ending, _ = await bench.attempt("openai/gpt", "groq/llama")

    found = error_of(ending)
    assert (found.code, found.outcome) == ("provider_blocked", Outcome.REFUSED)
    assert found.message == "provider 'openai' is not allowed for this virtual key"


@pytest.mark.parametrize("status", [400, 413, 422])
async def test_a_callers_fault_said_by_the_primary_ends_the_job(status: int) -> None:
    bench = Bench(*two_providers())
    bench.vendors.will(refusal(status))

    ending, calls = await bench.attempt("openai/gpt", "groq/llama")

    assert error_of(ending).status_code == status
    assert len(calls) == 1


async def test_a_callers_fault_said_by_a_fallback_ends_only_that_candidate() -> None:
    bench = Bench(a_provider(), a_provider("groq"), a_provider("xai"))
    bench.vendors.will(refusal(404))
    bench.vendors.will(refusal(400), provider="groq")

    ending, _ = await bench.attempt("openai/gpt", "groq/llama", "xai/grok")

    assert result_of(ending)["extra_fields"]["provider"] == "xai"


async def test_a_callers_fault_said_by_a_fallback_is_permanent() -> None:
    bench = Bench(*two_providers())
    bench.vendors.will(refusal(503))
    bench.vendors.will(refusal(400), provider="groq")

    ending, _ = await bench.attempt("openai/gpt", "groq/llama")

    assert error_of(ending).code == "upstream_server_error"


@pytest.mark.parametrize("status", [301, 404, 418, 501, 503, 429, 408])
async def test_any_other_failure_of_the_primary_leads_to_the_fallback(status: int) -> None:
    bench = Bench(*two_providers())
    bench.vendors.will(refusal(status))

    ending, _ = await bench.attempt("openai/gpt", "groq/llama")

    assert result_of(ending)["extra_fields"]["provider"] == "groq"


async def test_the_primarys_last_error_wins() -> None:
    bench = Bench(*two_providers())
    bench.vendors.will(refusal(503), refusal(500), refusal(409, message="conflict"))
    bench.vendors.will(refusal(501), provider="groq")

    ending, calls = await bench.attempt("openai/gpt", "groq/llama")

    found = error_of(ending)
    assert (found.code, found.status_code, found.message) == (
        "upstream_busy",
        409,
        "provider openai: conflict",
    )
    assert (found.provider, found.outcome) == ("openai", Outcome.PROVIDER_ERROR)
    assert [call.status_code for call in calls] == [503, 500, 409, 501]


async def test_a_candidate_named_twice_is_asked_once() -> None:
    bench = Bench()
    bench.vendors.will(refusal(503))

    ending, calls = await bench.attempt("openai/gpt", "openai/gpt", "openai/mini", "openai/gpt")

    assert bench.vendors.models == ["openai/gpt"] * 3 + ["openai/mini"] * 3
    assert [call for call in calls if call.provider is None] == [
        Call(1, error_code="duplicate_candidate"),
        Call(3, error_code="duplicate_candidate"),
    ]
    assert isinstance(ending, Postponed)


async def test_a_provider_that_is_no_longer_configured_has_no_key() -> None:
    bench = Bench()

    ending, calls = await bench.attempt("gone/model")

    found = error_of(ending)
    assert (found.code, found.status_code) == ("no_eligible_keys", 503)
    assert calls == [Call(0, error_code="no_eligible_keys")]


async def test_content_a_provider_cannot_take_is_not_sent_to_it() -> None:
    file = {"type": "file", "file": {"file_data": "data:text/plain;base64,aGk="}}
    bench = Bench(a_provider("deepseek", dialect="deepseek"), a_provider())

    ending, calls = await bench.attempt(
        "deepseek/chat", "openai/gpt", body={**BODY, "messages": [{"role": "user", "content": [file]}]}
    )

    assert bench.vendors.models == ["openai/gpt"]
    assert calls[0] == Call(0, error_code="unsupported_content")
    assert result_of(ending)["extra_fields"]["provider"] == "openai"


async def test_a_fallback_whose_lane_is_closed_is_skipped_and_transient() -> None:
    bench = Bench(*two_providers())
    bench.lanes["groq"].limited(bench.clock.monotonic(), 60)
    bench.vendors.will(refusal(503))

    ending, calls = await bench.attempt("openai/gpt", "groq/llama")

    assert calls[-1] == Call(1, error_code="provider_cooling")
    assert isinstance(ending, Postponed)


async def test_a_closed_lane_does_not_keep_a_claimed_job_from_its_primary() -> None:
    bench = Bench()
    bench.lanes["openai"].limited(bench.clock.monotonic(), 60)

    result_of((await bench.attempt())[0])


async def test_a_fallback_without_a_free_slot_is_skipped_and_transient() -> None:
    bench = Bench(*two_providers(concurrency=1))
    taken = await bench.slots.take("groq")
    bench.vendors.will(refusal(503))

    ending, calls = await bench.attempt("openai/gpt", "groq/llama")

    assert calls[-1] == Call(1, error_code="provider_busy")
    assert isinstance(ending, Postponed)
    taken.release()


# After the attempt


async def test_an_attempt_without_hope_of_success_now_is_postponed() -> None:
    bench = Bench(*two_providers())
    bench.vendors.will(UNREACHABLE)
    bench.vendors.will(refusal(429), provider="groq")

    ending, calls = await bench.attempt("openai/gpt", "groq/llama")

    assert ending == Postponed(seconds(11.25))
    assert len(calls) == 6


@pytest.mark.parametrize(("failed_before", "delay"), [(0, 11.25), (1, 22.5), (4, 180), (8, 225)])
async def test_postponements_grow(failed_before: int, delay: float) -> None:
    bench = Bench()
    bench.vendors.will(refusal(503))

    ending, _ = await bench.attempt(max_attempts=10, failed_attempts=failed_before)

    assert ending == Postponed(seconds(delay))


async def test_a_postponement_waits_for_the_smallest_retry_after() -> None:
    bench = Bench(*two_providers())
    bench.vendors.will(refusal(429, retry_after=300))
    bench.vendors.will(refusal(503, retry_after=45), provider="groq")

    ending, calls = await bench.attempt("openai/gpt", "groq/llama")

    assert ending == Postponed(seconds(45))
    assert [call.retry_after for call in calls] == [300, 45]


@pytest.mark.parametrize(("failed_before", "max_attempts"), [(2, 3), (0, 1), (9, 10)])
async def test_the_last_attempt_fails_the_job(failed_before: int, max_attempts: int) -> None:
    bench = Bench()
    bench.vendors.will(refusal(503))

    ending, _ = await bench.attempt(failed_attempts=failed_before, max_attempts=max_attempts)

    assert error_of(ending).status_code == 503


async def test_a_wait_past_the_deadline_fails_the_job_now() -> None:
    bench = Bench()
    bench.vendors.will(refusal(429, retry_after=500))

    ending, _ = await bench.attempt(time_left=400)

    assert error_of(ending).code == "upstream_rate_limited"


async def test_a_failure_that_heals_within_the_attempt_is_no_more_than_a_record() -> None:
    bench = Bench()
    bench.vendors.will(refusal(500), UNREACHABLE, OK)

    ending, calls = await bench.attempt()

    assert result_of(ending)["choices"]
    assert [call.error_code for call in calls] == [
        "upstream_server_error",
        "upstream_connection_failed",
        None,
    ]
