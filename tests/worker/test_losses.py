"""What a worker survives with its store: no room for endings, dead processes, poison jobs, and the sweeper."""

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from support.attempts import HANG, OK, completion
from support.fakes import FakeClock
from support.stores import SqliteUnderTest
from support.workshop import Workshop, workshop
from tidegate.domain.errors import StorageFull, StorageUnavailable, StoreBusy
from tidegate.domain.jobs import JobId, Outcome
from tidegate.worker import maintenance as maintenance_module
from tidegate.worker.maintenance import Maintenance

pytestmark = pytest.mark.anyio


# No room


def _set_room(store: SqliteUnderTest, pages: int) -> None:
    """As many pages as now and these; 0 lifts the limit."""
    connection = store.store._writer._connection
    used = int(str(connection.execute("PRAGMA page_count").fetchall()[0][0]))
    connection.execute(f"PRAGMA max_page_count = {used + pages if pages else 2**30}").fetchall()


async def test_an_ending_without_room_is_held_until_there_is_some(tmp_path: Path) -> None:
    async with workshop(tmp_path) as shop:
        shop.vendors.will(completion(id="x" * 100_000))
        shop.vendors.answering.clear()
        job = await shop.submit()
        await shop.until_calling(1)
        _set_room(shop.store, 1)
        shop.vendors.answering.set()
        await shop.until(lambda: shop.doors.asked.count("settle") == 1 and bool(shop.clock.slept))

        shop.later(seconds=1)
        await shop.until(lambda: shop.doors.asked.count("settle") == 2 and len(shop.clock.slept) > 1)
        assert await shop.store.status(job) == "processing"
        _set_room(shop.store, 0)
        shop.later(seconds=1)

        await shop.until_status("completed", job)
        state = await shop.store.state(job)
        assert state is not None
        assert state.result is not None
        assert len(state.result) > 100_000
        assert len(shop.vendors.sent) == 1


async def test_a_cancel_while_an_ending_is_held_wins(tmp_path: Path) -> None:
    async with workshop(tmp_path) as shop:
        shop.doors.trouble["settle"] = [StorageFull()]
        job = await shop.submit()
        await shop.until(lambda: timedelta(seconds=1) in shop.clock.slept)

        await shop.cancel(job)
        shop.later(seconds=1)

        await shop.until_told(1)
        assert (await shop.details(job)).outcome is Outcome.CANCELLED


# Dead processes


async def killed_while_running(shop: Workshop, *jobs: JobId) -> None:
    shop.start()
    await shop.until_status("processing", *jobs)
    await shop.until_calling(len(jobs))
    await shop.die()


async def test_a_job_that_loses_three_workers_is_worker_lost(tmp_path: Path) -> None:
    async with workshop(tmp_path, starts=False) as shop:
        shop.vendors.will(HANG)
        job = await shop.submit()

        for losses in (1, 2):
            await killed_while_running(shop, job)
            details = await shop.details(job)
            assert (details.state.status, details.losses) == ("pending", losses)
        await killed_while_running(shop, job)

        details = await shop.details(job)
        assert (details.outcome, details.error_code) == (Outcome.WORKER_LOST, "worker_lost")
        assert details.state.status_code == 500
        assert [attempt.end for attempt in details.attempts] == ["worker_lost"] * 3
        assert len(shop.vendors.sent) == 3


async def test_a_loss_is_no_failed_attempt(tmp_path: Path) -> None:
    async with workshop(tmp_path, starts=False) as shop:
        shop.vendors.will(HANG, HANG, OK)
        job = await shop.submit(max_attempts=1)
        await killed_while_running(shop, job)
        await killed_while_running(shop, job)

        shop.start()

        await shop.until_status("completed", job)
        details = await shop.details(job)
        assert (details.attempt, details.losses) == (3, 2)


async def test_only_the_culprit_is_convicted(tmp_path: Path) -> None:
    """Jobs that have lost two workers run alone, so the third loss is the fault of whoever ran."""
    async with workshop(tmp_path, starts=False) as shop:
        shop.vendors.will(HANG)
        jobs = [await shop.submit(f"m{number}") for number in range(4)]
        await killed_while_running(shop, *jobs)
        await killed_while_running(shop, *jobs)
        shop.start()
        await shop.until_calling(1)
        await asyncio.sleep(0.05)
        assert shop.vendors.in_flight == 1

        await shop.die()

        statuses = [await shop.store.status(job) for job in jobs]
        assert sorted(statuses) == ["failed", "pending", "pending", "pending"]


async def test_suspects_start_one_a_second_and_hold_nobody_up(tmp_path: Path) -> None:
    async with workshop(tmp_path, starts=False) as shop:
        shop.vendors.will(HANG)
        suspects = [await shop.submit(f"m{number}") for number in range(3)]
        await killed_while_running(shop, *suspects)
        await killed_while_running(shop, *suspects)
        shop.vendors.will(OK, model="innocent")
        innocents = [await shop.submit("innocent") for _ in range(5)]

        shop.start()

        await shop.until_status("completed", *innocents)
        for running in (1, 2, 3):
            await shop.until_calling(running)
            await asyncio.sleep(0.03)
            assert shop.vendors.in_flight == running
            shop.later(seconds=1)


# The sweeper


async def test_a_sweep_ends_what_is_past_its_deadline(tmp_path: Path) -> None:
    async with workshop(tmp_path, starts=False) as shop:
        waiting = await shop.submit(timeout=10)
        started = await shop.submit(timeout=10)
        await shop.store.claim(1)
        patient = await shop.submit(timeout=11)
        shop.later(seconds=10)

        await shop.maintenance.sweep()

        outcomes = {job: (await shop.details(job)).outcome for job in (waiting, started, patient)}
        assert sorted(str(outcome) for outcome in outcomes.values()) == [
            "None",
            "deadline_exceeded",
            "queue_timeout",
        ]
        assert outcomes[patient] is None
        assert shop.observer.expired == 2


async def test_pruning_erases_what_has_expired(tmp_path: Path) -> None:
    async with workshop(tmp_path) as shop:
        short = await shop.submit(result_ttl=5)
        long = await shop.submit(result_ttl=500)
        await shop.until_status("completed", short, long)
        shop.later(seconds=5)

        await shop.maintenance.prune()

        rows = shop.store.store._writer._connection.execute("SELECT count(*) FROM jobs").fetchall()
        assert (rows, await shop.store.status(short)) == ([(1,)], "gone")
        assert await shop.store.status(long) == "completed"


async def test_large_work_is_done_in_small_transactions_with_pauses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance_module, "_BATCH", 10)
    async with workshop(tmp_path, starts=False) as shop:
        jobs = [await shop.submit(timeout=1) for _ in range(25)]
        shop.later(seconds=1)

        sweep = asyncio.create_task(shop.maintenance.sweep())
        for _ in range(2):
            await shop.until(lambda: timedelta(milliseconds=50) in shop.clock.slept)
            shop.clock.slept.clear()
            shop.later(seconds=1)
        await asyncio.wait_for(sweep, 5)

        assert {await shop.store.status(job) for job in jobs} == {"failed"}


async def test_jobs_of_dead_workers_are_reported(tmp_path: Path) -> None:
    async with workshop(tmp_path, starts=False) as shop:
        await shop.submit()
        await shop.store.claim()
        shop.store.store._writer._connection.execute("UPDATE jobs SET boot_id = 'another'")

        await shop.maintenance.sweep()

        assert shop.observer.rescued == 1


async def _rounds(maintenance: Maintenance, clock: FakeClock, count: int) -> None:
    """The sweeper's loop, for so many seconds."""
    loop = asyncio.create_task(maintenance.run())
    async with asyncio.timeout(5):
        for _ in range(count):
            while timedelta(seconds=1) not in clock.slept:
                await asyncio.sleep(0.001)
            clock.slept.clear()
            clock.advance(timedelta(seconds=1))
    loop.cancel()


async def test_it_sweeps_every_second_and_prunes_every_half_minute(tmp_path: Path) -> None:
    async with workshop(tmp_path, starts=False) as shop:
        await _rounds(shop.maintenance, shop.clock, 61)

        assert shop.doors.asked.count("rescue") in (61, 62)
        assert shop.doors.asked.count("prune") == 3


async def test_trouble_is_reported_and_the_next_sweep_comes(tmp_path: Path) -> None:
    async with workshop(tmp_path, starts=False) as shop:
        shop.doors.trouble["rescue"] = [
            StoreBusy(),
            StorageFull(),
            RuntimeError("defect"),
            StorageUnavailable(),
        ]

        await _rounds(shop.maintenance, shop.clock, 6)

        assert shop.problems == ["store.busy", "store.busy", "maintenance.broken"]
        assert shop.doors.asked.count("rescue") >= 6


async def test_a_store_that_is_away_is_reported_once_a_second(tmp_path: Path) -> None:
    """Also in the second in which there is something to prune."""
    async with workshop(tmp_path, starts=False) as shop:
        shop.doors.trouble["rescue"] = [StoreBusy(), StoreBusy()]
        shop.doors.trouble["prune"] = [StoreBusy()]

        await _rounds(shop.maintenance, shop.clock, 3)

        assert shop.problems == ["store.busy", "store.busy"]
