"""Moving an installation: everything of one store into an empty one, batch by batch, and then compared."""

from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from hashlib import sha256
from typing import Any, Final, LiteralString, Protocol, final
from uuid import UUID

import msgspec
from msgspec import Struct

from tidegate.domain.jobs import AttemptEnd, JobId, Status

MOST_JOBS: Final = 500
MOST_BYTES: Final = 16 * 2**20
"""A batch ends with the job that exceeds this."""

OnProgress = Callable[[int, int], None]
"""Hears how many jobs are done, and of how many."""


class SourceDamaged(Exception):
    """The source holds what nobody wrote; the message names the job or table."""


class JobColumns(Struct, frozen=True, array_like=True):
    """The row of a job without what binds it to a process; the names are those of the columns."""

    request_type: str
    owner: str
    actor: str | None
    model: str
    candidates: str
    lane: str
    weight: float
    result_ttl: int
    timeout: int
    max_attempts: int
    priority: int
    passes_extra: bool
    request_id: str
    created_at: int
    deadline_at: int
    status: str
    rank: float | None
    run_at: int | None
    attempt: int
    failed_attempts: int
    losses: int
    is_suspect: bool
    dead_keys: str | None
    started_at: int | None
    attempt_started_at: int | None
    completed_at: int | None
    expires_at: int | None
    status_code: int | None
    outcome: str | None
    error_code: str | None
    error: bytes | None


class AttemptRow(Struct, frozen=True, array_like=True):
    number: int
    started_at: int
    ended_at: int
    end: str
    calls: bytes | None
    lease: bytes | None
    is_settled: bool


class CopiedJob(Struct, frozen=True):
    """A job with all that belongs to it."""

    id: bytes
    columns: JobColumns
    body: bytes | None
    result: bytes | None
    metadata: bytes | None
    attempts: tuple[AttemptRow, ...]

    @property
    def size(self) -> int:
        return len(self.body or b"") + len(self.result or b"") + len(self.metadata or b"")

    @property
    def is_held(self) -> bool:
        return self.columns.status == Status.PROCESSING


class Table(Struct, frozen=True):
    """A table besides those of jobs, the columns that are copied, and those that order its rows."""

    name: LiteralString
    columns: tuple[LiteralString, ...]
    key: tuple[LiteralString, ...]


TABLES: Final = (
    Table("virtual_keys", ("id", "name", "digest", "created_at", "record"), ("id",)),
    Table("idempotency", ("scope_digest", "fingerprint", "job_id", "keep_until"), ("scope_digest",)),
    Table("lanes", ("lane", "virtual_time"), ("lane",)),
    Table("tails", ("lane", "owner", "tail"), ("lane", "owner")),
)
JOB_TABLES: Final[tuple[LiteralString, ...]] = (
    "jobs", "job_request", "job_result", "job_metadata", "attempts",
)  # fmt: skip
NAMES: Final = (*JOB_TABLES, *(table.name for table in TABLES))

Row = tuple[Any, ...]


class Census(Struct, frozen=True):
    """Rows of each table, and jobs of each status, as the database counts them."""

    tables: Mapping[str, int]
    statuses: Mapping[str, int]

    def released(self) -> "Census":
        """As it will be once nobody is at work on any job."""
        statuses = Counter(self.statuses)
        held = statuses.pop(Status.PROCESSING, 0)
        statuses[Status.PENDING] += held
        return Census(
            {**self.tables, "attempts": self.tables["attempts"] + held},
            {status: count for status, count in statuses.items() if count},
        )


class Reading(Protocol):
    """A store that nobody writes to, in the order of its keys. Ids are 16 bytes, times milliseconds."""

    async def census(self) -> Census: ...

    async def jobs(self, after: bytes) -> Sequence[CopiedJob]:
        """The next batch; empty at the end. Raises ``SourceDamaged``."""

    def rows(self, table: Table) -> AsyncGenerator[Row, None]: ...


class Source(Reading, Protocol):
    place: str
    identity: str
    """Which store this is and in which state: another one after every use of it."""

    async def close(self) -> None: ...


class Progress(Struct, frozen=True):
    """How far a copy has come."""

    started_at: int
    last_job: bytes = bytes(16)
    jobs: int = 0
    released: int = 0
    tables: frozenset[str] = frozenset()
    finished_at: int | None = None


class Target(Reading, Protocol):
    place: str
    warnings: tuple[str, ...]

    async def progress(self, identity: str, place: str) -> Progress | None:
        """Of this copy; ``None`` before its beginning. Raises ``StoreRefused`` where other data are."""

    async def begin(self, identity: str, place: str) -> Progress: ...

    async def add_jobs(self, identity: str, jobs: Sequence[CopiedJob], released: int) -> None:
        """All of them and the note that they are there, or nothing."""

    async def add_rows(self, identity: str, table: Table, rows: AsyncIterator[Row]) -> None:
        """All of them and the note that they are there, or nothing."""

    async def finish(self, identity: str) -> None:
        """Everything is there and was compared: from now on the target may be used."""

    async def close(self) -> None: ...


def released(job: CopiedJob, at: int) -> CopiedJob:
    """As its worker would have left it on an orderly stop: it keeps its place, and no loss is counted.

    Whoever stopped the gateway in order to move it says nothing against the jobs it was at.
    """
    if not job.is_held:
        return job
    columns = job.columns
    began = columns.attempt_started_at if columns.attempt_started_at is not None else at
    end: AttemptEnd = "released"
    last = AttemptRow(columns.attempt, began, max(at, began), end, None, None, is_settled=True)
    return msgspec.structs.replace(
        job,
        columns=msgspec.structs.replace(columns, status=str(Status.PENDING)),
        attempts=(*job.attempts, last),
    )


async def copy(source: Source, target: Target, begun: Progress, on_progress: OnProgress) -> Progress:
    """Everything that is not there yet; how far it has come when it is all there."""
    total = (await source.census()).tables["jobs"]
    last, done, freed = begun.last_job, begun.jobs, begun.released
    on_progress(done, total)
    while batch := await source.jobs(last):
        held = sum(job.is_held for job in batch)
        await target.add_jobs(source.identity, [released(job, begun.started_at) for job in batch], held)
        last, done, freed = batch[-1].id, done + len(batch), freed + held
        on_progress(done, total)
    for table in TABLES:
        if table.name not in begun.tables:
            async with aclosing(source.rows(table)) as rows:
                await target.add_rows(source.identity, table, rows)
    names = frozenset(table.name for table in TABLES)
    return Progress(begun.started_at, last, done, freed, names, begun.finished_at)


class Part(Struct, frozen=True):
    """What both sides hold of one table. A digest covers every column that is copied of every row."""

    name: str
    source: int
    target: int
    source_digest: str
    target_digest: str

    @property
    def is_equal(self) -> bool:
        return (self.source, self.source_digest) == (self.target, self.target_digest)


class Comparison(Struct, frozen=True):
    parts: tuple[Part, ...]
    statuses: tuple[tuple[str, int, int], ...]
    """Status, how many jobs of the source, how many of the target."""
    differing: JobId | None
    """The first job that is not the same on both sides."""
    passed_over: tuple[str, ...]
    """Tables with rows that nothing leads to, and that were therefore not compared."""

    @property
    def is_equal(self) -> bool:
        return (
            self.differing is None
            and not self.passed_over
            and all(part.is_equal for part in self.parts)
            and all(source == target for _, source, target in self.statuses)
        )


async def compare(source: Reading, target: Reading, started_at: int, on_progress: OnProgress) -> Comparison:
    """Reads both sides from beginning to end; jobs only as far as the first that differs."""
    ours, theirs = _Side(), _Side()
    expected, found = (await source.census()).released(), await target.census()
    differing = await _compare_jobs(
        source, target, started_at, ours, theirs, lambda done: on_progress(done, expected.tables["jobs"])
    )
    for table in TABLES:
        await ours.add_rows(table, source)
        await theirs.add_rows(table, target)
    statuses = sorted({*expected.statuses, *found.statuses})
    return Comparison(
        tuple(
            Part(name, expected.tables[name], found.tables[name], ours.digest(name), theirs.digest(name))
            for name in NAMES
        ),
        tuple(
            (status, expected.statuses.get(status, 0), found.statuses.get(status, 0)) for status in statuses
        ),
        differing,
        # Rows passed over on both sides would not tell, so the databases count for themselves.
        () if differing else tuple(sorted({*ours.passed_over(expected), *theirs.passed_over(found)})),
    )


async def _compare_jobs(
    source: Reading,
    target: Reading,
    started_at: int,
    ours: "_Side",
    theirs: "_Side",
    on_progress: Callable[[int], None],
) -> JobId | None:
    last, done = bytes(16), 0
    while True:
        batch = [released(job, started_at) for job in await source.jobs(last)]
        arrived = list(await target.jobs(last))
        ours.add_jobs(batch)
        theirs.add_jobs(arrived)
        if batch != arrived:
            return _first_difference(batch, arrived)
        if not batch:
            return None
        last, done = batch[-1].id, done + len(batch)
        on_progress(done)


def _first_difference(ours: Sequence[CopiedJob], theirs: Sequence[CopiedJob]) -> JobId:
    left = {job.id: job for job in ours}
    right = {job.id: job for job in theirs}
    return text_of(min(job for job in {*left, *right} if left.get(job) != right.get(job)))


@final
class _Side:
    """Counts and digests of what was read of one store."""

    def __init__(self) -> None:
        self._hashes = {name: sha256() for name in NAMES}
        self._rows = Counter[str]()

    def add_jobs(self, jobs: Sequence[CopiedJob]) -> None:
        for job in jobs:
            self._add("jobs", (job.id, job.columns))
            if job.body is not None:
                self._add("job_request", (job.id, job.body))
            if job.result is not None:
                self._add("job_result", (job.id, job.result))
            if job.metadata is not None:
                self._add("job_metadata", (job.id, job.metadata))
            for attempt in job.attempts:
                self._add("attempts", (job.id, attempt))

    async def add_rows(self, table: Table, store: Reading) -> None:
        async with aclosing(store.rows(table)) as rows:
            async for row in rows:
                self._add(table.name, row)

    def passed_over(self, census: Census) -> list[str]:
        """Tables with rows that belong to no job."""
        return [name for name in NAMES if self._rows[name] != census.tables[name]]

    def digest(self, name: str) -> str:
        return self._hashes[name].hexdigest()

    def _add(self, name: str, row: Row) -> None:
        self._hashes[name].update(msgspec.msgpack.encode(row))
        self._rows[name] += 1


def text_of(job_id: bytes) -> JobId:
    return JobId(str(UUID(bytes=job_id)))
