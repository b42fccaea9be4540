"""Draining: claim no more, let calls finish, give everything else back uncharged, and come to an end (P7)."""

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from support.attempts import HANG, OK, STUBBORN, UNREACHABLE, a_provider, refusal
from support.workshop import Workshop, workshop
from tidegate.domain.errors import StorageFull
from tidegate.domain.jobs import JobId
from tidegate.worker import worker as worker_module

pytestmark = pytest.mark.anyio

LONG = timedelta(seconds=8)
"""A limit that no test means to reach."""
SHORT = timedelta(milliseconds=50)


async def assert_released(shop: Workshop, job: JobId, *, calls: int) -> None:
    """Back in the queue as if it had never been claimed; what was called is on record."""
    details = await shop.details(job)
    assert details.state.status == "pending"
    assert details.state.next_run_at is None
    assert (details.attempts[-1].end, len(details.attempts[-1].calls)) == ("released", calls)
    assert details.losses == 0


async def test_an_idle_worker_is_drained_at_once(tmp_path: Path) -> None:
    async with workshop(tmp_path) as shop:
        await asyncio.wait_for(shop.worker.drain(LONG), 1)

        job = await shop.submit()
        await asyncio.sleep(0.05)
        assert await shop.store.status(job) == "pending"


async def test_a_running_call_finishes_and_nothing_new_begins(tmp_path: Path) -> None:
    async with workshop(tmp_path, a_provider(concurrency=2)) as shop:
        shop.vendors.answering.clear()
        running = [await shop.submit(), await shop.submit()]
        queued = await shop.submit("queued")
        await shop.until_calling(2)

        draining = asyncio.create_task(shop.worker.drain(LONG))
        await asyncio.sleep(0.02)
        assert not draining.done()
        shop.vendors.answering.set()
        await asyncio.wait_for(draining, 1)

        assert [await shop.store.status(job) for job in running] == ["completed", "completed"]
        assert await shop.store.status(queued) == "pending"
        assert len(shop.vendors.sent) == 2


async def test_a_job_that_waits_for_a_retry_is_released_at_once(tmp_path: Path) -> None:
    async with workshop(tmp_path) as shop:
        shop.vendors.will(UNREACHABLE)
        job = await shop.submit()
        await shop.until(lambda: bool(shop.clock.slept))

        await asyncio.wait_for(shop.worker.drain(LONG), 1)

        await assert_released(shop, job, calls=1)


async def test_a_job_that_waits_for_a_slot_is_released_at_once(tmp_path: Path) -> None:
    async with workshop(tmp_path, a_provider(concurrency=1)) as shop:
        slot = await shop.tools.slots.take("openai")
        job = await shop.submit()
        await shop.until_status("processing", job)

        await asyncio.wait_for(shop.worker.drain(LONG), 1)

        await assert_released(shop, job, calls=0)
        slot.release()


async def test_a_call_that_fails_meanwhile_is_not_repeated(tmp_path: Path) -> None:
    async with workshop(tmp_path) as shop:
        shop.vendors.will(refusal(503))
        shop.vendors.answering.clear()
        job = await shop.submit()
        await shop.until_calling(1)

        draining = asyncio.create_task(shop.worker.drain(LONG))
        await asyncio.sleep(0.01)
        shop.vendors.answering.set()
        await asyncio.wait_for(draining, 1)

        await assert_released(shop, job, calls=1)
        assert len(shop.vendors.sent) == 1


async def test_a_call_that_outlasts_the_limit_is_closed_and_its_job_released(tmp_path: Path) -> None:
    async with workshop(tmp_path) as shop:
        shop.vendors.will(HANG)
        job = await shop.submit()
        await shop.until_calling(1)

        await asyncio.wait_for(shop.worker.drain(SHORT), 2)

        assert shop.vendors.hung_up == ["echo"]
        await assert_released(shop, job, calls=1)
        assert (await shop.last_attempt(job)).calls[0].billing == "unknown"


async def test_a_release_is_charged_neither_as_an_attempt_nor_as_a_loss(tmp_path: Path) -> None:
    async with workshop(tmp_path, loss_budget=0) as shop:
        shop.vendors.will(HANG, HANG, HANG, OK)
        job = await shop.submit(max_attempts=1)
        for _ in range(3):
            await shop.until_calling(1)
            await shop.stop()
            await shop.die()
            shop.start()

        await shop.until_status("completed", job)

        details = await shop.details(job)
        assert [attempt.end for attempt in details.attempts] == ["released"] * 3 + ["succeeded"]
        assert (details.attempt, details.losses) == (4, 0)


async def test_a_released_job_keeps_its_place(tmp_path: Path) -> None:
    async with workshop(tmp_path, a_provider(concurrency=1)) as shop:
        shop.vendors.will(HANG, OK)
        first = await shop.submit("first")
        await shop.until_calling(1)
        second = await shop.submit("second")
        await shop.stop()
        await shop.die()
        shop.vendors.sent.clear()

        shop.start()

        await shop.until_status("completed", first, second)
        assert shop.vendors.models == ["openai/first", "openai/second"]


async def test_what_is_claimed_when_it_begins_is_given_back(tmp_path: Path) -> None:
    async with workshop(tmp_path, starts=False) as shop:
        job = await shop.submit()
        shop.doors.doors["claim-"] = asyncio.Event()
        shop.start()
        await shop.until(lambda: "claim-" in shop.doors.waiting)
        assert await shop.store.status(job) == "processing"

        draining = asyncio.create_task(shop.worker.drain(LONG))
        await asyncio.sleep(0.02)
        assert not draining.done()
        shop.doors.doors["claim-"].set()
        await asyncio.wait_for(draining, 1)

        await assert_released(shop, job, calls=0)
        assert shop.vendors.sent == []


async def test_a_job_whose_task_has_not_begun_is_released(tmp_path: Path) -> None:
    async with workshop(tmp_path, starts=False) as shop:
        job = await shop.submit()
        (claimed,) = await shop.store.claim()
        shop.worker._start(claimed)

        async with asyncio.timeout(1):
            await shop.worker.drain(LONG)

        await assert_released(shop, job, calls=0)


async def test_an_ending_that_waits_for_room_is_waited_for(tmp_path: Path) -> None:
    async with workshop(tmp_path) as shop:
        shop.doors.trouble["settle"] = [StorageFull()]
        job = await shop.submit()
        await shop.until(lambda: timedelta(seconds=1) in shop.clock.slept)

        draining = asyncio.create_task(shop.worker.drain(LONG))
        await asyncio.sleep(0.02)
        shop.later(seconds=1)
        await asyncio.wait_for(draining, 1)

        assert await shop.store.status(job) == "completed"


@pytest.mark.parametrize("trouble", ["a store without room", "a run that does not let go"])
async def test_it_comes_to_an_end_whatever_resists(
    trouble: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "_TIME_TO_SETTLE", SHORT)
    async with workshop(tmp_path) as shop:
        await _resist(shop, trouble)

        await asyncio.wait_for(shop.worker.drain(SHORT), 2)

        assert shop.observer.problems == [("drain.incomplete", {"jobs": 1})]
        assert shop.worker.leases() == []
        shop.vendors.relented.set()
        await shop.until(_nobody_works)


async def _resist(shop: Workshop, trouble: str) -> None:
    if trouble == "a store without room":
        shop.doors.trouble["settle"] = [StorageFull() for _ in range(1000)]
        await shop.submit()
        await shop.until(lambda: timedelta(seconds=1) in shop.clock.slept)
    else:
        shop.vendors.will(STUBBORN)
        await shop.submit()
        await shop.until_calling(1)


def _nobody_works() -> bool:
    working = {getattr(task.get_coro(), "__qualname__", "") for task in asyncio.all_tasks()}
    return "Worker._work" not in working
