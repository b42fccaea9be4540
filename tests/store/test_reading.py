"""Answers made of several queries, while somebody writes between them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from support.stores import ALICE, StoreUnderTest
from tidegate.domain.access import OwnedBy
from tidegate.domain.ids import epoch_ms
from tidegate.domain.jobs import JobRef
from tidegate.store.sqlite import reading

pytestmark = pytest.mark.anyio


async def test_an_attempt_that_ends_between_two_queries_is_shown_once(tmp_path: Path) -> None:
    store = StoreUnderTest(tmp_path / "tidegate.db")
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
