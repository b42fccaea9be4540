"""What a store that is shared must do for a limit to hold for all who share it."""

import asyncio

import pytest

from support.stores import OPENAI, StoreUnderTest
from tidegate.domain.fleet import ALONE

pytestmark = pytest.mark.anyio


async def test_no_more_of_a_lane_run_than_the_fleet_may(store: StoreUnderTest) -> None:
    """One claim after the other or all at once: SQLite's only process knows what it runs, and asks for no more."""
    for _ in range(20):
        await store.accept()

    claims = await asyncio.gather(
        *[store.jobs.claim({OPENAI: 7 if part == 0 else 0}, fleet={OPENAI: 7}) for part in range(3)]
    )

    assert sum(len(claimed) for claimed in claims) == 7


async def test_whoever_renews_is_one_of_the_fleet(store: StoreUnderTest) -> None:
    await store.jobs.renew(())

    assert store.jobs.fleet() == ALONE
