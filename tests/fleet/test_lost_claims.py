"""A claim that was committed although its answer never came: the jobs are ours, and nobody runs them."""

from collections.abc import AsyncIterator

import pytest

from support.postgres_store import PostgresUnderTest

pytestmark = pytest.mark.anyio


@pytest.fixture
async def store(url: str) -> AsyncIterator[PostgresUnderTest]:
    found = PostgresUnderTest(url)
    await found.begin()
    yield found
    await found.close()


async def test_what_nobody_knows_of_is_let_go_at_the_second_look(store: PostgresUnderTest) -> None:
    job = await store.accept()
    kept = await store.accept()
    _, known = await store.claim(2)
    assert known.id == kept

    await store.jobs.renew([known.lease])
    store.later(seconds=4)
    assert await store.status(job) == "processing"
    await store.jobs.renew([known.lease])

    assert await store.status(job) == "pending"
    assert await store.status(kept) == "processing"
    again = await store.claim_one()
    assert (again.id, again.failed_attempts, again.attempt) == (job, 0, 2)


async def test_a_claim_that_is_under_way_at_one_look_is_no_lost_one(store: PostgresUnderTest) -> None:
    await store.accept()
    await store.accept()
    first, second = await store.claim(2)

    await store.jobs.renew([second.lease])
    store.later(seconds=4)
    await store.jobs.renew([first.lease, second.lease])
    await store.jobs.renew([first.lease])
    found = await store.jobs.renew([first.lease, second.lease])

    assert list(found) == [first.lease, second.lease]
