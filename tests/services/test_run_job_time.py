"""One attempt in time: pauses, deadlines, slots, leaving early, being cancelled."""

import asyncio
from typing import Any

import pytest

from support.attempts import (
    HANG,
    OK,
    UNREACHABLE,
    Answer,
    Bench,
    a_provider,
    error_of,
    refusal,
    result_of,
    seconds,
    within,
)
from tidegate.domain.failures import Failure, FailureCode
from tidegate.domain.jobs import DEADLINE_EXCEEDED, Postponed
from tidegate.domain.retry import RetryPolicy
from tidegate.services.run_job import JobRun, LeftEarly

pytestmark = pytest.mark.anyio


def quick(**members: Any) -> Bench:
    """One provider whose calls may last a minute."""
    return Bench(a_provider(**({"call_timeout": seconds(60)} | members)))


async def started(bench: Bench, run: JobRun) -> asyncio.Task[Any]:
    """The attempt, with its first call under way."""
    task = asyncio.create_task(run.execute())
    await within(bench.vendors.called.wait())
    return task


async def steps() -> None:
    """Let everybody go on who can."""
    for _ in range(5):
        await asyncio.sleep(0)


# Pauses


async def test_retries_follow_after_growing_pauses() -> None:
    bench = Bench(a_provider(retry=RetryPolicy(max_retries=5)))
    bench.vendors.will(UNREACHABLE)

    _, calls = await bench.attempt()

    assert bench.clock.slept == [seconds(value) for value in (0.25, 0.5, 1, 2, 2.5)]
    assert len(calls) == 6


async def test_retry_after_is_waited_for_where_it_is_short() -> None:
    bench = quick()
    bench.vendors.will(refusal(503, retry_after=30), refusal(429, retry_after=0.1), OK)

    result_of((await bench.attempt())[0])

    assert bench.clock.slept == [seconds(30), seconds(0.5)]


async def test_a_long_retry_after_ends_the_candidate_and_is_kept_for_the_next_attempt() -> None:
    bench = quick()
    bench.vendors.will(refusal(429, retry_after=31))

    ending, calls = await bench.attempt()

    assert ending == Postponed(seconds(31))
    assert (len(calls), bench.clock.slept) == (1, [])


@pytest.mark.parametrize("nonsense", ["-5", "junk", "1e999", ""])
async def test_a_nonsensical_retry_after_asks_for_nothing(nonsense: str) -> None:
    bench = quick()
    bench.vendors.will(refusal(429, headers={"retry-after": nonsense}), OK)

    result_of((await bench.attempt())[0])

    assert bench.clock.slept == [seconds(0.25)]


async def test_a_wish_beyond_all_reason_sleeps_past_no_deadline() -> None:
    bench = quick()
    bench.vendors.will(refusal(429, retry_after=1e9))

    ending, _ = await bench.attempt()

    assert error_of(ending).code == "upstream_rate_limited"
    assert bench.clock.slept == []


# Deadlines


async def test_a_call_that_is_not_answered_in_time_is_repeated() -> None:
    bench = quick()
    bench.vendors.will(Answer(takes=61), OK)

    ending, calls = await bench.attempt()

    result_of(ending)
    assert [call.time_limit for call in bench.vendors.sent] == [seconds(60)] * 2
    assert (calls[0].error_code, calls[0].billing) == ("upstream_timeout", "unknown")


async def test_a_call_lasts_no_longer_than_the_job() -> None:
    bench = Bench(a_provider(call_timeout=seconds(60)), a_provider("groq"))
    bench.vendors.will(Answer(takes=61))

    ending, calls = await bench.attempt("openai/gpt", "groq/llama", time_left=40)

    assert error_of(ending) == DEADLINE_EXCEEDED
    assert bench.vendors.sent[0].time_limit == seconds(40)
    assert [(call.error_code, call.billing) for call in calls] == [("upstream_timeout", "unknown")]


async def test_the_deadline_is_told_apart_from_a_slow_provider() -> None:
    bench = quick()
    bench.vendors.will(Answer(takes=61))

    in_time, _ = await bench.attempt()
    late, _ = await bench.attempt(time_left=40)

    assert isinstance(in_time, Postponed)
    assert error_of(late) == DEADLINE_EXCEEDED


async def test_an_answer_just_before_the_deadline_counts() -> None:
    bench = quick()
    bench.vendors.will(Answer(takes=39.999))

    result_of((await bench.attempt(time_left=40))[0])


async def test_a_vendor_that_gives_up_is_not_taken_for_the_deadline() -> None:
    bench = Bench(a_provider(call_timeout=seconds(60)), a_provider("groq"))
    bench.vendors.will(refusal(408, takes=5))

    ending, _ = await bench.attempt("openai/gpt", "groq/llama", time_left=40)

    assert result_of(ending)["extra_fields"]["provider"] == "groq"


async def test_a_silence_that_ends_a_call_early_is_not_taken_for_the_deadline() -> None:
    bench = Bench(a_provider(), a_provider("groq"))
    silence = Failure(FailureCode.TIMEOUT, "no answer (idle)", upstream_status=200, was_sent=True)
    bench.vendors.will(Answer(takes=60, failure=silence))

    ending, calls = await bench.attempt("openai/gpt", "groq/llama", time_left=300)

    assert result_of(ending)["extra_fields"]["provider"] == "groq"
    assert calls[0].error_code == "upstream_timeout"


async def test_no_retry_begins_after_the_deadline() -> None:
    bench = quick()
    bench.vendors.will(refusal(503, retry_after=20, takes=25))

    ending, calls = await bench.attempt(time_left=40)

    assert (error_of(ending).code, len(calls)) == ("upstream_server_error", 1)
    assert bench.clock.slept == []


async def test_a_fallback_gets_the_time_that_is_left() -> None:
    bench = Bench(a_provider(retry=RetryPolicy(max_retries=0)), a_provider("groq"))
    bench.vendors.will(refusal(503, takes=30))

    result_of((await bench.attempt("openai/gpt", "groq/llama", time_left=40))[0])

    assert bench.vendors.sent[1].time_limit == seconds(10)


async def test_no_fallback_is_called_when_the_time_is_up() -> None:
    bench = Bench(a_provider(), a_provider("groq"))
    bench.vendors.will(refusal(404, takes=39.995))

    ending, _ = await bench.attempt("openai/gpt", "groq/llama", time_left=40)

    assert error_of(ending) == DEADLINE_EXCEEDED
    assert bench.vendors.models == ["openai/gpt"]


async def test_the_deadline_may_strike_while_a_job_waits_for_a_slot() -> None:
    bench = quick(concurrency=1)
    taken = await bench.slots.take("openai")
    task = asyncio.create_task(bench.run(time_left=40).execute())
    await steps()

    bench.clock.advance(seconds(40))
    taken.release()

    assert error_of(await within(task)) == DEADLINE_EXCEEDED
    assert bench.vendors.sent == []


# Slots


async def test_a_primary_waits_for_a_slot() -> None:
    bench = quick(concurrency=1)
    taken = await bench.slots.take("openai")
    task = asyncio.create_task(bench.run().execute())
    await steps()
    assert bench.vendors.sent == []

    taken.release()

    result_of(await within(task))


async def test_a_job_that_waits_for_its_retry_holds_no_slot() -> None:
    bench = quick(concurrency=1)
    bench.vendors.will(refusal(503), OK)
    task = await started(bench, bench.run())
    await steps()
    assert bench.clock.slept

    assert bench.slots.has_room("openai")

    bench.clock.advance(bench.clock.slept[0])
    result_of(await within(task))


@pytest.mark.parametrize(
    "answer",
    [OK, refusal(400), Answer(error=ValueError("defect"))],
    ids=["success", "failure", "defect"],
)
async def test_a_slot_is_given_back_however_the_call_ends(answer: Answer) -> None:
    bench = quick(concurrency=1)
    bench.vendors.will(answer)

    await asyncio.gather(bench.run().execute(), return_exceptions=True)

    assert bench.slots.has_room("openai")


async def test_an_abandoned_attempt_loses_its_slot_and_gives_back_none_later() -> None:
    bench = quick(concurrency=1)
    bench.vendors.will(HANG)
    run = bench.run()
    task = await started(bench, run)
    assert not bench.slots.has_room("openai")

    run.abandon()
    run.abandon()

    taken = await bench.slots.take("openai")
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert not bench.slots.has_room("openai")
    taken.release()


async def test_an_attempt_without_a_call_can_be_abandoned() -> None:
    bench = quick(concurrency=1)

    bench.run().abandon()

    assert bench.slots.has_room("openai")


# Leaving early


async def test_an_attempt_that_is_told_to_leave_begins_no_call() -> None:
    bench = quick()
    run = bench.run()
    run.leave()

    with pytest.raises(LeftEarly):
        await run.execute()

    assert (bench.vendors.sent, run.calls) == ([], [])


async def test_a_call_under_way_is_finished() -> None:
    bench = quick()
    bench.vendors.answering.clear()
    run = bench.run()
    task = await started(bench, run)

    run.leave()
    bench.vendors.answering.set()

    result_of(await within(task))


async def test_only_while_a_vendor_works_an_attempt_is_calling() -> None:
    bench = quick(concurrency=1)
    bench.vendors.answering.clear()
    run = bench.run()
    taken = await bench.slots.take("openai")
    task = asyncio.create_task(run.execute())
    await steps()
    seen = [run.is_calling]

    taken.release()
    await within(bench.vendors.called.wait())
    seen.append(run.is_calling)
    bench.vendors.answering.set()
    await within(task)
    seen.append(run.is_calling)

    assert seen == [False, True, False]


@pytest.mark.parametrize(
    "answer",
    [refusal(503, retry_after=30), refusal(401), refusal(404)],
    ids=["retry", "next key", "fallback"],
)
async def test_after_the_call_under_way_nothing_is_waited_for_or_tried(answer: Answer) -> None:
    bench = Bench(a_provider(), a_provider("groq"))
    bench.vendors.will(answer)
    bench.vendors.answering.clear()
    run = bench.run("openai/gpt", "groq/llama")
    task = await started(bench, run)

    run.leave()
    bench.vendors.answering.set()

    with pytest.raises(LeftEarly):
        await within(task)
    assert [call.status_code for call in run.calls if call.provider] == [answer.status]
    assert bench.clock.slept == []


async def test_a_job_that_ends_with_the_call_under_way_ends() -> None:
    bench = quick()
    bench.vendors.will(refusal(400))
    bench.vendors.answering.clear()
    run = bench.run()
    task = await started(bench, run)

    run.leave()
    bench.vendors.answering.set()

    assert error_of(await within(task)).status_code == 400


# Cancelling


async def test_cancelling_closes_the_call_and_keeps_its_record() -> None:
    bench = quick(concurrency=1)
    bench.vendors.will(HANG)
    run = bench.run()
    task = await started(bench, run)
    assert run.is_calling

    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await within(task)
    now = bench.clock.now()
    (call,) = run.calls
    assert (call.key, call.started_at, call.ended_at, call.billing) == ("main", now, now, "unknown")
    assert (call.status_code, call.error_code) == (None, None)
    assert bench.slots.has_room("openai")


async def test_cancelling_ends_a_pause() -> None:
    bench = quick()
    bench.vendors.will(refusal(503))
    run = bench.run()
    task = await started(bench, run)
    await steps()
    assert not run.is_calling

    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await within(task)
    assert [call.status_code for call in run.calls] == [503]


async def test_cancelling_ends_the_wait_for_a_slot() -> None:
    bench = quick(concurrency=1)
    taken = await bench.slots.take("openai")
    run = bench.run()
    task = asyncio.create_task(run.execute())
    await steps()

    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await within(task)
    taken.release()
    assert bench.slots.has_room("openai")
    assert run.calls == []
