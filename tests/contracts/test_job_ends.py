"""What every job store must do: ends that no worker brings about, lists, and what is told of the queue."""

import pytest

from support.stores import ALICE, ANONYMOUS, BOB, GROQ, RELEASE, RETRY, StoreUnderTest
from tidegate.domain.access import AllOwners, OwnedBy
from tidegate.domain.errors import Conflict, ErrorCode
from tidegate.domain.inference import Call
from tidegate.domain.jobs import (
    Cancellation,
    JobFilter,
    JobId,
    JobRef,
    Lane,
    Outcome,
    Status,
)

pytestmark = pytest.mark.anyio


class TestCancel:
    async def test_a_waiting_job_ends_before_any_call(self, store: StoreUnderTest) -> None:
        job_id = await store.accept()

        done = await store.jobs.cancel(OwnedBy(ALICE), JobRef(job_id))

        assert done is not None
        assert done.ended_now
        details = done.job
        assert (details.state.status, details.state.status_code, details.outcome) == (
            Status.FAILED,
            499,
            Outcome.CANCELLED,
        )
        assert details.attempts == ()
        assert await store.claim() == []

    async def test_a_running_job_loses_its_lease(self, store: StoreUnderTest) -> None:
        job_id = await store.accept()
        claimed = await store.claim_one()

        done = await store.jobs.cancel(OwnedBy(ALICE), JobRef(job_id))

        assert done is not None
        assert [attempt.end for attempt in done.job.attempts] == ["cancelled"]
        assert not await store.complete(claimed)
        assert await store.status(job_id) == "failed"

    async def test_calls_made_before_the_worker_heard_of_it_are_booked(self, store: StoreUnderTest) -> None:
        job_id = await store.accept()
        claimed = await store.claim_one()
        await store.jobs.cancel(OwnedBy(ALICE), JobRef(job_id))
        call = Call(0, "openai", "echo", "main", billing="unknown")

        await store.jobs.settle(claimed.lease, RELEASE, [call])

        details = await store.jobs.inspect(OwnedBy(ALICE), JobRef(job_id))
        assert details is not None
        assert details.attempts[0].calls == (call,)

    async def test_again_changes_nothing(self, store: StoreUnderTest) -> None:
        job_id = await store.accept()
        first = await store.jobs.cancel(OwnedBy(ALICE), JobRef(job_id))
        store.later(seconds=5)

        again = await store.jobs.cancel(OwnedBy(ALICE), JobRef(job_id))

        assert first is not None
        assert again == Cancellation(first.job, ended_now=False)

    async def test_a_job_that_ended_otherwise_cannot_be_cancelled(self, store: StoreUnderTest) -> None:
        job_id = await store.accept()
        await store.complete(await store.claim_one())

        with pytest.raises(Conflict) as refusal:
            await store.jobs.cancel(OwnedBy(ALICE), JobRef(job_id))

        assert refusal.value.code is ErrorCode.JOB_NOT_CANCELLABLE

    async def test_a_foreign_job_is_not_there(self, store: StoreUnderTest) -> None:
        job_id = await store.accept(owner=ALICE)

        assert await store.jobs.cancel(OwnedBy(BOB), JobRef(job_id)) is None
        assert await store.status(job_id) == "pending"


class TestDeadline:
    async def test_a_job_that_never_started_says_so(self, store: StoreUnderTest) -> None:
        job_id = await store.accept(timeout=10)
        store.later(seconds=10)

        assert await store.jobs.expire(limit=100) == 1

        found = await store.state(job_id)
        assert found is not None
        assert found.error is not None
        assert (found.error.code, found.error.outcome) == ("queue_timeout", Outcome.QUEUE_TIMEOUT)

    async def test_a_running_job_is_ended_and_its_lease_void(self, store: StoreUnderTest) -> None:
        job_id = await store.accept(timeout=10)
        claimed = await store.claim_one()
        store.later(seconds=10)

        assert await store.jobs.expire(limit=100) == 1

        found = await store.state(job_id)
        assert found is not None
        assert found.error is not None
        assert found.error.code == "deadline_exceeded"
        assert not await store.complete(claimed)

    async def test_a_job_that_waits_for_a_retry_ends_too(self, store: StoreUnderTest) -> None:
        job_id = await store.accept(timeout=20)
        await store.jobs.settle((await store.claim_one()).lease, RETRY, ())
        store.later(seconds=20)

        await store.jobs.expire(limit=100)

        found = await store.state(job_id)
        assert found is not None
        assert found.error is not None
        assert found.error.code == "deadline_exceeded"

    async def test_nothing_is_expired_early(self, store: StoreUnderTest) -> None:
        await store.accept(timeout=10)
        store.later(seconds=9.999)

        assert await store.jobs.expire(limit=100) == 0

    async def test_a_sweep_is_bounded(self, store: StoreUnderTest) -> None:
        for _ in range(5):
            await store.accept(timeout=1)
        store.later(seconds=2)

        assert [await store.jobs.expire(limit=2) for _ in range(4)] == [2, 2, 1, 0]


class TestPrune:
    async def test_only_expired_jobs_are_erased(self, store: StoreUnderTest) -> None:
        gone = await store.accept(result_ttl=10)
        kept = await store.accept(result_ttl=1000)
        for claimed in await store.claim():
            await store.complete(claimed)
        waiting = await store.accept()
        store.later(seconds=10)

        assert await store.jobs.prune(limit=100) == 1

        assert [await store.status(job_id) for job_id in (gone, kept, waiting)] == [
            "gone",
            "completed",
            "pending",
        ]

    async def test_it_works_in_steps(self, store: StoreUnderTest) -> None:
        for _ in range(5):
            await store.accept(result_ttl=1)
        for claimed in await store.claim():
            await store.complete(claimed)
        store.later(seconds=2)

        assert [await store.jobs.prune(limit=2) for _ in range(4)] == [2, 2, 1, 0]


class TestList:
    async def test_pages_neither_skip_nor_repeat_while_jobs_arrive(self, store: StoreUnderTest) -> None:
        ids = []
        for _ in range(25):
            store.later(milliseconds=1)
            ids.append(await store.accept())
        seen: list[JobId] = []
        after: JobId | None = None
        while True:
            page = await store.jobs.list(OwnedBy(ALICE), JobFilter(), limit=4, newest_first=True, after=after)
            seen += [job.state.id for job in page.jobs]
            after = page.next_after
            store.later(milliseconds=1)
            await store.accept()
            if after is None:
                break

        assert seen == ids[::-1]

    async def test_filters(self, store: StoreUnderTest) -> None:
        done = await store.accept()
        await store.complete(await store.claim_one())
        groq = await store.accept(lane=GROQ)
        await store.accept(owner=BOB)

        async def found(reader: OwnedBy | AllOwners, wanted: JobFilter) -> list[JobId]:
            page = await store.jobs.list(reader, wanted, limit=50, newest_first=False, after=None)
            return [job.state.id for job in page.jobs]

        assert await found(OwnedBy(ALICE), JobFilter(statuses=(Status.COMPLETED,))) == [done]
        assert await found(OwnedBy(ALICE), JobFilter(model="groq/echo")) == [groq]
        assert await found(OwnedBy(ALICE), JobFilter(statuses=(Status.FAILED,))) == []
        assert len(await found(AllOwners(), JobFilter())) == 3

    async def test_a_key_lists_no_anonymous_jobs(self, store: StoreUnderTest) -> None:
        await store.accept(owner=ANONYMOUS)

        page = await store.jobs.list(OwnedBy(BOB), JobFilter(), limit=50, newest_first=True, after=None)

        assert page.jobs == ()

    async def test_expired_jobs_are_not_listed(self, store: StoreUnderTest) -> None:
        await store.accept(result_ttl=10)
        await store.complete(await store.claim_one())
        store.later(seconds=10)

        page = await store.jobs.list(OwnedBy(ALICE), JobFilter(), limit=50, newest_first=True, after=None)

        assert page.jobs == ()


class TestFacts:
    async def test_counts_by_priority(self, store: StoreUnderTest) -> None:
        oldest = store.clock.now()
        await store.accept(priority=1)
        await store.accept(priority=3)
        store.later(seconds=5)
        await store.accept(priority=3)
        await store.claim(1)

        counts = await store.jobs.counts()

        assert counts.processing == {1: 1}
        assert counts.pending == {3: 2}
        assert counts.oldest_pending == {3: oldest}

    async def test_lanes_with_waiting_jobs(self, store: StoreUnderTest) -> None:
        for lane in ("b", "a", "b", "c"):
            await store.accept(lane=Lane(lane))
        (claimed,) = await store.claim(1, Lane("c"))
        await store.jobs.settle(claimed.lease, RETRY, ())

        assert sorted(await store.jobs.pending_lanes()) == ["a", "b", "c"]

    async def test_a_write_can_be_tried(self, store: StoreUnderTest) -> None:
        await store.jobs.check()
