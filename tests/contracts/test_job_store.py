"""What every job store must do, whatever database lies beneath: keep what it was given, and end it once."""

import asyncio
from datetime import timedelta

import pytest

from support.stores import ALICE, ANONYMOUS, BOB, REFUSED, RELEASE, RETRY, StoreUnderTest
from tidegate.domain.access import ADMIN, AllOwners, KeyId, OwnedBy, owner_of_key
from tidegate.domain.errors import Conflict, ErrorCode, InvalidRequest
from tidegate.domain.inference import Call, RequestType, Usage
from tidegate.domain.jobs import (
    Completed,
    JobId,
    JobRef,
    Outcome,
    Postponed,
    Status,
)

pytestmark = pytest.mark.anyio


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

        await store.restart_after_crash()

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

    async def test_a_record_that_has_to_stay_is_not_looked_at_again_and_again(
        self, store: StoreUnderTest
    ) -> None:
        for name in ("one", "two"):
            await store.accept(idempotency=store.idempotency(name), result_ttl=604_800)
        await store.complete(await store.claim_one())
        await store.complete(await store.claim_one())
        store.later(hours=25)

        assert [await store.jobs.prune(limit=1) for _ in range(3)] == [1, 1, 0]

        store.later(days=7)
        assert [await store.jobs.prune(limit=100) for _ in range(2)] == [4, 0]

    async def test_a_record_is_forgotten_after_a_day_once_the_job_is_gone(
        self, store: StoreUnderTest
    ) -> None:
        await store.accept(idempotency=store.idempotency(), result_ttl=60)
        await store.complete(await store.claim_one())
        store.later(hours=25)

        await store.jobs.prune(limit=100)

        assert await store.jobs.replayed(store.idempotency()) is None

    async def test_each_record_of_a_batch_is_kept_for_its_own_time(self, store: StoreUnderTest) -> None:
        hours = {f"for {hours} h, {n}": hours for n in range(20) for hours in (1, 3)}
        records = {name: store.idempotency(name, keep_for=timedelta(hours=hours[name])) for name in hours}
        jobs = [store.new_job(idempotency=record, result_ttl=60) for record in records.values()]
        await asyncio.gather(*[store.jobs.accept(job) for job in jobs])
        for claimed in await store.claim():
            await store.complete(claimed)
        store.later(hours=2)

        await store.jobs.prune(limit=100)

        for name, record in records.items():
            if hours[name] == 1:
                assert await store.jobs.replayed(record) is None
            else:
                with pytest.raises(Conflict):
                    await store.jobs.replayed(record)

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
