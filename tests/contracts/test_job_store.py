"""What every job store must do, whatever database lies beneath."""

import asyncio
from datetime import timedelta

import pytest

from support.stores import ALICE, ANONYMOUS, BOB, GROQ, OPENAI, REFUSED, StoreUnderTest
from tidegate.domain.access import ADMIN, AllOwners, KeyId, OwnedBy, owner_of_key
from tidegate.domain.errors import Conflict, ErrorCode, InvalidRequest
from tidegate.domain.inference import Call, RequestType, Usage
from tidegate.domain.jobs import (
    Cancellation,
    Completed,
    JobFilter,
    JobId,
    JobRef,
    Lane,
    Outcome,
    Postponed,
    Status,
)

pytestmark = pytest.mark.anyio

RETRY = Postponed(delay=timedelta(seconds=30))
RELEASE = Postponed(is_charged=False)


class TestAccept:
    async def test_an_accepted_job_is_pending_with_what_was_submitted(self, store: StoreUnderTest) -> None:
        job = store.new_job(result_ttl=60, priority=2, actor="nightly")

        accepted = await store.jobs.accept(job)

        assert not accepted.is_replay
        assert accepted.job == await store.state(job.id)
        details = await store.jobs.inspect(OwnedBy(ALICE), JobRef(job.id))
        assert details is not None
        assert details.state.status is Status.PENDING
        assert details.state.created_at == job.created_at
        assert details.deadline_at == job.created_at + timedelta(seconds=3600)
        assert (details.options, details.actor) == (job.options, "nightly")

    async def test_a_body_is_kept_byte_for_byte(self, store: StoreUnderTest) -> None:
        body = b'{"text":"\\u0000\xc3\xa9","n":1.10,  "dup":1,"dup":2}'
        await store.accept(body=body)

        claimed = await store.claim_one()

        assert claimed.body == body

    async def test_concurrent_accepts_are_all_durable(self, store: StoreUnderTest) -> None:
        ids = await asyncio.gather(*[store.accept() for _ in range(300)])

        store.crash_and_restart()

        assert [await store.status(job_id) for job_id in ids] == ["pending"] * 300

    async def test_an_accept_announces_work(self, store: StoreUnderTest) -> None:
        waiting = asyncio.create_task(store.wake_ups.wait_for_work(timedelta(seconds=10)))
        await asyncio.sleep(0)

        await store.accept()

        await asyncio.wait_for(waiting, 1)


class TestIdempotency:
    async def test_a_repeat_gets_the_same_job(self, store: StoreUnderTest) -> None:
        first = await store.jobs.accept(store.new_job(idempotency=store.idempotency()))

        again = await store.jobs.accept(store.new_job(idempotency=store.idempotency()))

        assert again.is_replay
        assert again.job == first.job
        assert len(await store.claim()) == 1

    async def test_concurrent_duplicates_make_one_job(self, store: StoreUnderTest) -> None:
        jobs = [store.new_job(idempotency=store.idempotency()) for _ in range(200)]

        accepted = await asyncio.gather(*[store.jobs.accept(job) for job in jobs])

        assert len({receipt.job.id for receipt in accepted}) == 1
        assert sum(not receipt.is_replay for receipt in accepted) == 1
        assert len(await store.claim(300)) == 1

    async def test_another_request_under_the_same_key_is_refused(self, store: StoreUnderTest) -> None:
        await store.accept(idempotency=store.idempotency())

        with pytest.raises(InvalidRequest) as refusal:
            await store.accept(idempotency=store.idempotency(fingerprint=b"g" * 32))

        assert refusal.value.code is ErrorCode.IDEMPOTENCY_KEY_REUSED

    async def test_a_replay_can_be_asked_for_without_submitting(self, store: StoreUnderTest) -> None:
        assert await store.jobs.replayed(store.idempotency()) is None
        job_id = await store.accept(idempotency=store.idempotency())

        found = await store.jobs.replayed(store.idempotency())

        assert found is not None
        assert found.id == job_id

    async def test_a_replay_shows_the_end_of_the_job(self, store: StoreUnderTest) -> None:
        await store.accept(idempotency=store.idempotency())
        await store.complete(await store.claim_one(), b'{"answer":42}')

        found = await store.jobs.replayed(store.idempotency())

        assert found is not None
        assert (found.status, found.result) == (Status.COMPLETED, b'{"answer":42}')

    async def test_a_replay_never_starts_an_expired_job_again(self, store: StoreUnderTest) -> None:
        await store.accept(idempotency=store.idempotency(), result_ttl=60)
        await store.complete(await store.claim_one())
        store.later(seconds=61)
        await store.jobs.prune(limit=100)

        with pytest.raises(Conflict) as refusal:
            await store.accept(idempotency=store.idempotency())

        assert refusal.value.code is ErrorCode.IDEMPOTENT_JOB_GONE

    async def test_a_record_outlives_its_day_while_the_job_is_there(self, store: StoreUnderTest) -> None:
        await store.accept(idempotency=store.idempotency(), timeout=604_800)
        store.later(hours=30)

        await store.jobs.prune(limit=100)

        assert await store.jobs.replayed(store.idempotency()) is not None

    async def test_a_record_is_forgotten_after_a_day_once_the_job_is_gone(
        self, store: StoreUnderTest
    ) -> None:
        await store.accept(idempotency=store.idempotency(), result_ttl=60)
        await store.complete(await store.claim_one())
        store.later(hours=25)

        await store.jobs.prune(limit=100)

        assert await store.jobs.replayed(store.idempotency()) is None

    async def test_keys_of_different_owners_do_not_meet(self, store: StoreUnderTest) -> None:
        one = await store.jobs.accept(store.new_job(idempotency=store.idempotency("alice")))
        other = await store.jobs.accept(store.new_job(owner=BOB, idempotency=store.idempotency("bob")))

        assert one.job.id != other.job.id


class TestRead:
    async def test_only_the_owner_and_an_admin_see_a_job(self, store: StoreUnderTest) -> None:
        job_id = await store.accept(owner=ALICE)

        async def sees(reader: OwnedBy | AllOwners) -> bool:
            return await store.jobs.get(reader, JobRef(job_id)) is not None

        assert await sees(OwnedBy(ALICE))
        assert await sees(AllOwners())
        assert not await sees(OwnedBy(BOB))
        assert not await sees(OwnedBy(ANONYMOUS))
        assert not await sees(OwnedBy(ADMIN))

    async def test_an_anonymous_job_is_seen_by_whoever_knows_its_id(self, store: StoreUnderTest) -> None:
        job_id = await store.accept(owner=ANONYMOUS)

        for reader in (OwnedBy(ANONYMOUS), OwnedBy(BOB), AllOwners()):
            assert await store.jobs.get(reader, JobRef(job_id)) is not None

    async def test_a_key_named_like_a_role_gains_nothing(self, store: StoreUnderTest) -> None:
        job_id = await store.accept(owner=ADMIN)

        assert await store.state(job_id, owner=owner_of_key(KeyId("admin"))) is None

    async def test_the_request_type_of_the_route_must_fit(self, store: StoreUnderTest) -> None:
        job_id = await store.accept()

        found = await store.jobs.get(OwnedBy(ALICE), JobRef(job_id, RequestType.CHAT_COMPLETION))

        assert found is not None

    async def test_an_unknown_id_is_nothing(self, store: StoreUnderTest) -> None:
        assert await store.state(JobId("00000000-0000-0000-0000-000000000000")) is None

    async def test_a_result_is_readable_until_the_instant_it_expires(self, store: StoreUnderTest) -> None:
        job_id = await store.accept(result_ttl=60)
        await store.complete(await store.claim_one())
        completed = await store.state(job_id)
        assert completed is not None
        assert completed.completed_at is not None
        assert completed.expires_at == completed.completed_at + timedelta(seconds=60)

        store.later(seconds=59.999)
        assert await store.state(job_id) == completed
        store.later(seconds=0.001)

        assert await store.state(job_id) is None
        assert await store.jobs.inspect(AllOwners(), JobRef(job_id)) is None


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
        store.crash_and_restart()
        last_of_alice = await store.accept(owner=ALICE)
        first_of_bob = await store.accept(owner=BOB)

        order = [claimed.id for claimed in await store.claim()]

        assert order.index(first_of_bob) < 10
        assert order[-1] == last_of_alice

    async def test_a_job_past_its_deadline_is_not_claimed(self, store: StoreUnderTest) -> None:
        await store.accept(timeout=10)
        store.later(seconds=10)

        assert await store.claim() == []


class TestSettle:
    async def test_a_completed_job_shows_its_result(self, store: StoreUnderTest) -> None:
        job_id = await store.accept()

        assert await store.complete(await store.claim_one(), b'{"x":1}')

        found = await store.state(job_id)
        assert found is not None
        assert (found.status, found.status_code, found.result) == (Status.COMPLETED, 200, b'{"x":1}')

    async def test_a_failed_job_shows_its_error(self, store: StoreUnderTest) -> None:
        job_id = await store.accept()

        assert await store.fail(await store.claim_one())

        found = await store.jobs.inspect(OwnedBy(ALICE), JobRef(job_id))
        assert found is not None
        assert (found.state.status, found.state.status_code) == (Status.FAILED, 400)
        assert (found.state.error, found.outcome, found.error_code) == (
            REFUSED,
            Outcome.PROVIDER_ERROR,
            "upstream_rejected",
        )

    async def test_the_first_end_stays(self, store: StoreUnderTest) -> None:
        job_id = await store.accept()
        claimed = await store.claim_one()
        await store.complete(claimed, b'{"first":true}')

        assert not await store.fail(claimed)
        assert not await store.complete(claimed, b'{"second":true}')

        found = await store.state(job_id)
        assert found is not None
        assert found.result == b'{"first":true}'

    async def test_a_lost_lease_writes_nothing(self, store: StoreUnderTest) -> None:
        job_id = await store.accept()
        claimed = await store.claim_one()
        await store.jobs.settle(claimed.lease, RELEASE, ())
        again = await store.claim_one()

        assert not await store.complete(claimed)

        assert await store.status(job_id) == "processing"
        assert await store.complete(again)

    async def test_a_postponed_job_waits_and_is_charged(self, store: StoreUnderTest) -> None:
        job_id = await store.accept()
        await store.jobs.settle((await store.claim_one()).lease, RETRY, ())

        found = await store.state(job_id)
        assert found is not None
        assert (found.status, found.next_run_at) == (
            Status.PENDING,
            store.clock.now() + timedelta(seconds=30),
        )
        assert await store.claim() == []
        assert await store.jobs.next_due() == store.clock.now() + timedelta(seconds=30)

        store.later(seconds=30)
        claimed = await store.claim_one()
        assert (claimed.attempt, claimed.failed_attempts) == (2, 1)

    async def test_a_released_job_keeps_its_place_and_is_not_charged(self, store: StoreUnderTest) -> None:
        first = await store.accept()
        await store.accept()
        await store.jobs.settle((await store.claim_one()).lease, RELEASE, ())

        claimed = await store.claim_one()

        assert claimed.id == first
        assert (claimed.attempt, claimed.failed_attempts) == (2, 0)

    async def test_dead_keys_are_kept_for_the_next_attempt(self, store: StoreUnderTest) -> None:
        await store.accept()
        ending = Postponed(delay=timedelta(0), dead_keys=("main", "spare"))
        await store.jobs.settle((await store.claim_one()).lease, ending, ())

        assert (await store.claim_one()).dead_keys == ("main", "spare")

    async def test_every_attempt_is_on_record(self, store: StoreUnderTest) -> None:
        job_id = await store.accept()
        call = Call(0, "openai", "echo", "main", store.clock.now(), error_code="upstream_busy")
        await store.jobs.settle((await store.claim_one()).lease, RETRY, [call])
        store.later(seconds=30)
        await store.jobs.settle((await store.claim_one()).lease, RELEASE, ())
        answered = Call(0, "openai", "echo", "main", usage=Usage(1, 2, 3), billing="known")
        await store.jobs.settle((await store.claim_one()).lease, Completed(b"{}"), [answered])

        details = await store.jobs.inspect(OwnedBy(ALICE), JobRef(job_id))

        assert details is not None
        assert [(attempt.number, attempt.end) for attempt in details.attempts] == [
            (1, "requeued"),
            (2, "released"),
            (3, "succeeded"),
        ]
        assert [attempt.calls for attempt in details.attempts] == [(call,), (), (answered,)]

    async def test_a_running_attempt_is_shown_without_an_end(self, store: StoreUnderTest) -> None:
        job_id = await store.accept()
        await store.claim_one()

        details = await store.jobs.inspect(OwnedBy(ALICE), JobRef(job_id))

        assert details is not None
        assert [(attempt.number, attempt.end) for attempt in details.attempts] == [(1, None)]

    async def test_an_end_is_announced_to_who_watches(self, store: StoreUnderTest) -> None:
        job_id = await store.accept()
        claimed = await store.claim_one()
        with store.wake_ups.watch(job_id) as watch:
            waiting = asyncio.create_task(watch.wait(timedelta(seconds=10)))
            await store.complete(claimed)
            await asyncio.wait_for(waiting, 1)

    async def test_a_postponed_job_is_no_end(self, store: StoreUnderTest) -> None:
        job_id = await store.accept()
        claimed = await store.claim_one()
        with store.wake_ups.watch(job_id) as watch:
            await store.jobs.settle(claimed.lease, RETRY, ())

            assert not watch.heard.done()


class TestRenew:
    async def test_the_leases_that_are_still_ours(self, store: StoreUnderTest) -> None:
        for _ in range(3):
            await store.accept()
        kept, cancelled, done = await store.claim()
        await store.jobs.cancel(AllOwners(), JobRef(cancelled.id))
        await store.complete(done)

        assert await store.jobs.renew([kept.lease, cancelled.lease, done.lease]) == [kept.lease]


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


class TestRescue:
    async def test_jobs_of_a_dead_process_are_claimable_at_once(self, store: StoreUnderTest) -> None:
        running = await store.accept()
        waiting = await store.accept()
        await store.claim_one()

        store.crash_and_restart()

        assert store.store.rescued == 1
        assert [claimed.id for claimed in await store.claim()] == [running, waiting]

    async def test_a_loss_is_counted_apart_from_failures(self, store: StoreUnderTest) -> None:
        job_id = await store.accept()
        await store.claim_one()
        store.crash_and_restart()

        claimed = await store.claim_one()

        assert (claimed.attempt, claimed.failed_attempts) == (2, 0)
        details = await store.jobs.inspect(OwnedBy(ALICE), JobRef(job_id))
        assert details is not None
        assert details.losses == 1
        assert [attempt.end for attempt in details.attempts] == ["worker_lost", None]

    async def test_a_dead_process_can_write_nothing_more(self, store: StoreUnderTest) -> None:
        await store.accept()
        dead = await store.claim_one()
        store.crash_and_restart()

        assert not await store.complete(dead)

    async def test_a_job_that_kills_its_workers_ends(self, store: StoreUnderTest) -> None:
        job_id = await store.accept()
        for _ in range(3):
            store.later(seconds=2)
            await store.claim_one()
            store.crash_and_restart()

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
            store.crash_and_restart()
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
            store.crash_and_restart()
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


class TestTime:
    async def test_a_wall_clock_that_steps_back_revives_nothing(self, store: StoreUnderTest) -> None:
        job_id = await store.accept(result_ttl=60)
        await store.complete(await store.claim_one())
        store.later(seconds=61)
        assert await store.state(job_id) is None

        store.clock.step_wall_clock(timedelta(hours=-1))

        assert await store.state(job_id) is None

    async def test_a_step_forward_loses_no_lease(self, store: StoreUnderTest) -> None:
        await store.accept(timeout=604_800)
        claimed = await store.claim_one()

        store.clock.step_wall_clock(timedelta(days=1))
        await store.jobs.rescue()

        assert await store.complete(claimed)
