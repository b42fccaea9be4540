"""Answers made of several queries, while somebody writes between them."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import apsw
import pytest

from support.stores import ALICE, SqliteUnderTest
from tidegate.domain.access import OwnedBy
from tidegate.domain.ids import epoch_ms
from tidegate.domain.jobs import JobRef
from tidegate.store.sqlite import reading

pytestmark = pytest.mark.anyio


async def test_an_attempt_that_ends_between_two_queries_is_shown_once(tmp_path: Path) -> None:
    store = SqliteUnderTest(tmp_path / "tidegate.db")
    store.open()
    job_id = await store.accept()
    claimed = await store.claim_one()
    look_up = store.store._readers.look_up
    before: list[list[Any]] = []

    def remember(sql: str, bindings: Sequence[Any]) -> list[Any]:
        before.append(look_up(sql, bindings))
        return before[-1]

    def look_up_first_before(sql: str, bindings: Sequence[Any]) -> list[Any]:
        return before.pop() if before else look_up(sql, bindings)

    asked = (OwnedBy(ALICE), JobRef(job_id), epoch_ms(store.clock.now()))
    reading.details(remember, *asked)
    del before[1:]
    await store.complete(claimed)
    found = reading.details(look_up_first_before, *asked)

    assert found is not None
    assert [(attempt.number, attempt.end) for attempt in found.attempts] == [(1, None)]
    await store.store.close()


async def test_look_ups_of_one_turn_see_one_moment_and_the_next_turn_sees_what_came(tmp_path: Path) -> None:
    store = SqliteUnderTest(tmp_path / "tidegate.db")
    store.open()
    job_id = await store.accept()
    claimed = await store.claim_one()
    look_up = store.store._readers.look_up
    other = apsw.Connection(str(store.path))
    ask = ("SELECT status FROM jobs", ())

    before = look_up(*ask)
    other.execute("UPDATE jobs SET status = 'failed'")
    within = look_up(*ask)
    await asyncio.sleep(0)

    assert before == within == [("processing",)]
    assert look_up(*ask) == [("failed",)]
    other.execute("UPDATE jobs SET status = 'processing'")
    other.close()
    await store.complete(claimed)
    assert await store.status(job_id) == "completed"
    await store.store.close()


async def test_whoever_is_told_of_a_write_sees_it_though_others_read_all_the_time(tmp_path: Path) -> None:
    store = SqliteUnderTest(tmp_path / "tidegate.db")
    store.open()
    is_over = False

    async def read_all_the_time() -> None:
        while not is_over:
            store.store._readers.look_up("SELECT 1", ())
            await asyncio.sleep(0)

    reading_on = [asyncio.create_task(read_all_the_time()) for _ in range(3)]
    seen = [await store.status(await store.accept()) for _ in range(200)]
    is_over = True
    await asyncio.gather(*reading_on)

    assert seen == ["pending"] * 200
    await store.store.close()
