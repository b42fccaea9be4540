"""Statements over a bounded pool of connections, and what their failures mean to whoever asked."""

import asyncio
import contextlib
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final, LiteralString, final

import asyncpg
from asyncpg import exceptions as pg

from tidegate.domain.errors import CommitUnknown, StorageFull, StoreAway, StoreBusy
from tidegate.ports import Clock, Rng

Row = Sequence[Any]

_LONGEST_WAIT_FOR_CONNECTION: Final = 2.0
_MOST_TRIES: Final = 5
_PATIENCE: Final = 5.0
_PAUSE_WHEN_AWAY: Final = timedelta(milliseconds=500)
_LONGEST_PAUSE: Final = timedelta(milliseconds=50)

# PostgreSQL undid the transaction because of another one; nothing was wrong with it.
_TRY_AGAIN: Final = (pg.SerializationError, pg.DeadlockDetectedError)
_TOO_SLOW: Final = (pg.QueryCanceledError, pg.LockNotAvailableError, pg.IdleInTransactionSessionTimeoutError)
# The server is going, gone, or not the one that takes writes any more: it may come back, or another one instead.
GONE: Final = (
    pg.PostgresConnectionError, pg.OperatorInterventionError, pg.ReadOnlySQLTransactionError,
    pg.TooManyConnectionsError, pg.InterfaceError, pg.TargetServerAttributeNotMatched,
    pg.InternalClientError, OSError,
)  # fmt: skip
_FULL: Final = (pg.DiskFullError, pg.OutOfMemoryError)


@final
class Database:
    """Runs statements; every one is a transaction of its own. Raises ``StoreError``."""

    def __init__(self, pool: "asyncpg.Pool[Any]", clock: Clock, rng: Rng) -> None:
        self._pool = pool
        self._clock = clock
        self._rng = rng

    async def fetch(self, sql: LiteralString, *values: Any) -> list[Row]:
        """The rows of a statement that does no harm when it is repeated after the line broke."""
        connection = await self._acquire()
        try:
            return await self._again_if_undone(connection, sql, values)
        except GONE as exc:
            self._give_up(connection)
            raise StoreAway from exc
        finally:
            await self._release(connection)

    async def fetch_last(self, statements: Sequence[tuple[LiteralString, Sequence[Any]]]) -> list[Row]:
        """The rows of the last of several statements in one transaction, which does no harm when repeated."""
        connection = await self._acquire()
        rows: list[Row] = []
        try:
            async with connection.transaction() if len(statements) > 1 else contextlib.nullcontext():
                for sql, values in statements:
                    rows = await connection.fetch(sql, *values)
        except (*_TRY_AGAIN, *_TOO_SLOW) as exc:
            raise StoreBusy from exc
        except GONE as exc:
            self._give_up(connection)
            raise StoreAway from exc
        else:
            return rows
        finally:
            await self._release(connection)

    async def fetch_or_unknown(self, sql: LiteralString, *values: Any) -> list[Row]:
        """As ``fetch``, for what the caller must know about.

        Raises ``CommitUnknown`` when the line broke after the statement had been sent.
        """
        connection = await self._acquire()
        try:
            return await self._again_if_undone(connection, sql, values)
        except GONE as exc:
            self._give_up(connection)
            raise CommitUnknown from exc
        finally:
            await self._release(connection)

    async def fetch_patiently(self, sql: LiteralString, *values: Any) -> list[Row]:
        """As ``fetch``, but for five seconds a server that is away is waited for."""
        give_up = self._clock.monotonic() + _PATIENCE
        while True:
            try:
                return await self.fetch(sql, *values)
            except StoreBusy:
                if self._clock.monotonic() > give_up:
                    raise
                await self._clock.sleep(self._rng.chance() * _PAUSE_WHEN_AWAY)

    async def _again_if_undone(self, connection: Any, sql: LiteralString, values: Sequence[Any]) -> list[Row]:
        for _ in range(_MOST_TRIES):
            try:
                rows: list[Row] = await connection.fetch(sql, *values)
            except _TRY_AGAIN:
                await self._clock.sleep(self._rng.chance() * _LONGEST_PAUSE)
            except _TOO_SLOW as exc:
                raise StoreBusy from exc
            except _FULL as exc:
                raise StorageFull from exc
            else:
                return rows
        raise StoreBusy

    def _give_up(self, connection: Any) -> None:
        with contextlib.suppress(*GONE):  # the pool has taken it back where it saw the line break first
            connection.terminate()

    async def _acquire(self) -> Any:
        try:
            return await self._pool.acquire(timeout=_LONGEST_WAIT_FOR_CONNECTION)
        except TimeoutError as exc:
            raise StoreBusy from exc
        except GONE as exc:
            raise StoreAway from exc

    async def _release(self, connection: Any) -> None:
        # What was read or written stands, whether or not the line can be used again; the pool finds out.
        with contextlib.suppress(*GONE, pg.PostgresError):
            await self._pool.release(connection)

    async def close(self) -> None:
        try:
            async with asyncio.timeout(_LONGEST_WAIT_FOR_CONNECTION):
                await self._pool.close()
        except (TimeoutError, *GONE):
            self._pool.terminate()


__all__ = ["GONE", "Database", "Row"]
