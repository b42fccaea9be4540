"""The one writer: applies operations on the event loop, makes them durable on a thread.

Applying is memory work of microseconds, so it stays on the loop: a thread would fight it for the interpreter
lock at every statement. Waiting for the disk is what the thread is for. Work that may take milliseconds
(large bodies, maintenance) is applied on the thread as well.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar, final

import apsw
from msgspec import Struct

from tidegate import fault_points
from tidegate.domain.errors import CommitUnknown, GatewayError, StorageFull, StorageUnavailable, StoreBusy
from tidegate.store.group_commit import BatchLimits, GroupCommit
from tidegate.store.sqlite.connection import BUSY_TIMEOUT_MS, PAGE_SIZE
from tidegate.store.sqlite.damage import fetch
from tidegate.store.sqlite.time import StoreClock
from tidegate.store.sqlite.turns import Turns

T = TypeVar("T")

_LARGE_BATCH: Final = 2**22
_CHECKPOINT_AT: Final = 16 * 2**20
_TRUNCATE_AT: Final = 64 * 2**20
_BROKEN_OPERATION: Final = (
    apsw.ConstraintError, apsw.SQLError, apsw.BindingsError, apsw.MismatchError, apsw.TooBigError,
    AttributeError, LookupError, TypeError, ValueError,
)  # fmt: skip
"""What an operation raises by its own fault; anything else from SQLite is the fault of the disk or file."""


@final
class Transaction:
    """What an operation works with. It decides before it writes, so that a refusal leaves no trace."""

    __slots__ = ("_connection", "boot_id", "loss_budget", "now", "turns")

    def __init__(self, connection: apsw.Connection, boot_id: str, loss_budget: int) -> None:
        self._connection = connection
        self.boot_id = boot_id
        self.loss_budget = loss_budget
        self.turns = Turns(connection)
        self.now = 0
        """Store time in milliseconds, the same throughout a transaction."""

    def execute(self, sql: str, bindings: Sequence[Any] = ()) -> apsw.Cursor:
        return self._connection.execute(sql, bindings)

    def row(self, sql: str, bindings: Sequence[Any] = ()) -> Any:
        return self._connection.execute(sql, bindings).fetchone()

    def rows(self, sql: str, bindings: Sequence[Any] = ()) -> list[Any]:
        return fetch(self._connection, sql, bindings)

    def changes(self) -> int:
        return self._connection.changes()

    def last_rowid(self) -> int:
        return self._connection.last_insert_rowid()


class Work(Struct, frozen=True):
    """One operation in the queue."""

    apply: Callable[[Transaction], Any]
    size: int
    is_heavy: bool


@final
class Writer:
    """Owns the writing connection; everything that changes the database passes through ``run``."""

    def __init__(
        self,
        connection: apsw.Connection,
        transaction: Transaction,
        *,
        clock: StoreClock,
        on_fatal: Callable[[str], None],
        linger: float = 0.0,
    ) -> None:
        self._connection = connection
        self._transaction = transaction
        self._clock = clock
        self._on_fatal = on_fatal
        self._thread = ThreadPoolExecutor(1, "store-writer")
        self._group: GroupCommit[Work] = GroupCommit(
            self._commit, self._checkpoint_when_due, BatchLimits(linger=linger)
        )
        self._wal_pages = 0
        self._is_down = False
        self._held_since: float | None = None
        """Monotonic time since which a foreign tool holds the file."""
        self.full_at: float | None = None
        """Monotonic time of the last write that found no room on the disk."""
        connection.set_busy_timeout(0)
        connection.set_wal_hook(self._note_wal_size)
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)

    async def run(self, apply: Callable[[Transaction], T], *, size: int = 0, is_heavy: bool = False) -> T:
        """The operation's result, once it is durable. ``size`` is what it writes, in bytes."""
        if self._is_down:
            raise StorageUnavailable
        result: T = await self._group.submit(Work(apply, size, is_heavy), size)
        return result

    async def checkpoint(self) -> None:
        """Move everything from the WAL to the database and cut the WAL to nothing."""
        if self._wal_pages and not self._is_down:
            await self._checkpoint("TRUNCATE")

    async def finish(self) -> None:
        """Whatever waits is written, and nothing after it."""
        await self._group.close()
        await self.checkpoint()

    def close(self) -> None:
        """After everybody else's connection: only the last one may put the file in order, and a reader cannot."""
        self._thread.shutdown()
        self._connection.close()

    def fail(self, reason: Exception) -> None:
        """The disk or the file cannot be trusted: nothing is written or synced any more.

        Called on the event loop, since that is where the process is ended.
        """
        if self._is_down:
            return
        self._is_down = True
        self._on_fatal(
            f"{self._connection.filename}: the store failed ({type(reason).__name__}: {reason}): "
            "check the disk, then start again; if the database is damaged restore it from a backup"
        )

    async def _commit(self, batch: Sequence[Work]) -> Sequence[Any]:
        if self._is_down:
            return [StorageUnavailable()] * len(batch)
        try:
            return await self._try_commit(batch)
        except _BROKEN_OPERATION:
            self._rollback()
            return await self._commit_one_by_one(batch)
        except apsw.Error as exc:
            return [self._refuse(exc)] * len(batch)

    async def _commit_one_by_one(self, batch: Sequence[Work]) -> Sequence[Any]:
        """One operation is broken: let it fail alone."""
        results: list[Any] = []
        for work in batch:
            if self._is_down:
                results.append(StorageUnavailable())
                continue
            try:
                results.extend(await self._try_commit([work]))
            except _BROKEN_OPERATION as exc:
                self._rollback()
                results.append(exc)
            except apsw.Error as exc:
                results.append(self._refuse(exc))
        return results

    def _refuse(self, reason: apsw.Error) -> GatewayError:
        """What those are told whose transaction met ``reason``; only a full or a busy disk is survived."""
        error: GatewayError
        match reason:
            case apsw.FullError():
                self.full_at = self._clock.monotonic()
                error = StorageFull()
            case apsw.BusyError():
                error = StoreBusy()
            case _:
                self.fail(reason)
                return CommitUnknown()
        self._rollback()
        return error

    async def _try_commit(self, batch: Sequence[Work]) -> Sequence[Any]:
        await self._begin()
        self._transaction.now = self._clock.now_ms()
        if any(work.is_heavy for work in batch) or sum(work.size for work in batch) > _LARGE_BATCH:
            results = await self._in_thread(lambda: self._apply(batch))
        else:
            results = self._apply(batch)
        fault_points.reached("before_commit")
        await self._in_thread(lambda: self._connection.execute("COMMIT"))
        fault_points.reached("after_commit_before_reply")
        return results

    async def _begin(self) -> None:
        try:
            self._connection.execute("BEGIN IMMEDIATE")
        except apsw.BusyError:
            # A foreign tool holds the file: wait for it where waiting does no harm.
            await self._in_thread(self._begin_patiently)
        self._held_since = None

    def _begin_patiently(self) -> None:
        """Whoever comes next has waited behind this one: the patience is for all of them together."""
        if self._held_since is None:
            self._held_since = self._clock.monotonic()
        waited = round((self._clock.monotonic() - self._held_since) * 1000)
        self._connection.set_busy_timeout(max(0, BUSY_TIMEOUT_MS - waited))
        try:
            self._connection.execute("BEGIN IMMEDIATE")
        finally:
            self._connection.set_busy_timeout(0)

    def _apply(self, batch: Sequence[Work]) -> list[Any]:
        transaction = self._transaction
        results: list[Any] = []
        for work in batch:
            try:
                results.append(work.apply(transaction))
            except GatewayError as refusal:
                results.append(refusal)
        transaction.turns.flush()
        return results

    def _rollback(self) -> None:
        self._transaction.turns.forget()
        if self._connection.in_transaction:
            try:
                self._connection.execute("ROLLBACK")
            except apsw.Error as exc:
                self.fail(exc)

    async def _checkpoint_when_due(self) -> None:
        size = self._wal_pages * PAGE_SIZE
        if size < _CHECKPOINT_AT or self._is_down:
            return
        await self._checkpoint("TRUNCATE" if size > _TRUNCATE_AT else "PASSIVE")

    async def _checkpoint(self, mode: str) -> None:
        statement = f"PRAGMA wal_checkpoint({mode})"
        try:
            ((is_blocked, pages, moved),) = await self._in_thread(
                lambda: self._connection.execute(statement).fetchall()
            )
        except (apsw.BusyError, apsw.LockedError):
            return  # a reader is in the way; the next one will do
        except apsw.FullError:
            self.full_at = self._clock.monotonic()
            return
        except apsw.Error as exc:
            self.fail(exc)
            return
        if not is_blocked and moved == pages:  # else a reader is in the way, and it is tried again
            self._wal_pages = 0

    def _note_wal_size(self, _connection: apsw.Connection, _name: str, pages: int) -> int:
        self._wal_pages = pages
        return apsw.SQLITE_OK

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)
