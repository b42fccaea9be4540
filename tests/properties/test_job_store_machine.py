"""S1: any sequence of what may happen to a store, against a model that is simple enough to be believed.

``TIDEGATE_SEQUENCES`` says how many sequences are tried; beyond the usual number they are new ones each time. On
PostgreSQL, where each step is a dozen round trips, it is one in fifty of them.
"""

import asyncio
import contextlib
import os
import shutil
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any, Final, TypeVar, cast

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from benchmarks.machine.postgres import postgres_server
from properties.reference import Job, Model
from support.postgres_store import PostgresUnderTest
from support.stores import ALICE, BOB, GROQ, OPENAI, REFUSED, SqliteUnderTest, StoreUnderTest
from support.virtual_time import VirtualLoop
from tidegate.domain.access import AllOwners, OwnedBy, Owner
from tidegate.domain.errors import Conflict, InvalidRequest
from tidegate.domain.jobs import (
    Completed,
    Failed,
    JobDetails,
    JobFilter,
    JobId,
    JobRef,
    Lane,
    Lease,
    NewJob,
    Postponed,
)

T = TypeVar("T")

SEQUENCES: Final = int(os.environ.get("TIDEGATE_SEQUENCES", "2000"))
USUAL: Final = 2000
ON_POSTGRES: Final = 50
"""Of so many sequences one."""
STEPS: Final = 50
EVERYBODY: Final = AllOwners()

PICK: Final = st.integers(0, 63)
"""Which of the jobs or leases there are, counted round and round."""
OWNERS: Final = st.sampled_from([ALICE, BOB])
ROOMS: Final = st.sampled_from(
    [{OPENAI: 1}, {OPENAI: 4}, {GROQ: 2}, {GROQ: 1, OPENAI: 1}, {OPENAI: 0, GROQ: 9}]
)
ENDINGS: Final = st.sampled_from(
    [
        Completed(b'{"ok":true}'),
        Failed(REFUSED),
        Postponed(timedelta(seconds=15)),
        Postponed(timedelta(seconds=300)),
        Postponed(is_charged=False),
    ]
)
SPANS: Final = st.sampled_from([timedelta(seconds=number) for number in (0.5, 1, 5, 15, 61, 3600, 90_000)])


class JobStoreMachine(RuleBasedStateMachine):
    """A store, and what should be in it."""

    store: StoreUnderTest

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._loop = loop
        self.model = Model()
        self.keys: dict[str, tuple[bytes, JobId, datetime]] = {}
        self.leases: list[Lease] = []
        """Every lease there ever was."""
        self.results: dict[JobId, bytes] = {}
        self.announced: list[JobId] = []
        self.suspect_after = 0.0
        """When, on the monotonic clock, the store may next hand out a job that cost two workers their lives."""
        self._now = datetime.min.replace(tzinfo=UTC)

    # What the two stores have of their own.

    @abstractmethod
    def _start(self) -> None: ...

    @abstractmethod
    def _stop(self) -> None: ...

    @abstractmethod
    def _lose_the_process(self) -> None:
        """Another one starts; when this returns, the jobs of the lost one were just taken back."""

    @abstractmethod
    def _store_time(self) -> datetime: ...

    def _may_erase(self) -> bool:
        return True

    # What may happen.

    @rule(
        owner=OWNERS,
        lane=st.sampled_from([OPENAI, GROQ]),
        timeout=st.sampled_from([5, 60, 3600]),
        result_ttl=st.sampled_from([1, 60, 3600]),
        priority=st.integers(1, 5),
    )
    def submit(self, **members: Any) -> None:
        job = self.store.new_job(**members)
        assert not self._run(self.store.jobs.accept(job)).is_replay
        self._note(job)

    @rule(owner=OWNERS, name=st.sampled_from("xy"), fingerprint=st.sampled_from([b"f" * 32, b"g" * 32]))
    def submit_with_key(self, owner: Owner, name: str, fingerprint: bytes) -> None:
        scope = f"{owner}/{name}"
        idempotency = self.store.idempotency(scope, fingerprint)
        job = self.store.new_job(owner=owner, idempotency=idempotency)
        known = self.keys.get(scope)
        accepting = self.store.jobs.accept(job)
        if known is None:
            assert not self._run(accepting).is_replay
            self._note(job)
            self.keys[scope] = (fingerprint, job.id, self.now + idempotency.keep_for)
        elif known[0] != fingerprint:
            with pytest.raises(InvalidRequest):
                self._run(accepting)
        elif not self._is_there(known[1]):
            with pytest.raises(Conflict):
                self._run(accepting)
        else:
            receipt = self._run(accepting)
            assert (receipt.job.id, receipt.is_replay) == (known[1], True)

    @rule(rooms=ROOMS)
    def claim(self, rooms: dict[Lane, int]) -> None:
        usual = {lane: self.model.claimable(lane, self.now, suspect=False) for lane in rooms}
        suspects = {
            job_id
            for lane, room in rooms.items()
            if room > 0
            for job_id in self.model.claimable(lane, self.now, suspect=True)
        }
        may_take_suspect = self.store.clock.monotonic() >= self.suspect_after

        claimed = self._run(self.store.jobs.claim(rooms))

        taken = {job.id for job in claimed}
        assert len(taken) == len(claimed)
        assert len(taken & suspects) == (1 if suspects and may_take_suspect else 0)
        for lane, room in rooms.items():
            of_lane = {job.id for job in claimed if job.lane == lane}
            assert of_lane <= usual[lane] | suspects
            assert len(of_lane) == min(room, len(usual[lane]) + len(of_lane & suspects))
        if taken & suspects:
            self.suspect_after = self.store.clock.monotonic() + 1
        for job in claimed:
            before = self.model[job.id]
            assert (job.owner, job.lane, job.deadline_at) == (before.owner, before.lane, before.deadline)
            assert (job.attempt, job.failed_attempts) == (len(before.ends) + 1, before.ends.count("requeued"))
            assert job.lease not in self.leases
            self.leases.append(job.lease)
            self.model.claim(job.id, job.lease.token)

    @precondition(lambda self: self.leases)
    @rule(pick=PICK, ending=ENDINGS)
    def settle(self, pick: int, ending: Completed | Failed | Postponed) -> None:
        """By the worker that holds the job, or by one that has lost it long ago."""
        lease = self.leases[-1 - pick % len(self.leases)]
        was_ours = self._run(self.store.jobs.settle(lease, ending, ()))

        assert was_ours == self._holds(lease)
        if not was_ours:
            return
        job = self.model[lease.job_id]
        match ending:
            case Completed(result=result):
                job.end("succeeded", self.now, "succeeded")
                self.results[lease.job_id] = result
            case Failed():
                job.end("provider_error", self.now, "failed")
            case Postponed(is_charged=True):
                job.let_go("requeued", self.now + ending.delay)
            case Postponed():
                job.let_go("released")

    @precondition(lambda self: self.model)
    @rule(pick=PICK, reader=st.sampled_from([EVERYBODY, OwnedBy(ALICE), OwnedBy(BOB)]))
    def cancel(self, pick: int, reader: AllOwners | OwnedBy) -> None:
        job_id = self._picked(pick)
        job = self.model[job_id]
        is_seen = self._is_there(job_id) and reader in {EVERYBODY, OwnedBy(job.owner)}
        cancelling = self.store.jobs.cancel(reader, JobRef(job_id))
        if is_seen and job.outcome not in {None, "cancelled"}:
            with pytest.raises(Conflict):
                self._run(cancelling)
            return
        assert (self._run(cancelling) is not None) == is_seen
        if is_seen and job.outcome is None:
            job.end("cancelled", self.now, "cancelled")

    @rule()
    def expire(self) -> None:
        assert self._run(self.store.jobs.expire(limit=500)) == self.model.strike(self.now)

    @rule()
    def prune(self) -> None:
        if not self._may_erase():
            assert self._run(self.store.jobs.prune(limit=500)) == 0
            return
        gone = [job_id for job_id in self.model if not self._is_there(job_id)]
        for job_id in gone:
            del self.model[job_id]
        forgotten = [
            scope
            for scope, (_, job_id, keep_until) in self.keys.items()
            if keep_until <= self.now and job_id not in self.model
        ]
        for scope in forgotten:
            del self.keys[scope]
        assert self._run(self.store.jobs.prune(limit=500)) >= len(gone) + len(forgotten)
        assert self._run(self.store.jobs.prune(limit=500)) == 0

    @rule()
    def rescue(self) -> None:
        assert self._run(self.store.jobs.rescue()) == 0

    @rule()
    def crash(self) -> None:
        held = sum(job.status == "processing" for job in self.model.values())
        self._lose_the_process()
        self._note_start()
        assert self.store.rescued == held
        self.model.crash(self.now)

    @rule()
    def drain_and_restart(self) -> None:
        for lease in filter(self._holds, self.leases):
            assert self._run(self.store.jobs.settle(lease, Postponed(is_charged=False), ()))
            self.model[lease.job_id].let_go("released")
        self._stop()
        self._start()
        self._note_start()
        assert self.store.rescued == 0

    @rule(span=SPANS)
    def time_passes(self, span: timedelta) -> None:
        self.store.clock.advance(span)

    @rule(span=SPANS, is_back=st.booleans())
    def clock_jumps(self, span: timedelta, *, is_back: bool) -> None:
        self.store.clock.step_wall_clock(-span if is_back else span)

    @rule()
    def everything_ends(self) -> None:
        """No job is stuck: claimed as often as it takes, each one that is not overdue completes."""
        while any(job.outcome is None for job in self.model.values()):
            due = [job.due for job in self.model.values() if job.due and not job.outcome]
            self.store.clock.advance(max(min(due, default=self.now) - self.now, timedelta(seconds=1)))
            self.expire()
            self.claim({OPENAI: 99, GROQ: 99})
            for place, lease in enumerate(reversed(self.leases)):
                if self._holds(lease):
                    self.settle(place, Completed(b"{}"))

    # What must always hold.

    @invariant()
    def the_store_holds_what_it_should(self) -> None:
        """Nothing lost, ended once and for good, counted, each job as its story went."""
        assert self._listed(EVERYBODY) == {
            job_id: (job.status, job.outcome, job.losses, job.deadline, tuple(job.ends))
            for job_id, job in self.model.items()
            if self._is_there(job_id)
        }

    @invariant()
    def only_the_last_lease_of_a_running_job_is_good(self) -> None:
        assert self._run(self.store.jobs.renew(self.leases)) == list(filter(self._holds, self.leases))

    @invariant()
    def who_waits_will_be_woken(self) -> None:
        due = [job.due for job in self.model.values() if job.status == "pending" and job.due]
        assert self._run(self.store.jobs.next_due()) == min(due, default=None)

    @invariant()
    def an_end_is_announced_once(self) -> None:
        assert len(set(self.announced)) == len(self.announced)
        assert all(self.model[job_id].outcome for job_id in self.announced if job_id in self.model)

    @precondition(lambda self: self.model)
    @rule(pick=PICK, owner=OWNERS)
    def look(self, pick: int, owner: Owner) -> None:
        """An owner sees what is theirs, with the first result it got, and nothing else."""
        theirs = {job_id for job_id, job in self.model.items() if job.owner == owner}
        shown = {job_id for job_id in theirs if self._is_there(job_id)}
        assert self._listed(OwnedBy(owner)).keys() == shown
        job_id = self._picked(pick)
        found = self._run(self.store.state(job_id, owner))
        assert (found is not None) == (job_id in shown)
        assert found is None or found.result == self.results.get(job_id)

    @rule()
    def count(self) -> None:
        self.store.clock.advance(timedelta(seconds=2))  # otherwise counted a moment ago
        counts = self._run(self.store.jobs.counts())
        statuses = [job.status for job in self.model.values()]
        assert sum(counts.pending.values()) == statuses.count("pending")
        assert sum(counts.processing.values()) == statuses.count("processing")

    # How it is done.

    @property
    def now(self) -> datetime:
        """Store time: what that is has tests of its own; here it must never go back while the store is open."""
        now = self._store_time()
        assert now >= self._now
        self._now = now
        return now

    def _run(self, work: Awaitable[T]) -> T:
        return self._loop.run_until_complete(work)

    def _note_start(self) -> None:
        self.store.wake_ups.on_ended(self.announced.append)
        self._now = self._store_time()
        self.suspect_after = 0.0

    def _note(self, job: NewJob) -> None:
        """A job was accepted. Its deadline is what it is told to be, but as far off as was asked."""
        details = self._run(self.store.jobs.inspect(EVERYBODY, JobRef(job.id)))
        assert details is not None
        timeout = timedelta(seconds=job.options.timeout)
        assert details.deadline_at - details.state.created_at == timeout
        self.model[job.id] = Job(
            job.owner, job.lane, details.deadline_at, timedelta(seconds=job.options.result_ttl)
        )

    def _picked(self, pick: int) -> JobId:
        return list(self.model)[pick % len(self.model)]

    def _is_there(self, job_id: JobId) -> bool:
        """Whether a reader with the right to it sees the job."""
        job = self.model.get(job_id)
        return job is not None and (job.expires is None or job.expires > self.now)

    def _holds(self, lease: Lease) -> bool:
        return lease.job_id in self.model and self.model[lease.job_id].token == lease.token

    def _listed(self, reader: AllOwners | OwnedBy) -> dict[JobId, tuple[Any, ...]]:
        page = self._run(
            self.store.jobs.list(reader, JobFilter(), limit=1000, newest_first=False, after=None)
        )
        assert page.next_after is None
        return {job.state.id: _story_of(job) for job in page.jobs}


def _story_of(job: JobDetails) -> tuple[Any, ...]:
    assert job.attempt == len(job.attempts)
    ends = tuple(attempt.end for attempt in job.attempts)
    return str(job.state.status), job.outcome, job.losses, job.deadline_at, ends


class SqliteMachine(JobStoreMachine):
    """One database file, and the store open on it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, directory: Path) -> None:
        super().__init__(loop)
        self._directory = Path(mkdtemp(dir=directory))
        self.store = self._sqlite = SqliteUnderTest(self._directory / "tidegate.db")
        self._start()
        self._note_start()

    def teardown(self) -> None:
        self._sqlite.pull_the_plug()
        shutil.rmtree(self._directory)

    def _start(self) -> None:
        self._sqlite.open()

    def _stop(self) -> None:
        self._run(self._sqlite.store.close())

    def _lose_the_process(self) -> None:
        self._sqlite.crash_and_restart()

    def _store_time(self) -> datetime:
        return self._sqlite.store.clock.now()

    def _may_erase(self) -> bool:
        """Not soon after the wall clock was put forward: it may have been a mistake."""
        self._sqlite.store.clock.now()  # it notices a jump when it is asked
        return self._sqlite.store.clock.is_to_be_trusted


class PostgresMachine(JobStoreMachine):
    """One database, emptied, and a process on it; it goes by the database's time."""

    def __init__(self, loop: asyncio.AbstractEventLoop, url: str) -> None:
        super().__init__(loop)
        self.store = self._postgres = PostgresUnderTest(url)
        self._run(self._postgres.begin())
        self._note_start()

    def teardown(self) -> None:
        self._run(self._postgres.close())

    def _start(self) -> None:
        self._run(self._postgres.open())

    def _stop(self) -> None:
        self._run(self._postgres.close())

    def _lose_the_process(self) -> None:
        self._run(self._postgres.restart_after_crash())

    def _note_start(self) -> None:
        self._run(self.store.jobs.renew(()))  # the process hears what time it is
        super()._note_start()

    def _store_time(self) -> datetime:
        return self._postgres.store.clock.now()


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    """In memory where the machine has such a place: what is asked here is no matter of the disk."""
    fast = Path("/dev/shm")
    with TemporaryDirectory(dir=fast if os.access(fast, os.W_OK) else tmp_path) as directory:
        yield Path(directory)


def test_sqlite_is_as_good_as_its_model(
    directory: Path, record_property: Callable[[str, object], None]
) -> None:
    with contextlib.closing(VirtualLoop()) as loop:
        tried = try_sequences(lambda: SqliteMachine(loop, directory), SEQUENCES)
    record_property("tried", tried)


def test_postgres_is_as_good_as_its_model(record_property: Callable[[str, object], None]) -> None:
    with postgres_server() as server, contextlib.closing(asyncio.new_event_loop()) as loop:
        server.create("model")
        tried = try_sequences(lambda: PostgresMachine(loop, server.url("model")), SEQUENCES // ON_POSTGRES)
    record_property("tried", tried)


def try_sequences(machine: Callable[[], JobStoreMachine], count: int) -> int:
    """How many there were."""
    tried = 0

    def started() -> JobStoreMachine:
        nonlocal tried
        tried += 1
        return machine()

    run_state_machine_as_test(
        cast("type[JobStoreMachine]", started),
        settings=settings(
            max_examples=count,
            stateful_step_count=STEPS,
            derandomize=SEQUENCES <= USUAL,
            database=None,
            deadline=None,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
    return tried
