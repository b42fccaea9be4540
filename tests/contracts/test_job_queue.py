"""What every job store must do: hand out jobs fairly, and take them back from the dead."""

import asyncio
from datetime import timedelta

import pytest

from support.stores import ALICE, BOB, GROQ, OPENAI, RELEASE, StoreUnderTest
from tidegate.domain.access import KeyId, OwnedBy
from tidegate.domain.jobs import (
    JobRef,
    Outcome,
)

pytestmark = pytest.mark.anyio


class TestClaim:
    async def test_a_claim_carries_all_that_running_takes(self, store: StoreUnderTest) -> None:
        job = store.new_job(candidates=("openai/echo", "groq/echo"), passes_extra_params=True)
        await store.jobs.accept(job)
        store.later(seconds=5)

        claimed = await store.claim_one()

        assert claimed.id == job.id
        assert (claimed.owner, claimed.key_id) == (ALICE, KeyId("alice"))
        assert claimed.candidates == ("openai/echo", "groq/echo")
        assert (claimed.attempt, claimed.failed_attempts, claimed.dead_keys) == (1, 0, ())
        assert claimed.passes_extra_params
        assert claimed.started_at == job.created_at + timedelta(seconds=5)
        assert claimed.deadline_at == job.created_at + timedelta(seconds=3600)
        assert await store.status(job.id) == "processing"

    async def test_a_job_is_claimed_once(self, store: StoreUnderTest) -> None:
        await asyncio.gather(*[store.accept() for _ in range(50)])

        claims = await asyncio.gather(*[store.claim(20) for _ in range(10)])

        ids = [claimed.id for batch in claims for claimed in batch]
        assert len(ids) == len(set(ids)) == 50

    async def test_no_more_is_claimed_than_a_lane_has_room_for(self, store: StoreUnderTest) -> None:
        for _ in range(5):
            await store.accept()
        await store.accept(lane=GROQ)

        claimed = await store.jobs.claim({OPENAI: 2, GROQ: 3})

        assert sorted(job.lane for job in claimed) == ["groq", "openai", "openai"]

    async def test_lanes_that_were_not_asked_for_are_left_alone(self, store: StoreUnderTest) -> None:
        await store.accept(lane=GROQ)

        assert await store.claim(lane=OPENAI) == []

    async def test_jobs_of_one_owner_come_in_order(self, store: StoreUnderTest) -> None:
        ids = [await store.accept() for _ in range(10)]

        assert [(await store.claim_one()).id for _ in ids] == ids

    async def test_a_better_priority_is_claimed_first(self, store: StoreUnderTest) -> None:
        usual = await store.accept()
        urgent = await store.accept(priority=1)
        late = await store.accept(priority=5)

        assert [claimed.id for claimed in await store.claim()] == [urgent, usual, late]

    async def test_a_new_owner_is_next_whatever_the_backlog_of_another(self, store: StoreUnderTest) -> None:
        for _ in range(100):
            await store.accept(owner=ALICE)
        await store.claim(10)
        newcomer = await store.accept(owner=BOB)

        assert newcomer in [claimed.id for claimed in await store.claim(2)]

    async def test_owners_share_a_lane_by_weight(self, store: StoreUnderTest) -> None:
        for _ in range(60):
            await store.accept(owner=ALICE, weight=2.0)
            await store.accept(owner=BOB, weight=1.0)

        first = await store.claim(30)

        assert sum(claimed.owner == ALICE for claimed in first) == 20

    async def test_the_worst_priority_does_not_starve(self, store: StoreUnderTest) -> None:
        patient = await store.accept(priority=5)
        turns = 0
        while True:
            await store.accept(priority=1)
            claimed = await store.claim_one()
            if claimed.id == patient:
                break
            await store.complete(claimed)
            turns += 1

        assert 300 <= turns <= 500

    async def test_fairness_survives_a_restart(self, store: StoreUnderTest) -> None:
        for _ in range(20):
            await store.accept(owner=ALICE)
        await store.claim(5)
        await store.restart_after_crash()
        last_of_alice = await store.accept(owner=ALICE)
        first_of_bob = await store.accept(owner=BOB)

        order = [claimed.id for claimed in await store.claim()]

        assert order.index(first_of_bob) < 10
        assert order[-1] == last_of_alice

    async def test_a_job_past_its_deadline_is_not_claimed(self, store: StoreUnderTest) -> None:
        await store.accept(timeout=10)
        store.later(seconds=10)

        assert await store.claim() == []


class TestRescue:
    async def test_jobs_of_a_dead_process_are_claimable_at_once(self, store: StoreUnderTest) -> None:
        running = await store.accept()
        waiting = await store.accept()
        await store.claim_one()

        await store.restart_after_crash()

        assert store.rescued == 1
        assert [claimed.id for claimed in await store.claim()] == [running, waiting]

    async def test_a_loss_is_counted_apart_from_failures(self, store: StoreUnderTest) -> None:
        job_id = await store.accept()
        await store.claim_one()
        await store.restart_after_crash()

        claimed = await store.claim_one()

        assert (claimed.attempt, claimed.failed_attempts) == (2, 0)
        details = await store.jobs.inspect(OwnedBy(ALICE), JobRef(job_id))
        assert details is not None
        assert details.losses == 1
        assert [attempt.end for attempt in details.attempts] == ["worker_lost", None]

    async def test_a_dead_process_can_write_nothing_more(self, store: StoreUnderTest) -> None:
        await store.accept()
        dead = await store.claim_one()
        await store.restart_after_crash()

        assert not await store.complete(dead)

    async def test_a_job_that_kills_its_workers_ends(self, store: StoreUnderTest) -> None:
        job_id = await store.accept()
        for _ in range(3):
            store.later(seconds=2)
            await store.claim_one()
            await store.restart_after_crash()

        assert await store.claim() == []
        details = await store.jobs.inspect(OwnedBy(ALICE), JobRef(job_id))
        assert details is not None
        assert (details.outcome, details.state.status_code, details.losses) == (Outcome.WORKER_LOST, 500, 3)

    async def test_suspects_are_claimed_one_at_a_time(self, store: StoreUnderTest) -> None:
        """So that the third loss convicts the culprit and not its neighbours."""
        ids = {await store.accept() for _ in range(4)}
        for _ in range(2):
            store.later(seconds=2)
            while await store.claim():
                store.later(seconds=2)
            await store.restart_after_crash()
        innocent = await store.accept()
        store.later(seconds=2)

        first = await store.claim()
        second = await store.claim()
        store.later(seconds=1)
        third = await store.claim()

        assert {claimed.id for claimed in first} == {innocent} | {
            first[0].id if first[0].id in ids else first[1].id
        }
        assert len(first) == 2
        assert second == []
        assert len(third) == 1
        assert third[0].id in ids

    async def test_suspects_respect_the_room_of_their_lane(self, store: StoreUnderTest) -> None:
        await store.accept()
        for _ in range(2):
            store.later(seconds=2)
            await store.claim_one()
            await store.restart_after_crash()
        await store.accept()
        store.later(seconds=2)

        assert len(await store.claim(1)) == 1

    async def test_an_orderly_release_makes_no_suspect(self, store: StoreUnderTest) -> None:
        for _ in range(3):
            await store.accept()
        for _ in range(5):
            for claimed in await store.claim():
                await store.jobs.settle(claimed.lease, RELEASE, ())

        assert len(await store.claim()) == 3

    async def test_our_own_leases_are_not_rescued(self, store: StoreUnderTest) -> None:
        await store.accept()
        claimed = await store.claim_one()

        assert await store.jobs.rescue() == 0
        assert await store.complete(claimed)
