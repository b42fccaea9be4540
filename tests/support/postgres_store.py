"""A PostgreSQL store under test: the same words as on SQLite, with the database's clock in our hand."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, Final, cast, final

import asyncpg

from support.fakes import FakeClock, SeededRng
from support.stores import StoreUnderTest
from tidegate.domain.fleet import Fleet
from tidegate.domain.ids import epoch_ms
from tidegate.domain.secret import Secret
from tidegate.ports import JobStore, KeyStore
from tidegate.store.postgres import PostgresOptions, PostgresStore
from tidegate.store.postgres.workers import LEASE

_LOOK_EVERY: Final = timedelta(seconds=2)
_HAND_ON_THE_CLOCK: Final = """
CREATE TABLE IF NOT EXISTS test_clock (ms bigint);
TRUNCATE test_clock;
INSERT INTO test_clock VALUES (0);
CREATE OR REPLACE FUNCTION now_ms() RETURNS bigint LANGUAGE sql VOLATILE RETURN (SELECT ms FROM test_clock);
"""
_TABLES: Final = (
    "jobs, job_request, job_result, job_metadata, attempts, lanes, tails, idempotency, virtual_keys, workers"
)


@final
class PostgresUnderTest(StoreUnderTest):
    """One database, emptied, and a store that is open on it. Its time stands still until it is moved."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.clock = FakeClock()
        self.rng = SeededRng()
        self._began = self.clock.now(), self.clock.monotonic()
        self._told: int | None = None
        self._rescued = 0

    async def open(self) -> None:
        self._rescued = 0
        self.store = await PostgresStore.open(
            PostgresOptions(Secret(self.url), listen_url=Secret("")), clock=self.clock, rng=self.rng
        )
        self.wake_ups = self.store.wake_ups
        self.jobs = cast("JobStore", _InTime(self.store.jobs, self._set_clock))
        self.keys = cast("KeyStore", _InTime(self.store.keys, self._set_clock))

    async def begin(self) -> None:
        """Open an empty database and stop its clock."""
        await self.open()
        await self.execute(f"TRUNCATE {_TABLES}; {_HAND_ON_THE_CLOCK}")

    async def execute(self, sql: str) -> None:
        connection = await asyncpg.connect(self.url)
        try:
            await connection.execute(sql)
        finally:
            await connection.close()

    @property
    def rescued(self) -> int:
        return self._rescued

    async def restart_after_crash(self) -> None:
        await self._drop_everything()
        await self.open()
        self._rescued = await self._until_the_dead_are_dead()

    async def _until_the_dead_are_dead(self) -> int:
        """A lease and more, with somebody looking all the time, or until there was somebody to take jobs back from."""
        for _ in range(LEASE // _LOOK_EVERY + 2):
            self.clock.advance(_LOOK_EVERY)
            rescued = await self.jobs.rescue()
            if rescued:
                return rescued
        return 0

    async def close(self) -> None:
        await self.store.close()

    async def _drop_everything(self) -> None:
        """The server sees the lines of a killed process break; nobody leaves the fleet in order."""
        await self.store.wake_ups.stop()
        for database in (self.store._database, self.store._renewals):
            database._pool.terminate()

    async def _set_clock(self) -> None:
        """The database goes by its own clock: steps of ours are not its."""
        start, monotonic = self._began
        now = epoch_ms(start) + round((self.clock.monotonic() - monotonic) * 1000)
        if now != self._told:
            await self.store._database.fetch("UPDATE test_clock SET ms = $1", now)
            self._told = now


@final
class _InTime:
    """A port whose every operation happens at the test's time."""

    def __init__(self, port: object, set_clock: Callable[[], Awaitable[None]]) -> None:
        self._port = port
        self._set_clock = set_clock

    def fleet(self) -> Fleet:
        """What the last renewal said, whatever time it is."""
        found: Fleet = getattr(self._port, "fleet")()  # noqa: B009 – a port, seen as an object
        return found

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        operation = getattr(self._port, name)

        async def at_this_time(*args: Any, **kwargs: Any) -> Any:
            await self._set_clock()
            return await operation(*args, **kwargs)

        return at_this_time
