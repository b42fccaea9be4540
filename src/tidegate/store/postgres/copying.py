"""A PostgreSQL database as either end of a copy: read under a lock that keeps writers out, or filled by COPY."""

from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Final, LiteralString, Self, final
from uuid import UUID

import asyncpg
from msgspec.structs import astuple

from tidegate import fault_points
from tidegate.store.copying import (
    MOST_BYTES,
    MOST_JOBS,
    NAMES,
    AttemptRow,
    Census,
    CopiedJob,
    JobColumns,
    Progress,
    Row,
    Table,
)
from tidegate.store.migrate import SchemaMismatch
from tidegate.store.postgres import connection as connecting
from tidegate.store.postgres.connection import PostgresOptions
from tidegate.store.postgres.migrating import apply_migrations, missing
from tidegate.store.postgres.refusing import FAILURES, refusal
from tidegate.store.postgres.server import check_server
from tidegate.store.postgres.workers import LEASE
from tidegate.store.refusal import StoreRefused
from tidegate.store.rows import sql

_LONGEST_STATEMENT: Final = "24h"
_LOCK: Final = 7_225_963_240_132_018_532
"""Advisory lock of whoever copies from or into a database; the number beside that of migrations."""
_COLUMNS: Final[tuple[LiteralString, ...]] = JobColumns.__struct_fields__
_OTHERS: Final = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = 'tidegate' AND pid <> pg_backend_pid()
"""
_ALIVE: Final = "SELECT count(*) FROM workers WHERE seen_at >= now_ms() - $1"
_STATE: Final = """
    SELECT current_database() || '/' || (SELECT looked_at FROM watch LIMIT 1)
        || '/' || coalesce((SELECT probed_at FROM probe LIMIT 1), 0)
"""
_NEXT: Final = sql(
    """
    WITH sized AS MATERIALIZED (
        SELECT id,
            coalesce((SELECT octet_length(body) FROM job_request WHERE job = id), 0)
            + coalesce((SELECT octet_length(body) FROM job_result WHERE job = id), 0)
            + coalesce((SELECT octet_length(json) FROM job_metadata WHERE job = id), 0) AS size
        FROM jobs WHERE id > $1 ORDER BY id LIMIT $2
    ),
    chosen AS (SELECT id, sum(size) OVER (ORDER BY id) - size AS before FROM sized)
    SELECT j.id, (SELECT body FROM job_request WHERE job = j.id), (SELECT body FROM job_result WHERE job = j.id),
        (SELECT json FROM job_metadata WHERE job = j.id),
        (SELECT array_agg(a ORDER BY a.number) FROM (
            SELECT number, started_at, ended_at, "end", calls, lease, is_settled FROM attempts WHERE job = j.id
        ) a),
    """,
    ", ".join(_COLUMNS),
    "FROM chosen JOIN jobs j USING (id) WHERE before < $3 ORDER BY j.id",
)
_PROGRESS: Final = """
    SELECT started_at, last_job, jobs, released, tables, finished_at FROM store_copies WHERE source = $1
"""
_ADVANCE: Final = """
    UPDATE store_copies SET last_job = $2, jobs = jobs + $3, released = released + $4 WHERE source = $1
"""
_BEGIN: Final = """
    INSERT INTO store_copies (source, place, started_at) VALUES ($1, $2, now_ms())
    RETURNING started_at, last_job, jobs, released, tables, finished_at
"""
_ADD_TABLE: Final = "UPDATE store_copies SET tables = array_append(tables, $2) WHERE source = $1"
_FINISH: Final = "UPDATE store_copies SET finished_at = now_ms() WHERE source = $1"
_TEXTS: Final = frozenset({"id", "lane", "owner"})
"""Keys of tables that are text."""
_ATTEMPT_COLUMNS: Final[tuple[LiteralString, ...]] = AttemptRow.__struct_fields__
_UNFINISHED: Final = "SELECT place FROM store_copies WHERE finished_at IS NULL LIMIT 1"


class _Reading:
    """What both ends can do: read everything in order, as the other end does."""

    def __init__(self, connection: Any, options: PostgresOptions) -> None:
        self.place = options.place
        self._options = options
        self._connection = connection

    async def census(self) -> Census:
        with _understood(self._options):
            tables = {
                name: await self._connection.fetchval(sql("SELECT count(*) FROM", name)) for name in NAMES
            }
            rows = await self._connection.fetch("SELECT status, count(*) FROM jobs GROUP BY status")
        return Census(tables, {row[0]: row[1] for row in rows})

    async def jobs(self, after: bytes) -> Sequence[CopiedJob]:
        with _understood(self._options):
            rows = await self._connection.fetch(_NEXT, UUID(bytes=after), MOST_JOBS, MOST_BYTES)
        return [_job(row) for row in rows]

    async def rows(self, table: Table) -> AsyncGenerator[Row, None]:
        """In the order of bytes, whatever the database's own order is."""
        order = ", ".join(sql(name, 'COLLATE "C"') if name in _TEXTS else name for name in table.key)
        query = sql("SELECT", ", ".join(table.columns), "FROM", table.name, "ORDER BY", order)
        with _understood(self._options):
            async with self._connection.transaction():
                async for row in self._connection.cursor(query, prefetch=1000):
                    yield tuple(value.bytes if isinstance(value, UUID) else value for value in row)

    async def close(self) -> None:
        """The session's locks end with it."""
        self._connection.terminate()


@final
class PostgresSource(_Reading):
    """Implements ``Source``. One transaction from beginning to end, which lets nobody write."""

    identity: str

    @classmethod
    async def open(cls, options: PostgresOptions) -> Self:
        """Raises ``StoreRefused`` or ``SchemaMismatch``."""
        source = cls(await _connect(options), options)
        try:
            with _understood(options):
                await source._keep_writers_out()
        except BaseException:
            await source.close()
            raise
        return source

    async def _keep_writers_out(self) -> None:
        connection = self._connection
        lacking = await missing(connection)
        if lacking:
            names = ", ".join(migration.name for migration in lacking)
            raise SchemaMismatch(f"{self.place} lacks {names}: run `tidegate migrate` on it first")
        await _refuse_if_in_use(connection, self.place)
        await connection.execute("SET lock_timeout = '10s'")
        await connection.transaction(isolation="repeatable_read").start()
        try:
            # Before the first SELECT, which fixes what this transaction sees.
            await connection.execute(sql("LOCK TABLE", ", ".join(NAMES), "IN SHARE MODE"))
        except asyncpg.LockNotAvailableError as exc:
            raise StoreRefused(f"{self.place} is being written to: stop whoever does that") from exc
        self.identity = f"postgresql:{await connection.fetchval(_STATE)}"


@final
class PostgresTarget(_Reading):
    """Implements ``Target``."""

    def __init__(self, connection: Any, options: PostgresOptions) -> None:
        super().__init__(connection, options)
        self.warnings: tuple[str, ...] = ()
        self._has_schema = False

    @classmethod
    async def open(cls, options: PostgresOptions, *, is_dry: bool) -> Self:
        """Brings the schema up to date unless ``is_dry``. Raises ``StoreRefused`` or ``SchemaMismatch``."""
        target = cls(await _connect(options), options)
        try:
            with _understood(options):
                await target._prepare(is_dry=is_dry)
        except BaseException:
            await target.close()
            raise
        return target

    async def _prepare(self, *, is_dry: bool) -> None:
        # Whether commits may be lost is for the gateway's configuration to say, which is not known here.
        self.warnings = await check_server(self._connection, allow_unsafe=True)
        if not is_dry:
            await apply_migrations(self._connection)
        self._has_schema = not await missing(self._connection)
        if self._has_schema:
            await _refuse_if_in_use(self._connection, self.place)

    async def progress(self, identity: str, place: str) -> Progress | None:
        if not self._has_schema:
            return None
        with _understood(self._options):
            row = await self._connection.fetchrow(_PROGRESS, identity)
            if row is not None:
                return _progress(row)
            await self._refuse_other_data(place)
        return None

    async def _refuse_other_data(self, place: str) -> None:
        begun = await self._connection.fetchval(_UNFINISHED)
        if begun == place:
            raise StoreRefused(
                f"{self.place} holds a part of {place} as it was before it was last used: "
                "copy into an empty database instead"
            )
        if begun is not None:
            raise StoreRefused(
                f"{self.place} holds a part of {begun}: finish that copy, or copy into an empty database"
            )
        held = [
            name
            for name in NAMES
            if await self._connection.fetchval(sql("SELECT EXISTS (SELECT FROM", name, ")"))
        ]
        if held:
            raise StoreRefused(
                f"{self.place} holds other data ({', '.join(held)}): copy into an empty database, "
                "before any gateway has been started on it"
            )

    async def begin(self, identity: str, place: str) -> Progress:
        with _understood(self._options):
            return _progress(await self._connection.fetchrow(_BEGIN, identity, place))

    async def add_jobs(self, identity: str, jobs: Sequence[CopiedJob], released: int) -> None:
        ids = [UUID(bytes=job.id) for job in jobs]
        what = f"one of the jobs {ids[0]} to {ids[-1]}"
        with _understood(self._options), _fitting(what):
            async with self._connection.transaction():
                await self._fill_jobs(list(zip(ids, jobs, strict=True)))
                await self._connection.execute(_ADVANCE, identity, ids[-1], len(jobs), released)
                fault_points.reached("in_copy")

    async def _fill_jobs(self, jobs: Sequence[tuple[UUID, CopiedJob]]) -> None:
        await self._fill("jobs", ("id", *_COLUMNS), [(key, *astuple(job.columns)) for key, job in jobs])
        bodies = [(key, job.body) for key, job in jobs if job.body is not None]
        await self._fill("job_request", ("job", "body"), bodies)
        results = [(key, job.result) for key, job in jobs if job.result is not None]
        await self._fill("job_result", ("job", "body"), results)
        notes = [(key, job.metadata) for key, job in jobs if job.metadata is not None]
        await self._fill("job_metadata", ("job", "json"), notes)
        attempts = [(key, *astuple(attempt)) for key, job in jobs for attempt in job.attempts]
        await self._fill("attempts", ("job", *_ATTEMPT_COLUMNS), attempts)

    async def add_rows(self, identity: str, table: Table, rows: AsyncIterator[Row]) -> None:
        with _understood(self._options), _fitting(f"a row of {table.name}"):
            async with self._connection.transaction():
                columns = (*table.columns, "added") if table.name == "tails" else table.columns
                await self._fill(table.name, columns, _arriving(table, rows))
                await self._connection.execute(_ADD_TABLE, identity, table.name)

    async def finish(self, identity: str) -> None:
        with _understood(self._options):
            await self._connection.execute(_FINISH, identity)

    async def _fill(self, table: str, columns: Sequence[str], records: Any) -> None:
        """COPY refuses what is there already: nothing is written twice, and nothing replaced."""
        await self._connection.copy_records_to_table(table, columns=columns, records=records)


async def refuse_unfinished(connection: Any) -> None:
    """Half an installation must not be served: old jobs would be unknown, and idempotency keys run again."""
    place = await connection.fetchval(_UNFINISHED)
    if place is not None:
        raise StoreRefused(
            f"the copy of {place} into this database is not finished: "
            "run the same `tidegate store copy` again, or use an empty database"
        )


@contextmanager
def _understood(options: PostgresOptions) -> Iterator[None]:
    try:
        yield
    except FAILURES as exc:
        raise refusal(options, exc) from exc


@contextmanager
def _fitting(what: str) -> Iterator[None]:
    try:
        yield
    except (ValueError, asyncpg.DataError) as exc:  # of asyncpg's own making, or the server's
        raise StoreRefused(f"{what} does not fit into PostgreSQL: {exc}") from exc


async def _connect(options: PostgresOptions) -> Any:
    """The only copy that is at work on the database."""
    with _understood(options):
        connection = await connecting.connect(
            options.url, statement_timeout=_LONGEST_STATEMENT, idle_in_transaction_session_timeout="0"
        )
        if not await connection.fetchval("SELECT pg_try_advisory_lock($1)", _LOCK):
            connection.terminate()
            raise StoreRefused(
                f"another copy is at work on {options.place}, or it is source and target at once"
            )
        return connection


async def _refuse_if_in_use(connection: Any, place: str) -> None:
    if await connection.fetchval(_OTHERS):
        raise StoreRefused(f"{place} is in use by a running gateway or worker: stop all of them first")
    if await connection.fetchval(_ALIVE, LEASE // timedelta(milliseconds=1)):
        raise StoreRefused(
            f"{place} has a worker that was alive in the last {LEASE.seconds} s: stop it, or wait that long"
        )


def _job(row: Any) -> CopiedJob:
    job_id, body, result, metadata, attempts, *columns = row
    return CopiedJob(
        id=job_id.bytes,
        columns=JobColumns(*columns),
        body=body,
        result=result,
        metadata=metadata,
        attempts=tuple(AttemptRow(*attempt) for attempt in attempts or ()),
    )


async def _arriving(table: Table, rows: AsyncIterator[Row]) -> AsyncIterator[Row]:
    """With ids as this database has them, and what only this one has."""
    more = (0.0,) if table.name == "tails" else ()
    async for row in rows:
        yield (
            *(UUID(bytes=row[n]) if name == "job_id" else row[n] for n, name in enumerate(table.columns)),
            *more,
        )


def _progress(row: Any) -> Progress:
    started, last, jobs, released, tables, finished = row
    return Progress(
        started, last.bytes if last is not None else bytes(16), jobs, released, frozenset(tables), finished
    )
