"""Opening and closing the PostgreSQL store: connect, check, migrate, then serve."""

import os
import platform
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, Final, Self, TypeVar, final
from uuid import UUID

import msgspec

from tidegate.domain.ids import uuid7
from tidegate.ports import Clock, Rng
from tidegate.store.group_commit import BatchLimits
from tidegate.store.migrate import Migration
from tidegate.store.postgres import connection as connecting
from tidegate.store.postgres.agreement import require_agreement
from tidegate.store.postgres.clock import DatabaseClock
from tidegate.store.postgres.connection import PostgresOptions
from tidegate.store.postgres.copying import refuse_unfinished
from tidegate.store.postgres.database import Database
from tidegate.store.postgres.diagnosis import Diagnosis, inspect
from tidegate.store.postgres.jobs import PostgresJobs
from tidegate.store.postgres.keys import PostgresKeys
from tidegate.store.postgres.leasing import Worker
from tidegate.store.postgres.migrating import apply_migrations, missing
from tidegate.store.postgres.refusing import FAILURES, refusal
from tidegate.store.postgres.wake_ups import PostgresWakeUps

_LONGEST_MIGRATION: Final = 3_600_000

T = TypeVar("T")


@final
class PostgresStore:
    """The open store: ``jobs`` and ``keys`` are its ports."""

    def __init__(
        self,
        database: Database,
        jobs: PostgresJobs,
        keys: PostgresKeys,
        wake_ups: PostgresWakeUps,
        clock: DatabaseClock,
        warnings: tuple[str, ...],
    ) -> None:
        self._database = database
        self.jobs = jobs
        self.keys = keys
        self.wake_ups = wake_ups
        self.clock = clock
        """The database's time: for whatever is compared with times in the store."""
        self.rescued = 0
        """Nobody's leases are void at a start: others may be running."""
        self.warnings = warnings

    @classmethod
    async def open(
        cls,
        options: PostgresOptions,
        *,
        clock: Clock,
        rng: Rng,
        on_clock_step: Callable[[timedelta], None] = lambda _step: None,
    ) -> Self:
        """Raises ``StoreRefused`` or ``SchemaMismatch`` when the database cannot be used."""
        warnings, now = await _alone(options, lambda connection: _check_and_migrate(connection, options))
        try:
            pool = await connecting.create_pool(options)
        except FAILURES as exc:
            raise refusal(options, exc) from exc
        database_clock = DatabaseClock(clock, on_clock_step)
        database_clock.set(now)
        database = Database(pool, clock, rng)
        worker = UUID(uuid7(clock.now(), rng.secret_bytes(10)))
        listen_url = options.url if options.listen_url is None else options.listen_url
        wake_ups = PostgresWakeUps(
            database,
            (lambda: connecting.connect(listen_url)) if listen_url.reveal() else None,
            clock,
            rng,
            name=worker.hex,
        )
        jobs = PostgresJobs(
            database,
            worker=Worker(
                worker,
                host=platform.node(),
                pid=os.getpid(),
                providers=options.providers,
                settings=msgspec.json.encode(dict(options.settings), order="sorted").decode(),
            ),
            loss_budget=options.loss_budget,
            clock=database_clock,
            wake_ups=wake_ups,
            limits=BatchLimits(linger=options.commit_wait),
        )
        wake_ups.start()
        return cls(database, jobs, PostgresKeys(database, wake_ups), wake_ups, database_clock, warnings)

    async def close(self) -> None:
        """Finish what waits, leave the fleet, let go of the connections."""
        await self.jobs.close()
        await self.wake_ups.stop()
        await self._database.close()


async def migrate(options: PostgresOptions, *, is_dry: bool) -> list[Migration]:
    """What the schema lacked; applied unless ``is_dry``. Raises ``StoreRefused`` or ``SchemaMismatch``."""

    async def work(connection: Any) -> list[Migration]:
        await connecting.check_server(connection, allow_unsafe=options.allow_unsafe)
        return await (missing(connection) if is_dry else apply_migrations(connection))

    return await _alone(options, work)


async def diagnose(options: PostgresOptions) -> Diagnosis:
    """Changes nothing. Raises ``StoreRefused`` or ``SchemaMismatch``."""
    return await _alone(options, lambda connection: inspect(connection, allow_unsafe=options.allow_unsafe))


async def _alone(options: PostgresOptions, work: Callable[[Any], Awaitable[T]]) -> T:
    """With one connection, for as long as it takes."""
    try:
        connection: Any = await connecting.connect(options.url, timeout_ms=_LONGEST_MIGRATION)
        try:
            return await work(connection)
        finally:
            connection.terminate()
    except FAILURES as exc:
        raise refusal(options, exc) from exc


async def _check_and_migrate(connection: Any, options: PostgresOptions) -> tuple[tuple[str, ...], int]:
    """Warnings, and the database's time."""
    warnings = await connecting.check_server(connection, allow_unsafe=options.allow_unsafe)
    await apply_migrations(connection)
    await require_agreement(connection, options.settings)
    await refuse_unfinished(connection)
    return warnings, await connection.fetchval("SELECT now_ms()")
