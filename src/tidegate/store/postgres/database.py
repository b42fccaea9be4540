"""Statements over a bounded pool of connections, and what their failures mean to whoever asked."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import timedelta
from typing import Any, Final, LiteralString, final

import asyncpg
from asyncpg import exceptions as pg

from tidegate import fault_points
from tidegate.domain.errors import CommitUnknown, StorageFull, StoreAway, StoreBusy, StoreError
from tidegate.ports import Clock, Rng
from tidegate.store.refusal import StoreRefused

Row = Sequence[Any]
Statements = Sequence[tuple[LiteralString, Sequence[Any]]]

_LONGEST_WAIT_FOR_CONNECTION: Final = 2.0
_LONGEST_SILENCE: Final = 8.0
"""The server gives up a statement after five seconds: whoever hears nothing for longer has no server any more."""
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
    pg.FeatureNotSupportedError,  # a standby, asked for a transaction that writes
    pg.InternalClientError, OSError,
)  # fmt: skip
_FULL: Final = (pg.DiskFullError, pg.OutOfMemoryError)


@final
class Database:
    """Runs statements; every one is a transaction of its own. Raises ``StoreError``."""

    def __init__(self, pool: "asyncpg.Pool[Any]", clock: Clock, rng: Rng, preamble: str = "") -> None:
        """``preamble`` is said first in every transaction, where no session is there to remember it."""
        self._pool = pool
        self._clock = clock
        self._rng = rng
        self._preamble = preamble

    async def fetch(self, sql: LiteralString, *values: Any) -> list[Row]:
        """The rows of a statement that does no harm when it is repeated after the line broke."""
        return await self.fetch_last([(sql, values)])

    async def fetch_last(self, statements: Statements) -> list[Row]:
        """The rows of the last of several statements in one transaction, which does no harm when repeated."""
        async with self._line(StoreAway) as connection:
            return await self._again_if_undone(connection, statements)

    async def fetch_or_unknown(self, sql: LiteralString, *values: Any) -> list[Row]:
        """As ``fetch``, for what the caller must know about.

        Raises ``CommitUnknown`` when the line broke after the statement had been sent.
        """
        async with self._line(CommitUnknown) as connection:
            fault_points.reached("before_commit")
            rows = await self._again_if_undone(connection, [(sql, values)])
            fault_points.reached("after_commit_before_reply")
            return rows

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

    @contextlib.asynccontextmanager
    async def _line(self, gone: Callable[[], StoreError]) -> AsyncIterator[Any]:
        """A connection; where it turns out to be broken, ``gone`` is raised."""
        connection = await self._acquire()
        try:
            yield connection
        except GONE as exc:
            self._give_up(connection)
            # What broke this line may have broken the idle ones too, without their knowing.
            await self._pool.expire_connections()
            raise gone() from exc
        finally:
            await self._release(connection)

    async def _again_if_undone(self, connection: Any, statements: Statements) -> list[Row]:
        for _ in range(_MOST_TRIES):
            # Hung up on, not cancelled: a cancel would end the wait for a standby, and the commit would count as done.
            hang_up = asyncio.get_running_loop().call_later(_LONGEST_SILENCE, self._give_up, connection)
            try:
                return await self._in_one_transaction(connection, statements)
            except _TRY_AGAIN:
                await self._clock.sleep(self._rng.chance() * _LONGEST_PAUSE)
            except _TOO_SLOW as exc:
                raise StoreBusy from exc
            except _FULL as exc:
                raise StorageFull from exc
            finally:
                hang_up.cancel()
        raise StoreBusy

    async def _in_one_transaction(self, connection: Any, statements: Statements) -> list[Row]:
        if len(statements) == 1 and not self._preamble:
            return await _last_of(connection, statements)
        async with connection.transaction():
            if self._preamble:
                await connection.execute(self._preamble)
            return await _last_of(connection, statements)

    def _give_up(self, connection: Any) -> None:
        with contextlib.suppress(*GONE):  # the pool has taken it back where it saw the line break first
            connection.terminate()

    async def _acquire(self) -> Any:
        try:
            return await self._pool.acquire(timeout=_LONGEST_WAIT_FOR_CONNECTION)
        except TimeoutError as exc:
            raise StoreBusy from exc
        except (*GONE, StoreRefused) as exc:
            raise StoreAway from exc

    async def _release(self, connection: Any) -> None:
        # What was read or written stands, whether or not the line can be used again; the pool finds out.
        with contextlib.suppress(*GONE, pg.PostgresError):
            await self._pool.release(connection, timeout=_LONGEST_WAIT_FOR_CONNECTION)

    async def close(self) -> None:
        try:
            async with asyncio.timeout(_LONGEST_WAIT_FOR_CONNECTION):
                await self._pool.close()
        except (TimeoutError, *GONE):
            self._pool.terminate()


async def _last_of(connection: Any, statements: Statements) -> list[Row]:
    rows: list[Row] = []
    for sql, values in statements:
        rows = await connection.fetch(sql, *values)
    return rows


__all__ = ["GONE", "Database", "Row"]
