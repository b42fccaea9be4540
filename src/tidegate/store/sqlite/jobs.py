"""The job store's port on SQLite: each method hands one operation to the writer, or reads."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final, final

from tidegate.domain.access import Reader
from tidegate.domain.fleet import ALONE, Fleet
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
from tidegate.store.sqlite import accepting, ending, leasing, reading
from tidegate.store.sqlite.readers import Readers
from tidegate.store.sqlite.space import Space
from tidegate.store.sqlite.time import StoreClock
from tidegate.store.sqlite.writer import Writer

_ROW_SIZE: Final = 600
"""Bytes a job takes besides its body, roughly."""
_SUSPECT_EVERY: Final = 1.0
_COUNTED_AGAIN_AFTER: Final = 2.0


@final
class SqliteJobs:
    """Implements ``JobStore``."""

    def __init__(
        self,
        writer: Writer,
        readers: Readers,
        *,
        boot_id: str,
        clock: StoreClock,
        space: Space,
        wake_ups: WakeUps,
    ) -> None:
        self._boot_id = boot_id
        self._writer = writer
        self._readers = readers
        self._clock = clock
        self._space = space
        self._wake_ups = wake_ups
        self._suspect_after = 0.0
        self._counts: QueueCounts | None = None
        self._counted_at = 0.0

    async def accept(self, job: NewJob) -> Accepted:
        self._space.check()
        accepted = await self._writer.run(
            lambda tx: accepting.accept(tx, job), size=len(job.body) + _ROW_SIZE
        )
        if not accepted.is_replay:
            self._wake_ups.work_arrived()
        return accepted

    async def replayed(self, idempotency: Idempotency) -> JobState | None:
        now = self._clock.now_ms()
        return self._readers.look(lambda query: accepting.replayed(query, idempotency, now))

    async def get(self, reader: Reader, ref: JobRef) -> JobState | None:
        now = self._clock.now_ms()
        return self._readers.look(lambda query: reading.state(query, reader, ref, now))

    async def inspect(self, reader: Reader, ref: JobRef) -> JobDetails | None:
        now = self._clock.now_ms()
        return self._readers.look(lambda query: reading.details(query, reader, ref, now))

    async def list(
        self, reader: Reader, wanted: JobFilter, *, limit: int, newest_first: bool, after: JobId | None
    ) -> JobPage:
        now = self._clock.now_ms()
        return await self._readers.scan(
            lambda query: reading.page(
                query, reader, wanted, now, limit=limit, newest_first=newest_first, after=after
            )
        )

    async def claim(
        self, lanes: Mapping[Lane, int], *, fleet: Mapping[Lane, int] | None = None
    ) -> Sequence[Claimed]:
        """``fleet`` says nothing that the only process does not know."""
        with_suspect = self._clock.monotonic() >= self._suspect_after
        claimed = await self._writer.run(lambda tx: leasing.claim(tx, lanes, with_suspect=with_suspect))
        if claimed.took_suspect:
            self._suspect_after = self._clock.monotonic() + _SUSPECT_EVERY
        return claimed.jobs

    async def renew(self, leases: Sequence[Lease]) -> Sequence[Lease]:
        return leasing.renew(self._readers.look_up, self._boot_id, leases)

    def fleet(self) -> Fleet:
        return ALONE

    async def settle(self, lease: Lease, ending: Ending, calls: Sequence[Call]) -> bool:
        size = len(ending.result) if isinstance(ending, Completed) else 0
        was_ours = await self._writer.run(
            lambda tx: leasing.settle(tx, lease, ending, calls), size=size + _ROW_SIZE
        )
        if isinstance(ending, Postponed):
            self._wake_ups.work_arrived()
        elif was_ours:
            self._wake_ups.ended(lease.job_id)
        return was_ours

    async def cancel(self, reader: Reader, ref: JobRef) -> Cancellation | None:
        done = await self._writer.run(lambda tx: ending.cancel(tx, reader, ref))
        if done is not None and done.ended_now:
            self._wake_ups.ended(ref.id)
        return done

    async def rescue(self) -> int:
        rescued, convicted = await self._writer.run(leasing.rescue, is_heavy=True)
        self._announce(convicted)
        return rescued

    async def expire(self, *, limit: int) -> int:
        if not ending.is_anything_overdue(self._readers.look_up, self._clock.now_ms()):
            return 0
        expired = await self._writer.run(lambda tx: ending.expire(tx, limit), is_heavy=True)
        self._announce(expired)
        return len(expired)

    async def prune(self, *, limit: int) -> int:
        now = self._clock.now_ms()
        if not self._clock.is_to_be_trusted or not ending.is_anything_expired(self._readers.look_up, now):
            return 0
        return await self._writer.run(lambda tx: ending.prune(tx, limit), is_heavy=True)

    async def next_due(self) -> datetime | None:
        return self._readers.look(reading.next_due)

    async def pending_lanes(self) -> Sequence[Lane]:
        return [Lane(row[0]) for row in self._readers.look_up(reading.PENDING_LANES, ())]

    async def counts(self) -> QueueCounts:
        """Counted at most every two seconds: a scraper must not become a load."""
        now = self._clock.monotonic()
        if self._counts is None or now - self._counted_at >= _COUNTED_AGAIN_AFTER:
            self._counts = await self._readers.scan(reading.counts)
            self._counted_at = now
        return self._counts

    async def check(self) -> None:
        self._space.check()
        await self._writer.run(ending.probe)

    def _announce(self, ended: Sequence[JobId]) -> None:
        for job_id in ended:
            self._wake_ups.ended(job_id)
