"""What a statement reads does not grow with what waits, whatever the planner believes the table to hold."""

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from support.postgres_store import PostgresUnderTest
from support.stores import ALICE, OPENAI
from tidegate.domain.access import AllOwners, OwnedBy, Reader
from tidegate.domain.jobs import Completed, JobFilter, JobPage, Status
from tidegate.store.postgres.connection import PostgresOptions

pytestmark = pytest.mark.anyio

MANY = 6000
BATCH = 50
MOST = 60
"""Rows read for one job, with all that happens to it in passing."""
PAGES = [
    (reader, wanted)
    for reader in (AllOwners(), OwnedBy(ALICE))
    for wanted in (
        JobFilter(statuses=(Status.PROCESSING,)),
        JobFilter(statuses=(Status.COMPLETED, Status.FAILED)),
        JobFilter(),
    )
]


@pytest.fixture(params=["plans made now", "plans of an empty table"])
async def deceived(
    url: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> AsyncIterator[PostgresUnderTest]:
    """A store whose planner saw the tables empty, and never since; one connection, so that its reads can be counted.

    A plan is made once and kept: that may be before anything was in the tables.
    """
    monkeypatch.setattr(PostgresOptions, "pool_size", 1, raising=False)
    store = PostgresUnderTest(url)
    await store.begin()
    await store.execute("ALTER TABLE jobs SET (autovacuum_enabled = false)")
    await store.execute("VACUUM ANALYZE")
    if request.param == "plans of an empty table":
        await store.accept(lane=OPENAI)
        (first,) = await store.claim(BATCH)
        await store.jobs.settle(first.lease, Completed(b"{}"), ())
        await sweep(store)
        for reader, wanted in PAGES:
            await a_page(store, reader, wanted)
    yield store
    await store.close()


async def rows_read(url: str) -> int:
    connection = await asyncpg.connect(url)
    found: Any = await connection.fetchval(
        "SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_user_tables WHERE relname = 'jobs'"
    )
    await connection.close()
    return int(found)


async def flushed(store: PostgresUnderTest) -> int:
    for _ in range(3):
        await store.store._database.fetch("SELECT pg_stat_force_next_flush()")
    return await rows_read(store.url)


async def test_reads_do_not_grow_with_the_backlog(deceived: PostgresUnderTest) -> None:
    store = deceived
    for _ in range(MANY // 250):
        await store.store._database.fetch("SELECT 1")
        await accept_many(store, 250)

    read = await flushed(store)
    claimed = await store.claim(BATCH)
    after_claim = await flushed(store)
    for job in claimed:
        await store.jobs.settle(job.lease, Completed(b"{}"), ())
    after_settle = await flushed(store)
    await store.jobs.renew([job.lease for job in claimed])
    await sweep(store)
    after_sweeps = await flushed(store)

    assert len(claimed) == BATCH
    assert after_claim - read <= MOST * BATCH
    assert after_settle - after_claim <= MOST * BATCH
    assert after_sweeps - after_settle <= MOST * BATCH


async def test_a_page_reads_no_more_than_it_shows(deceived: PostgresUnderTest) -> None:
    """Of few among many others too: what has failed, or runs, while thousands wait."""
    store = deceived
    await accept_many(store, MANY)
    (running,) = await store.claim(1)

    for reader, wanted in PAGES:
        before = await flushed(store)
        page = await a_page(store, reader, wanted)
        assert await flushed(store) - before <= 3 * BATCH
        assert [job.state.id for job in page.jobs if job.state.status is Status.PROCESSING] == (
            [running.id] if Status.PROCESSING in wanted.statuses else []
        )


async def sweep(store: PostgresUnderTest) -> None:
    await store.jobs.rescue()
    await store.jobs.expire(limit=500)
    await store.jobs.prune(limit=500)
    await store.jobs.next_due()
    await store.jobs.pending_lanes()


async def a_page(store: PostgresUnderTest, reader: Reader, wanted: JobFilter) -> JobPage:
    return await store.jobs.list(reader, wanted, limit=BATCH, newest_first=True, after=None)


async def accept_many(store: PostgresUnderTest, count: int) -> None:
    for _ in range(count):
        await store.accept(lane=OPENAI)
