"""The worker claims what its lanes have room for, fairly, and outlives whatever happens to one job."""

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from support.attempts import HANG, OK, UNREACHABLE, Answer, a_key, a_provider, completion, refusal
from support.fakes import FakeClock
from support.stores import ALICE, BOB, GROQ, OPENAI
from support.workshop import workshop
from tidegate.domain.access import ANONYMOUS, KeyId, VirtualKey
from tidegate.domain.errors import StorageUnavailable, StoreBusy
from tidegate.domain.jobs import Completed, Failed
from tidegate.domain.lane_state import FAILURES_IN_A_ROW
from tidegate.domain.retry import RetryPolicy
from tidegate.services.run_job import RunTools
from tidegate.worker import worker as worker_module

pytestmark = pytest.mark.anyio

ONCE = RetryPolicy(max_retries=0)


async def test_a_job_runs_from_its_submit_to_its_end(tmp_path: Path) -> None:
    async with workshop(tmp_path) as shop:
        job = await shop.submit()

        await shop.until_status("completed", job)

        await shop.until_told(1)
        ((claimed, ending, calls, was_ours),) = shop.observer.ended
        assert (claimed.id, was_ours, len(calls)) == (job, True, 1)
        assert isinstance(ending, Completed)
        attempt = await shop.last_attempt(job)
        assert (attempt.end, attempt.calls) == ("succeeded", calls)
        assert shop.worker.running == {OPENAI: 0}
        assert shop.worker.leases() == []


async def test_a_job_that_waits_for_its_retry_runs_when_it_is_due(tmp_path: Path) -> None:
    async with workshop(tmp_path, a_provider(retry=ONCE)) as shop:
        shop.vendors.will(refusal(503), OK)
        job = await shop.submit()
        await shop.until_told(1)
        assert (await shop.details(job)).state.next_run_at == shop.clock.now() + timedelta(seconds=11.25)

        shop.later(seconds=11)
        await asyncio.sleep(0.02)
        assert len(shop.vendors.sent) == 1
        shop.later(seconds=0.25)

        await shop.until_status("completed", job)
        details = await shop.details(job)
        assert [attempt.end for attempt in details.attempts] == ["requeued", "succeeded"]
        assert [attempt.number for attempt in details.attempts] == [1, 2]


async def test_keys_that_died_stay_dead_in_the_next_attempt(tmp_path: Path) -> None:
    provider = a_provider("openai", a_key("bad", weight=1000), a_key("good"), retry=ONCE)
    async with workshop(tmp_path, provider) as shop:
        shop.vendors.will(refusal(401), refusal(503), OK)
        job = await shop.submit()
        await shop.until_told(1)

        shop.later(seconds=20)

        await shop.until_status("completed", job)
        assert shop.vendors.keys == ["sk-bad", "sk-good", "sk-good"]


# Lanes


async def test_a_lane_never_holds_more_jobs_than_its_concurrency(tmp_path: Path) -> None:
    async with workshop(tmp_path, a_provider(concurrency=3)) as shop:
        shop.vendors.answering.clear()
        jobs = [await shop.submit() for _ in range(10)]
        await shop.until_calling(3)
        await asyncio.sleep(0.02)

        processing = (await shop.store.jobs.counts()).processing

        assert sum(processing.values()) == 3
        assert shop.worker.running == {OPENAI: 3}
        shop.vendors.answering.set()
        await shop.until_status("completed", *jobs)
        assert shop.vendors.most_in_flight == 3


async def test_a_finished_job_makes_room_for_the_next(tmp_path: Path) -> None:
    async with workshop(tmp_path, a_provider(concurrency=1)) as shop:
        jobs = [await shop.submit() for _ in range(25)]

        await asyncio.wait_for(shop.until_status("completed", *jobs), 5)

        assert shop.vendors.most_in_flight == 1


async def test_jobs_that_wait_for_a_retry_fill_their_lane_too(tmp_path: Path) -> None:
    async with workshop(tmp_path, a_provider(concurrency=2)) as shop:
        shop.vendors.will(UNREACHABLE, UNREACHABLE, OK)
        jobs = [await shop.submit() for _ in range(3)]
        await shop.until(lambda: len(shop.clock.slept) == 2)
        await asyncio.sleep(0.02)
        assert len(shop.vendors.sent) == 2

        shop.later(seconds=1)

        await shop.until_status("completed", *jobs)


async def test_a_slow_provider_does_not_hold_up_the_jobs_of_another(tmp_path: Path) -> None:
    async with workshop(tmp_path, a_provider(concurrency=2), a_provider("groq")) as shop:
        shop.vendors.will(HANG)
        for _ in range(50):
            await shop.submit()
        await shop.until_calling(2)

        quick = await shop.submit(lane="groq")

        await shop.until_status("completed", quick)
        await shop.until_told(1)
        await asyncio.sleep(0)
        assert shop.worker.running == {OPENAI: 2, GROQ: 0}


async def test_a_lane_wider_than_one_claim_is_filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "_MOST_CLAIMED_AT_ONCE", 4)
    async with workshop(tmp_path, a_provider(concurrency=11), starts=False) as shop:
        shop.vendors.will(HANG)
        for _ in range(15):
            await shop.submit()

        shop.start()

        await shop.until_calling(11)
        assert shop.doors.asked.count("claim") == 3


async def test_a_claim_that_fills_its_lane_is_followed_by_no_other(tmp_path: Path) -> None:
    async with workshop(tmp_path, a_provider(concurrency=2), a_provider("groq"), starts=False) as shop:
        shop.vendors.will(HANG)
        await shop.submit()
        await shop.submit()

        shop.start()

        await shop.until_calling(2)
        await asyncio.sleep(0.05)
        assert shop.doors.asked.count("claim") == 2, "one for the two jobs, one because they had arrived"


async def test_the_lane_of_a_provider_that_is_gone_still_ends_its_jobs(tmp_path: Path) -> None:
    async with workshop(tmp_path, a_provider(), a_provider("groq")) as shop:
        tools = shop.tools
        providers = {name: setup for name, setup in tools.catalog.providers.items() if name != "groq"}
        catalog = type(tools.catalog)(providers, tools.catalog.known)
        facts = {name: getattr(tools, name) for name in tools.__struct_fields__}
        shop.worker._tools = RunTools(**facts | {"catalog": catalog})

        job = await shop.submit(lane="groq")

        await shop.until_status("failed", job)
        assert (await shop.details(job)).error_code == "no_eligible_keys"


# Who comes first


async def test_a_smaller_priority_comes_first(tmp_path: Path) -> None:
    async with workshop(tmp_path, a_provider(concurrency=1), starts=False) as shop:
        jobs = [await shop.submit(f"p{priority}", priority=priority) for priority in (5, 1, 3, 2, 4)]

        shop.start()

        await shop.until_status("completed", *jobs)
        assert [call.model for call in shop.vendors.sent] == ["p1", "p2", "p3", "p4", "p5"]


async def test_a_backlog_of_one_key_does_not_hold_up_another(tmp_path: Path) -> None:
    async with workshop(tmp_path, a_provider(concurrency=1), starts=False) as shop:
        for _ in range(200):
            await shop.submit("noisy", owner=ALICE)
        for _ in range(5):
            await shop.submit("quiet", owner=BOB)

        shop.start()

        await shop.until(lambda: [call.model for call in shop.vendors.sent].count("quiet") == 5)
        turns = [turn for turn, call in enumerate(shop.vendors.sent) if call.model == "quiet"]
        assert max(turns) <= 10


async def test_weights_divide_a_lane(tmp_path: Path) -> None:
    async with workshop(tmp_path, a_provider(concurrency=1), starts=False) as shop:
        for _ in range(80):
            await shop.submit("three", owner=ALICE, weight=3.0)
            await shop.submit("one", owner=BOB, weight=1.0)

        shop.start()

        await shop.until(lambda: len(shop.vendors.sent) >= 80)
        first = [call.model for call in shop.vendors.sent[:80]]
        assert first.count("three") == pytest.approx(60, abs=2)


# Closed lanes


async def test_a_closed_lane_claims_nothing_and_then_one_probe(tmp_path: Path) -> None:
    async with workshop(tmp_path, a_provider(retry=ONCE)) as shop:
        shop.vendors.will(refusal(503))
        for _ in range(FAILURES_IN_A_ROW):
            await shop.submit()
        await shop.until_told(FAILURES_IN_A_ROW)
        shop.vendors.will(HANG)
        waiting = [await shop.submit("later") for _ in range(5)]
        await asyncio.sleep(0.05)
        assert shop.vendors.in_flight == 0

        shop.later(seconds=15)

        await shop.until_calling(1)
        await asyncio.sleep(0.05)
        assert shop.vendors.in_flight == 1
        assert [await shop.store.status(job) for job in waiting].count("pending") >= 4


async def test_a_probe_that_succeeds_lets_the_others_in(tmp_path: Path) -> None:
    async with workshop(tmp_path) as shop:
        shop.tools.lanes["openai"].limited(shop.clock.monotonic(), 5)
        jobs = [await shop.submit() for _ in range(5)]

        shop.later(seconds=5)

        await shop.until_status("completed", *jobs)


async def test_without_room_it_waits_however_much_is_due(tmp_path: Path) -> None:
    async with workshop(tmp_path, a_provider(retry=ONCE, concurrency=1)) as shop:
        shop.vendors.will(refusal(503))
        await shop.submit()
        await shop.until_told(1)
        shop.vendors.will(HANG)
        await shop.submit("hang")
        await shop.until_calling(1)
        shop.later(seconds=60)
        shop.doors.asked.clear()

        await asyncio.sleep(0.3)

        assert len(shop.doors.asked) <= 6, "it keeps asking for what it has no room for"


# Whatever happens to one job


async def test_a_defect_ends_its_job_and_nothing_else(tmp_path: Path) -> None:
    async with workshop(tmp_path) as shop:
        shop.vendors.will(Answer(error=RuntimeError("defect")), provider="openai", model="cursed")
        cursed = await shop.submit("cursed")
        await shop.until_status("failed", cursed)

        others = [await shop.submit() for _ in range(3)]

        await shop.until_status("completed", *others)
        details = await shop.details(cursed)
        assert (details.error_code, details.state.status_code) == ("internal_error", 500)
        assert [call.billing for call in details.attempts[0].calls] == ["unknown"]
        assert shop.problems == ["job.broken"]
        assert shop.observer.problems[0][1]["job_id"] == cursed


async def test_a_body_that_cannot_be_read_ends_its_job(tmp_path: Path) -> None:
    async with workshop(tmp_path) as shop:
        job = await shop.submit(body=b'{"model": "openai/ec')

        await shop.until_status("failed", job)

        assert (await shop.details(job)).error_code == "internal_error"
        assert shop.vendors.sent == []


async def test_an_ending_that_cannot_be_written_is_an_internal_error(tmp_path: Path) -> None:
    async with workshop(tmp_path) as shop:
        shop.doors.trouble["settle"] = [ValueError("cannot be encoded")]
        job = await shop.submit()

        await shop.until_status("failed", job)

        assert (await shop.details(job)).error_code == "internal_error"
        assert shop.problems == ["job.broken"]


async def test_a_run_that_is_cancelled_by_nobody_is_a_defect(tmp_path: Path) -> None:
    async with workshop(tmp_path) as shop:
        shop.vendors.will(HANG)
        job = await shop.submit()
        await shop.until_calling(1)

        (active,) = shop.worker._active.values()
        assert active.task is not None
        active.task.cancel()

        await shop.until_status("failed", job)
        assert (await shop.details(job)).error_code == "internal_error"


async def test_a_store_that_is_busy_costs_the_job_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with workshop(tmp_path) as shop:
        get = shop.store.keys.get
        asked: list[KeyId] = []

        async def busy_at_first(key_id: KeyId) -> VirtualKey | None:
            asked.append(key_id)
            if len(asked) == 1:
                raise StoreBusy
            return await get(key_id)

        monkeypatch.setattr(shop.store.keys, "get", busy_at_first)
        job = await shop.submit(max_attempts=1)

        await shop.until_status("completed", job)

        assert [attempt.end for attempt in (await shop.details(job)).attempts] == ["released", "succeeded"]


async def test_jobs_of_nobody_run_too(tmp_path: Path) -> None:
    async with workshop(tmp_path) as shop:
        job = await shop.submit(owner=ANONYMOUS)

        await shop.until_told(1)

        state = await shop.store.state(job, ANONYMOUS)
        assert state is not None
        assert state.status == "completed"


async def test_a_deleted_virtual_key_ends_its_jobs(tmp_path: Path) -> None:
    async with workshop(tmp_path, starts=False) as shop:
        job = await shop.submit()
        await shop.store.keys.delete(KeyId("alice"), cancels_jobs=False)

        shop.start()

        await shop.until_told(1)
        assert await shop.store.status(job) == "failed"
        ((_, ending, *_),) = shop.observer.ended
        assert isinstance(ending, Failed)
        assert ending.error.code == "virtual_key_not_found"


# The loop itself


async def test_a_claim_that_breaks_is_repeated(tmp_path: Path) -> None:
    async with workshop(tmp_path, starts=False) as shop:
        job = await shop.submit()
        shop.doors.trouble["claim"] = [RuntimeError("defect"), StoreBusy()]

        shop.start()

        await _wake(shop.clock, pauses=2)
        await shop.until_status("completed", job)
        assert shop.problems == ["worker.broken"]


async def test_a_store_that_is_gone_ends_it(tmp_path: Path) -> None:
    async with workshop(tmp_path, starts=False) as shop:
        shop.doors.trouble["claim"] = [StorageUnavailable()]

        await asyncio.wait_for(shop.worker.run(), 5)


async def test_it_claims_nothing_while_too_many_endings_wait_for_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "_MOST_HELD", 500)
    async with workshop(tmp_path) as shop:
        shop.vendors.will(completion(id="x" * 1000))
        shop.doors.doors["-settle"] = asyncio.Event()
        await shop.submit()
        await shop.until(lambda: "-settle" in shop.doors.waiting)

        second = await shop.submit()
        await asyncio.sleep(0.05)
        assert await shop.store.status(second) == "pending"
        shop.doors.doors["-settle"].set()

        await shop.until_status("completed", second)


async def _wake(clock: FakeClock, *, pauses: int) -> None:
    async with asyncio.timeout(5):
        for number in range(pauses):
            while len(clock.slept) <= number:
                await asyncio.sleep(0.001)
            clock.advance(clock.slept[number])
