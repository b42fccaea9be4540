"""What an attempt tells the lane, which all jobs of a provider share."""

from typing import Any

import pytest

from support.attempts import (
    BODY,
    OK,
    QUOTA,
    UNREACHABLE,
    Answer,
    Bench,
    SteadyRng,
    a_key,
    a_provider,
    a_virtual_key,
    refusal,
    result_of,
)
from tidegate.domain.access import ProviderGrant
from tidegate.domain.lane_state import FAILURES_IN_A_ROW
from tidegate.domain.retry import RetryPolicy

pytestmark = pytest.mark.anyio

ONCE = RetryPolicy(max_retries=0)


def a_bench(*keys: str, **members: Any) -> Bench:
    """Every attempt is one call to the first key that is left."""
    return Bench(
        a_provider("openai", *map(a_key, keys or ("main",)), retry=ONCE),
        a_provider("groq", retry=ONCE),
        rng=SteadyRng(0.0),
        **members,
    )


async def after(bench: Bench, answer: Answer, times: int) -> float:
    """For how long the lane is closed after so many attempts that meet with this answer."""
    bench.vendors.will(answer)
    for _ in range(times):
        await bench.attempt()
    return closed_for(bench)


def closed_for(bench: Bench, lane: str = "openai") -> float:
    return bench.lanes[lane].opens_in(bench.clock.monotonic())


@pytest.mark.parametrize(
    "answer",
    [refusal(500), refusal(408), refusal(409), UNREACHABLE, Answer(takes=601), refusal(429)],
    ids=["500", "408", "409", "network", "timeout", "429"],
)
async def test_transient_failures_in_a_row_close_the_lane(answer: Answer) -> None:
    bench = a_bench()

    assert await after(bench, answer, FAILURES_IN_A_ROW - 1) == 0
    assert await after(bench, answer, 1) == 15


@pytest.mark.parametrize(
    "answer",
    [refusal(400), refusal(401), refusal(404), QUOTA, Answer(body=b"{}")],
    ids=["400", "401", "404", "quota", "unusable"],
)
async def test_refusals_close_no_lane_and_break_the_row(answer: Answer) -> None:
    bench = a_bench()
    await after(bench, refusal(500), FAILURES_IN_A_ROW - 1)

    assert await after(bench, answer, 20) == 0
    assert await after(bench, refusal(500), FAILURES_IN_A_ROW - 1) == 0


async def test_a_success_breaks_the_row() -> None:
    bench = a_bench()
    await after(bench, refusal(500), FAILURES_IN_A_ROW - 1)
    await after(bench, OK, 1)

    assert await after(bench, refusal(500), FAILURES_IN_A_ROW - 1) == 0


async def test_what_was_never_sent_says_nothing_about_the_provider() -> None:
    bench = Bench(a_provider("deepseek", dialect="deepseek", retry=ONCE))
    file = {"type": "file", "file": {"file_data": "data:text/plain;base64,aGk="}}
    bench.vendors.will(refusal(500), provider="deepseek")
    for _ in range(FAILURES_IN_A_ROW - 1):
        await bench.attempt("deepseek/chat")

    await bench.attempt("deepseek/chat", body={**BODY, "messages": [{"role": "user", "content": [file]}]})
    await bench.attempt("deepseek/chat")

    assert closed_for(bench, "deepseek") == 15


async def test_callers_in_a_hurry_close_no_lane() -> None:
    bench = a_bench()
    bench.vendors.will(Answer(takes=5))

    for _ in range(FAILURES_IN_A_ROW):
        await bench.attempt(time_left=1)

    assert closed_for(bench) == 0


async def test_a_retry_after_closes_the_lane_for_that_long() -> None:
    assert await after(a_bench(), refusal(429, retry_after=20), 1) == 20


async def test_the_retry_after_of_another_failure_closes_no_lane() -> None:
    assert await after(a_bench(), refusal(503, retry_after=20), 1) == 0


async def test_a_limit_on_one_of_several_keys_closes_no_lane() -> None:
    bench = a_bench("a", "b")

    assert await after(bench, refusal(429, retry_after=20), 3 * FAILURES_IN_A_ROW) == 0


async def test_a_limit_on_the_last_key_closes_the_lane() -> None:
    bench = Bench(
        a_provider("openai", a_key("a"), a_key("b"), retry=RetryPolicy(max_retries=1)), rng=SteadyRng(0.0)
    )
    bench.vendors.will(refusal(429, retry_after=50), refusal(429, retry_after=20))

    await bench.attempt()

    assert closed_for(bench) == 20


async def test_a_limit_on_the_last_living_key_closes_the_lane() -> None:
    bench = a_bench("a", "b")
    bench.vendors.will(refusal(401), refusal(429, retry_after=20))

    await bench.attempt()

    assert closed_for(bench) == 20


async def test_a_virtual_key_confined_to_a_limited_key_closes_nobody_elses_lane() -> None:
    confined = a_virtual_key(grants=(ProviderGrant("openai", ("*",), key_ids=("a",)),))
    bench = a_bench("a", "b", virtual_key=confined)

    assert await after(bench, refusal(429, retry_after=20), 3) == 0


async def test_a_success_of_a_retry_opens_the_lane() -> None:
    bench = Bench()
    bench.vendors.will(refusal(429, retry_after=20), OK)

    result_of((await bench.attempt())[0])

    assert bench.lanes["openai"].capacity(8, 1, bench.clock.monotonic()) == 7


async def test_a_fallback_that_probes_keeps_the_others_away_until_it_is_answered() -> None:
    bench = a_bench()
    bench.lanes["groq"].limited(bench.clock.monotonic(), 1)
    bench.vendors.will(refusal(404, takes=2))
    bench.vendors.will(refusal(500), provider="groq")

    _, probing = await bench.attempt("openai/gpt", "groq/llama")
    _, skipped = await bench.attempt("openai/gpt", "groq/llama")

    assert [call.error_code for call in probing] == ["model_not_found", "upstream_server_error"]
    assert [call.error_code for call in skipped] == ["model_not_found", "provider_cooling"]
    assert closed_for(bench, "groq") == 13
