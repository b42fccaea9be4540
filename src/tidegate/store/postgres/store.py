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
from tidegate.store.postgres.diagnosis import Diagnosis, echo, inspect
from tidegate.store.postgres.jobs import PostgresJobs
from tidegate.store.postgres.keys import PostgresKeys
from tidegate.store.postgres.migrating import apply_migrations, missing
from tidegate.store.postgres.refusing import FAILURES, refusal
from tidegate.store.postgres.server import ServerCheck, check_server
from tidegate.store.postgres.session import local_settings
from tidegate.store.postgres.wake_ups import PostgresWakeUps
from tidegate.store.postgres.workers import Worker

_LONGEST_MIGRATION: Final = "1h"

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
        server: ServerCheck,
        renewals: Database,
    ) -> None:
        self._database = database
        self._renewals = renewals
        self._server = server
        self.jobs = jobs
        self.keys = keys
        self.wake_ups = wake_ups
        self.clock = clock
        """The database's time: for whatever is compared with times in the store."""
        self.rescued = 0
        """Nobody's leases are void at a start: others may be running."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is wrong with the server that is in use now."""
        return self._server.warnings

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
        server = ServerCheck(allow_unsafe=options.allow_unsafe)
        now = await _alone(options, lambda connection: _check_and_migrate(connection, server, options))
        try:
            pool = await connecting.create_pool(options, server, options.pool_size)
            pool_of_renewals = await connecting.create_pool(options, server, 1)
        except FAILURES as exc:
            raise refusal(options, exc) from exc
        database_clock = DatabaseClock(clock, on_clock_step)
        database_clock.set(now)
        preamble = local_settings() if options.pooler else ""
        database = Database(pool, clock, rng, preamble)
        renewals = Database(pool_of_renewals, clock, rng, preamble)
        worker = UUID(uuid7(clock.now(), rng.secret_bytes(10)))
        listener = options.listener
        wake_ups = PostgresWakeUps(
            database,
            None if listener is None else lambda: connecting.connect(listener),
            clock,
            rng,
            name=worker.hex,
        )
        jobs = PostgresJobs(
            database,
            renewals=renewals,
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
        keys = PostgresKeys(database, wake_ups)
        return cls(database, jobs, keys, wake_ups, database_clock, server, renewals)

    async def close(self) -> None:
        """Finish what waits, leave the fleet, let go of the connections."""
        await self.jobs.close()
        await self.wake_ups.stop()
        await self._database.close()
        await self._renewals.close()


async def migrate(options: PostgresOptions, *, is_dry: bool) -> list[Migration]:
    """What the schema lacked; applied unless ``is_dry``. Raises ``StoreRefused`` or ``SchemaMismatch``."""

    async def work(connection: Any) -> list[Migration]:
        await check_server(connection, allow_unsafe=options.allow_unsafe)
        return await (missing(connection) if is_dry else apply_migrations(connection))

    return await _alone(options, work)


async def diagnose(options: PostgresOptions) -> Diagnosis:
    """Changes nothing. Raises ``StoreRefused`` or ``SchemaMismatch``."""
    found = await _alone(options, lambda connection: inspect(connection, allow_unsafe=options.allow_unsafe))
    if options.listener is None:
        return found
    return msgspec.structs.replace(found, echo=await echo(options.listener))


async def _alone(options: PostgresOptions, work: Callable[[Any], Awaitable[T]]) -> T:
    """With one connection, for as long as it takes."""
    try:
        async with connecting.alone(options, statement_timeout=_LONGEST_MIGRATION) as connection:
            return await work(connection)
    except FAILURES as exc:
        raise refusal(options, exc) from exc


async def _check_and_migrate(connection: Any, server: ServerCheck, options: PostgresOptions) -> int:
    """The database's time."""
    await server.check(connection)
    await apply_migrations(connection)
    await require_agreement(connection, options.settings)
    await refuse_unfinished(connection)
    now: int = await connection.fetchval("SELECT now_ms()")
    return now
