"""Cancelling in every phase (F37), deadlines of running jobs, leases that are gone, runs that do not let go."""

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from support.attempts import HANG, OK, STUBBORN, UNREACHABLE, a_provider, refusal
from support.stores import OPENAI
from support.workshop import Workshop, workshop
from tidegate.domain.access import KeyId
from tidegate.domain.errors import Conflict, StoreBusy
from tidegate.domain.jobs import JobId, Lease, Outcome
from tidegate.domain.retry import RetryPolicy
from tidegate.worker.leases import RENEW_EVERY

pytestmark = pytest.mark.anyio


async def hanging(shop: Workshop) -> JobId:
    """A job whose call is under way and stays so."""
    shop.vendors.will(HANG)
    job = await shop.submit()
    await shop.until_calling(1)
    return job


async def assert_cancelled(shop: Workshop, job: JobId) -> None:
    details = await shop.details(job)
    assert (details.outcome, details.state.status_code) == (Outcome.CANCELLED, 499)


async def test_a_queued_job_never_starts(tmp_path: Path) -> None:
    async with workshop(tmp_path, starts=False) as shop:
        job = await shop.submit()
        other = await shop.submit("other")

        await shop.cancel(job)
        shop.start()

        await shop.until_status("completed", other)
        assert shop.vendors.models == ["openai/other"]
        await assert_cancelled(shop, job)
        assert (await shop.details(job)).attempts == ()


async def test_a_running_call_is_closed_and_stays_on_record(tmp_path: Path) -> None:
    async with workshop(tmp_path) as shop:
        job = await hanging(shop)

        await shop.cancel(job)

        await shop.until_calling(0)
        await shop.until_told(1)
        assert shop.vendors.hung_up == ["echo"]
        await assert_cancelled(shop, job)
        attempt = await shop.last_attempt(job)
        assert attempt.end == "cancelled"
        assert [(call.key, call.billing) for call in attempt.calls] == [("main", "unknown")]
        ((*_, was_ours),) = shop.observer.ended
        assert not was_ours


async def test_a_pause_before_a_retry_ends(tmp_path: Path) -> None:
    async with workshop(tmp_path) as shop:
        shop.vendors.will(UNREACHABLE)
        job = await shop.submit()
        await shop.until(lambda: bool(shop.clock.slept))

        await shop.cancel(job)

        await shop.until_told(1)
        shop.later(seconds=100)
        await assert_cancelled(shop, job)
        assert [call.error_code for call in (await shop.last_attempt(job)).calls] == [
            "upstream_connection_failed"
        ]
        assert len(shop.vendors.sent) == 1


async def test_a_job_that_waits_for_a_slot_never_calls(tmp_path: Path) -> None:
    async with workshop(tmp_path, a_provider(concurrency=1)) as shop:
        slot = await shop.tools.slots.take("openai")
        job = await shop.submit()
        await shop.until_status("processing", job)

        await shop.cancel(job)

        await shop.until_told(1)
        slot.release()
        assert shop.vendors.sent == []
        await assert_cancelled(shop, job)


async def test_a_job_that_waits_for_its_next_attempt_never_has_one(tmp_path: Path) -> None:
    async with workshop(tmp_path, a_provider(retry=RetryPolicy(max_retries=0))) as shop:
        shop.vendors.will(refusal(503), OK)
        job = await shop.submit()
        await shop.until_told(1)

        await shop.cancel(job)
        shop.later(seconds=60)
        other = await shop.submit("other")

        await shop.until_status("completed", other)
        assert shop.vendors.models == ["openai/echo", "openai/other"]
        await assert_cancelled(shop, job)


async def test_a_job_whose_task_has_not_begun_does_not_begin(tmp_path: Path) -> None:
    async with workshop(tmp_path, starts=False) as shop:
        job = await shop.submit()
        (claimed,) = await shop.store.claim()

        shop.worker._start(claimed)
        shop.store.wake_ups.ended(job)

        await shop.until_told(1)
        assert shop.vendors.sent == []
        assert await shop.store.status(job) == "pending", "nobody ended it: it was released"


async def test_a_cancel_that_comes_between_claim_and_start_keeps_it_from_starting(tmp_path: Path) -> None:
    async with workshop(tmp_path, starts=False) as shop:
        job = await shop.submit()
        shop.doors.doors["claim-"] = asyncio.Event()
        shop.start()
        await shop.until(lambda: "claim-" in shop.doors.waiting)

        await shop.cancel(job)
        shop.doors.doors["claim-"].set()

        other = await shop.submit("other")
        await shop.until_status("completed", other)
        assert shop.vendors.models == ["openai/other"]
        await assert_cancelled(shop, job)


async def test_a_lease_that_is_gone_is_found_by_renewing(tmp_path: Path) -> None:
    """Whoever ended the job, in whichever process: the call is not left alone."""
    async with workshop(tmp_path) as shop:
        job = await hanging(shop)
        shop.store.local_wake_ups._listeners.clear()
        await shop.cancel(job)

        await shop.leases.renew()

        await shop.until_calling(0)
        await assert_cancelled(shop, job)


async def test_a_cancel_that_overtakes_the_result_wins(tmp_path: Path) -> None:
    async with workshop(tmp_path) as shop:
        shop.doors.doors["-settle"] = asyncio.Event()
        job = await shop.submit()
        await shop.until(lambda: "-settle" in shop.doors.waiting)

        await shop.cancel(job)
        shop.doors.doors["-settle"].set()

        await shop.until_told(1)
        await assert_cancelled(shop, job)
        details = await shop.details(job)
        assert details.state.result is None
        assert [call.billing for call in details.attempts[-1].calls] == ["known"]


async def test_a_cancel_that_comes_too_late_changes_nothing(tmp_path: Path) -> None:
    async with workshop(tmp_path) as shop:
        shop.doors.doors["settle-"] = asyncio.Event()
        job = await shop.submit()
        await shop.until(lambda: "settle-" in shop.doors.waiting)

        with pytest.raises(Conflict):
            await shop.cancel(job)
        shop.doors.doors["settle-"].set()

        await shop.until_told(1)
        assert (await shop.details(job)).outcome is Outcome.SUCCEEDED


async def test_cancel_and_result_at_the_same_time_make_one_end(tmp_path: Path) -> None:
    async with workshop(tmp_path) as shop:
        shop.vendors.answering.clear()
        jobs = [await shop.submit() for _ in range(30)]
        await shop.until_calling(30)

        shop.vendors.answering.set()
        answers = await asyncio.gather(*map(shop.cancel, jobs), return_exceptions=True)

        await shop.until_told(30)
        for job, answer in zip(jobs, answers, strict=True):
            outcome = (await shop.details(job)).outcome
            assert outcome is (Outcome.SUCCEEDED if isinstance(answer, Conflict) else Outcome.CANCELLED)


async def test_cancelling_a_deleted_keys_jobs_closes_their_calls(tmp_path: Path) -> None:
    async with workshop(tmp_path) as shop:
        job = await hanging(shop)

        await shop.store.keys.delete(KeyId("alice"), cancels_jobs=True)

        await shop.until_calling(0)
        await assert_cancelled(shop, job)


async def test_the_deadline_closes_a_running_call(tmp_path: Path) -> None:
    async with workshop(tmp_path) as shop:
        shop.vendors.will(HANG)
        job = await shop.submit(timeout=30)
        await shop.until_calling(1)
        shop.later(seconds=30)

        await shop.maintenance.sweep()

        await shop.until_calling(0)
        details = await shop.details(job)
        assert (details.outcome, details.error_code) == (Outcome.DEADLINE_EXCEEDED, "deadline_exceeded")
        await shop.until_told(1)
        assert [call.billing for call in (await shop.last_attempt(job)).calls] == ["unknown"]


# Leases


async def test_renewing_leaves_alone_what_is_ours(tmp_path: Path) -> None:
    async with workshop(tmp_path) as shop:
        await hanging(shop)

        await shop.leases.renew()
        await asyncio.sleep(0.01)

        assert shop.vendors.hung_up == []


async def test_a_defect_while_renewing_is_reported_and_renewing_goes_on(tmp_path: Path) -> None:
    async with workshop(tmp_path) as shop:
        await hanging(shop)
        shop.doors.trouble["renew"] = [RuntimeError("broken")]
        loop = asyncio.create_task(shop.leases.run())

        await shop.until(lambda: RENEW_EVERY in shop.clock.slept)
        shop.later(seconds=RENEW_EVERY.total_seconds())
        await shop.until(lambda: shop.clock.slept.count(RENEW_EVERY) == 2)
        assert shop.problems == ["leases.broken"]
        shop.later(seconds=RENEW_EVERY.total_seconds())
        await shop.until(lambda: shop.clock.slept.count(RENEW_EVERY) == 3)
        loop.cancel()

        assert shop.doors.asked.count("renew") == 3
        assert shop.problems == ["leases.broken"]
        assert shop.vendors.hung_up == []


async def test_a_store_that_is_busy_takes_no_lease_away(tmp_path: Path) -> None:
    async with workshop(tmp_path) as shop:
        await hanging(shop)
        shop.doors.trouble["renew"] = [StoreBusy()]

        await shop.leases.renew()
        await asyncio.sleep(0.01)

        assert shop.vendors.hung_up == []


async def test_a_worker_says_that_it_lives_though_nothing_runs(tmp_path: Path) -> None:
    async with workshop(tmp_path) as shop:
        await shop.leases.renew()

        assert "renew" in shop.doors.asked


async def test_an_older_lease_on_the_same_job_is_not_the_one_that_runs(tmp_path: Path) -> None:
    async with workshop(tmp_path) as shop:
        job = await hanging(shop)

        shop.worker.lost([Lease(job, b"of an attempt that was released")])
        await asyncio.sleep(0.01)

        assert shop.vendors.hung_up == []


async def test_leases_are_renewed_every_four_seconds(tmp_path: Path) -> None:
    async with workshop(tmp_path) as shop:
        await hanging(shop)
        loop = asyncio.create_task(shop.leases.run())

        while shop.doors.asked.count("renew") < 3:
            rounds = shop.doors.asked.count("renew")
            await shop.until(lambda rounds=rounds: len(shop.clock.slept) == 1 + rounds)  # type: ignore[misc]
            shop.later(seconds=4)
            await shop.until(lambda rounds=rounds: shop.doors.asked.count("renew") > rounds)  # type: ignore[misc]

        assert {*shop.clock.slept} == {timedelta(seconds=4)}
        loop.cancel()


# Runs that ignore being cancelled


async def stuck(shop: Workshop) -> JobId:
    """A cancelled job whose call goes on."""
    shop.vendors.will(STUBBORN, model="stubborn")
    job = await shop.submit("stubborn")
    await shop.until_calling(1)
    await shop.cancel(job)
    return job


async def test_a_run_that_does_not_let_go_loses_its_places_after_ten_seconds(tmp_path: Path) -> None:
    async with workshop(tmp_path, a_provider(concurrency=1)) as shop:
        job = await stuck(shop)
        other = await shop.submit("other")
        shop.later(seconds=9.9)
        shop.worker.free_stuck_runs()
        assert (shop.worker.running, shop.problems) == ({OPENAI: 1}, [])

        shop.later(seconds=0.1)
        shop.worker.free_stuck_runs()

        await shop.until_status("completed", other)
        assert shop.problems == ["run.stuck"]
        facts = shop.observer.problems[0][1]
        assert facts["job_id"] == job
        for place in ("Worker._work", "JobRun.execute", "JobRun._send", "ScriptedVendors.send"):
            assert place in facts["stack"]
        shop.vendors.relented.set()


async def test_a_stuck_run_that_ends_at_last_takes_no_place_from_others(tmp_path: Path) -> None:
    async with workshop(tmp_path, a_provider(concurrency=1)) as shop:
        job = await stuck(shop)
        shop.later(seconds=10)
        shop.worker.free_stuck_runs()
        shop.vendors.answering.clear()
        await shop.submit("other")
        await shop.until(lambda: shop.vendors.models[-1] == "openai/other")

        shop.vendors.relented.set()

        await shop.until_told(1)
        assert shop.worker.running == {OPENAI: 1}
        assert not shop.tools.slots.has_room("openai")
        await assert_cancelled(shop, job)
        assert [call.billing for call in (await shop.last_attempt(job)).calls] == ["known"]
        shop.vendors.answering.set()


async def test_only_runs_that_were_cancelled_are_watched(tmp_path: Path) -> None:
    async with workshop(tmp_path) as shop:
        await hanging(shop)
        shop.later(seconds=600)

        shop.worker.free_stuck_runs()

        assert (shop.problems, shop.worker.running) == ([], {OPENAI: 1})


async def test_an_ending_that_waits_for_the_store_is_not_stuck(tmp_path: Path) -> None:
    async with workshop(tmp_path) as shop:
        job = await hanging(shop)
        shop.doors.doors["-settle"] = asyncio.Event()
        await shop.cancel(job)
        await shop.until(lambda: "-settle" in shop.doors.waiting)

        shop.later(seconds=600)
        shop.worker.free_stuck_runs()

        assert shop.problems == []
        shop.doors.doors["-settle"].set()


async def test_stuck_runs_are_looked_for_while_leases_are_renewed(tmp_path: Path) -> None:
    async with workshop(tmp_path) as shop:
        await stuck(shop)
        loop = asyncio.create_task(shop.leases.run())
        await shop.until(lambda: len(shop.clock.slept) == 1)

        shop.later(seconds=10)

        await shop.until(lambda: shop.problems == ["run.stuck"])
        loop.cancel()
        shop.vendors.relented.set()
