"""Who is dead is decided by somebody who has been looking for a while: an outage kills nobody, a crowd saves nobody."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Final

import pytest

from support.postgres_store import PostgresUnderTest
from support.stores import OPENAI
from tidegate.store.postgres.workers import LEASE

pytestmark = pytest.mark.anyio

LOOK_EVERY: Final = timedelta(seconds=1)
AFTER_AN_OUTAGE: Final = 5
"""Seconds that the living get to say so."""


@pytest.fixture
async def store(url: str) -> AsyncIterator[PostgresUnderTest]:
    """With a job whose worker is dead from now on, and somebody who has been looking for long."""
    found = PostgresUnderTest(url)
    await found.begin()
    for _ in range(10):
        await look(found)
    await found.accept()
    assert await found.jobs.claim({OPENAI: 1})
    yield found
    await found.close()


async def look(store: PostgresUnderTest, after: timedelta = LOOK_EVERY) -> int:
    store.clock.advance(after)
    return await store.jobs.rescue()


async def looks_until_rescued(store: PostgresUnderTest) -> int:
    for count in range(1, 60):
        if await look(store):
            return count
    raise AssertionError("nobody ever rescued the job")


async def test_a_dead_worker_is_found_by_the_second(store: PostgresUnderTest) -> None:
    assert await looks_until_rescued(store) == LEASE // LOOK_EVERY + 1


async def test_of_two_who_look_at_once_the_later_one_had_the_older_time(store: PostgresUnderTest) -> None:
    for _ in range(LEASE // LOOK_EVERY):
        assert await look(store) == 0
    await store.execute("UPDATE watch SET looked_at = looked_at + 1003")

    assert await look(store) == 1


async def test_nobody_is_declared_dead_right_after_an_outage(store: PostgresUnderTest) -> None:
    assert await look(store, LEASE * 2) == 0
    assert await looks_until_rescued(store) == AFTER_AN_OUTAGE


async def test_a_short_gap_puts_nothing_off(store: PostgresUnderTest) -> None:
    gap = timedelta(seconds=4)
    for _ in range((LEASE - gap) // LOOK_EVERY):
        assert await look(store) == 0

    assert await look(store, gap) == 0
    assert await look(store) == 1
