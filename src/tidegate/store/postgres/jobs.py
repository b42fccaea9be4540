"""The job store's port on PostgreSQL: accepts and endings go in batches, everything else as a statement of its own."""

import contextlib
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime
from typing import Final, final

from tidegate.domain.access import Reader
from tidegate.domain.errors import StoreError
from tidegate.domain.fleet import Fleet
from tidegate.domain.inference import Call
from tidegate.domain.jobs import (
    Accepted,
    Cancellation,
    Claimed,
    Completed,
    Ending,
    Idempotency,
    JobDetails,
    JobFilter,
    JobId,
    JobPage,
    JobRef,
    JobState,
    Lane,
    Lease,
    NewJob,
    Postponed,
    QueueCounts,
)
from tidegate.ports import WakeUps
from tidegate.store.group_commit import BatchLimits, GroupCommit, Settled
from tidegate.store.postgres import accepting, ending, leasing, reading, workers
from tidegate.store.postgres.clock import DatabaseClock
from tidegate.store.postgres.database import Database
from tidegate.store.postgres.leasing import Settlement
from tidegate.store.postgres.workers import Worker

_ROW_SIZE: Final = 600
"""Bytes a job takes besides its body, roughly."""
_SUSPECT_EVERY: Final = 1.0
_ANSWERED_WITHIN: Final = 3.0
_RELEASED: Final = Postponed(is_charged=False)
_COUNTED_AGAIN_AFTER: Final = 2.0
_REST_AFTER_COUNTING: Final = 20
"""Times as long as counting took: a million that wait are counted in half a second."""


@final
class PostgresJobs:
    """Implements ``JobStore``."""

    def __init__(
        self,
        database: Database,
        *,
        renewals: Database,
        worker: Worker,
        loss_budget: int,
        clock: DatabaseClock,
        wake_ups: WakeUps,
        limits: BatchLimits,
    ) -> None:
        """``renewals`` has a connection that nothing else waits for: a full pool must not cost a worker its leases."""
        self._database = database
        self._renewals = renewals
        self._worker = worker
        self._loss_budget = loss_budget
        self._clock = clock
        self._wake_ups = wake_ups
        self._accepts: GroupCommit[NewJob] = GroupCommit(self._accept_all, _nothing, limits)
        self._endings: GroupCommit[Settlement] = GroupCommit(self._settle_all, _nothing, limits)
        self._is_registered = False
        self._is_settled = False
        self._fleet = Fleet(is_settled=False)
        self._unheard: dict[Lease, float] = {}
        """Leases that are booked as ours and that we do not know of, and since when."""
        self._unanswered: set[bytes] = set()
        self._suspect_after = 0.0
        self._counts: QueueCounts | None = None
        self._count_again_at = 0.0

    async def accept(self, job: NewJob) -> Accepted:
        accepted: Accepted = await self._accepts.submit(job, len(job.body) + _ROW_SIZE)
        if not accepted.is_replay:
            self._wake_ups.work_arrived()
        return accepted

    async def replayed(self, idempotency: Idempotency) -> JobState | None:
        return await accepting.replayed(self._database, idempotency)

    async def get(self, reader: Reader, ref: JobRef) -> JobState | None:
        return await reading.state(self._database, reader, ref)

    async def inspect(self, reader: Reader, ref: JobRef) -> JobDetails | None:
        return await reading.details(self._database, reader, ref)

    async def list(
        self, reader: Reader, wanted: JobFilter, *, limit: int, newest_first: bool, after: JobId | None
    ) -> JobPage:
        return await reading.page(
            self._database, reader, wanted, limit=limit, newest_first=newest_first, after=after
        )

    async def claim(
        self, lanes: Mapping[Lane, int], *, fleet: Mapping[Lane, int] | None = None
    ) -> Sequence[Claimed]:
        if not self._is_registered:
            await self.renew(())
        is_due, is_suspected = await leasing.what_waits(self._database)
        if is_due:
            await leasing.rank_what_is_due(self._database)
        room = dict(lanes)
        claimed: list[Claimed] = []
        now = self._clock.monotonic()
        if is_suspected and now >= self._suspect_after:
            claimed = await leasing.claim_suspect(self._database, self._worker.id, room)
            if claimed:
                self._suspect_after = now + _SUSPECT_EVERY
        for job in claimed:
            room[job.lane] -= 1
        return claimed + await leasing.claim(self._database, self._worker.id, room, fleet)

    async def renew(self, leases: Sequence[Lease]) -> Sequence[Lease]:
        booked, now = await workers.renew(self._renewals, self._worker)
        found = await workers.fleet(self._renewals, self._worker.id)
        # Once settled always settled: whoever comes later waits for us.
        self._is_settled = self._is_settled or found.is_settled
        self._fleet = Fleet(found.members, found.place, self._is_settled)
        self._is_registered = True
        self._clock.set(now)
        await self._release_unheard(booked - set(leases))
        return [lease for lease in leases if lease in booked]

    async def _release_unheard(self, leases: AbstractSet[Lease]) -> None:
        """Claims whose answer a broken line took: nobody runs these jobs, and as long as we live nobody would."""
        now = self._clock.monotonic()
        self._unheard = {lease: self._unheard.get(lease, now) for lease in leases}
        lost = [lease for lease, since in self._unheard.items() if now - since >= _ANSWERED_WITHIN]
        releases = [Settlement(lease, _RELEASED, ()) for lease in lost]
        if releases and any(await self._settle_all(releases)):
            self._wake_ups.work_arrived()

    def fleet(self) -> Fleet:
        return self._fleet

    async def settle(self, lease: Lease, ending: Ending, calls: Sequence[Call]) -> bool:
        size = len(ending.result) if isinstance(ending, Completed) else 0
        was_ours: bool = await self._endings.submit(Settlement(lease, ending, calls), size + _ROW_SIZE)
        if isinstance(ending, Postponed):
            self._wake_ups.work_arrived()
        elif was_ours:
            self._wake_ups.ended(lease.job_id)
        return was_ours

    async def cancel(self, reader: Reader, ref: JobRef) -> Cancellation | None:
        done = await ending.cancel(self._database, reader, ref)
        if done is not None and done.ended_now:
            self._wake_ups.ended(ref.id)
        return done

    async def rescue(self) -> int:
        rescued, convicted = await workers.rescue(self._database, self._loss_budget)
        self._announce(convicted)
        if rescued:
            self._wake_ups.work_arrived()
        return rescued

    async def expire(self, *, limit: int) -> int:
        expired = await ending.expire(self._database, limit)
        self._announce(expired)
        return len(expired)

    async def prune(self, *, limit: int) -> int:
        return await ending.prune(self._database, limit)

    async def next_due(self) -> datetime | None:
        return await reading.next_due(self._database)

    async def pending_lanes(self) -> Sequence[Lane]:
        return await reading.pending_lanes(self._database)

    async def counts(self) -> QueueCounts:
        """Counted at most every two seconds, a long queue more seldom: a scraper must not become a load."""
        began = self._clock.monotonic()
        if self._counts is None or began >= self._count_again_at:
            self._counts = await reading.counts(self._database)
            took = self._clock.monotonic() - began
            self._count_again_at = began + max(_COUNTED_AGAIN_AFTER, _REST_AFTER_COUNTING * took)
        return self._counts

    async def check(self) -> None:
        await ending.probe(self._database)

    async def close(self) -> None:
        """Whatever waits is written; then this worker is none any more."""
        await self._accepts.close()
        await self._endings.close()
        if self._is_registered:
            with contextlib.suppress(StoreError):  # else it counts as dead a lease later
                await workers.leave(self._database, self._worker.id)

    async def _accept_all(self, jobs: Sequence[NewJob]) -> Settled:
        return await accepting.accept(self._database, jobs)

    async def _settle_all(self, settlements: Sequence[Settlement]) -> Settled:
        return await leasing.settle(self._database, settlements, self._unanswered)

    def _announce(self, ended: Sequence[JobId]) -> None:
        for job_id in ended:
            self._wake_ups.ended(job_id)


async def _nothing() -> None:
    """Between two batches there is nothing to do."""
