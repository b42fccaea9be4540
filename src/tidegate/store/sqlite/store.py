"""Opening and closing the SQLite store: lock, check, migrate, free the leases of the dead, then serve."""

import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, Self, final

import apsw
from msgspec import Struct

from tidegate import fault_points
from tidegate.domain.ids import uuid7
from tidegate.ports import Clock, Rng
from tidegate.store.migrate import Migration, SchemaMismatch, migrations, not_ours, pending
from tidegate.store.refusal import StoreRefused
from tidegate.store.rows import moment
from tidegate.store.sqlite.connection import check_library, open_writer, prepare_directory
from tidegate.store.sqlite.damage import fetch, understood
from tidegate.store.sqlite.jobs import SqliteJobs
from tidegate.store.sqlite.keys import SqliteKeys
from tidegate.store.sqlite.leasing import rescue
from tidegate.store.sqlite.lock import DirectoryLock
from tidegate.store.sqlite.readers import Readers
from tidegate.store.sqlite.space import Space
from tidegate.store.sqlite.time import StoreClock
from tidegate.store.sqlite.writer import Transaction, Writer
from tidegate.store.wake_ups import LocalWakeUps

_SUSPICIOUSLY_LATE: Final = timedelta(minutes=5)
_MIGRATIONS: Final = """
CREATE TABLE IF NOT EXISTS schema_migrations (number INTEGER PRIMARY KEY, name TEXT NOT NULL, checksum TEXT NOT NULL)
"""


class SqliteOptions(Struct, frozen=True):
    path: Path
    wipe: bool = False
    """Overwrite what is deleted."""
    min_free_bytes: int = 256 * 2**20
    loss_budget: int = 3
    commit_wait: timedelta = timedelta(0)
    """How long a group commit waits for company."""
    vfs: str | None = None
    """Name of a registered SQLite VFS; ``None`` is the system's."""


@final
class SqliteStore:
    """The open store: ``jobs`` and ``keys`` are its ports."""

    def __init__(
        self,
        writer: Writer,
        readers: Readers,
        lock: DirectoryLock,
        jobs: SqliteJobs,
        keys: SqliteKeys,
        clock: StoreClock,
        wake_ups: LocalWakeUps,
    ) -> None:
        self._writer = writer
        self._readers = readers
        self._lock = lock
        self.jobs = jobs
        self.keys = keys
        self.clock = clock
        """Store time: for whatever is compared with times in the store."""
        self.wake_ups = wake_ups
        self.rescued = 0
        """Jobs that the previous process had left running."""
        self.warnings: tuple[str, ...] = ()

    @classmethod
    def open(
        cls,
        options: SqliteOptions,
        *,
        clock: Clock,
        rng: Rng,
        wake_ups: LocalWakeUps,
        on_fatal: Callable[[str], None],
        on_clock_step: Callable[[timedelta], None] = lambda _step: None,
    ) -> Self:
        """Everything a previous process left behind is in order when this returns.

        ``on_fatal`` hears why the store cannot be trusted any more, ``on_clock_step`` how far the wall clock jumped.
        Raises ``StoreRefused``, ``AlreadyRunning`` or ``SchemaMismatch`` when it cannot be.
        """
        check_library()
        prepare_directory(options.path.parent)
        boot_id = uuid7(clock.now(), rng.secret_bytes(10))
        lock = DirectoryLock(options.path.parent / "tidegate.lock")
        lock.acquire({"pid": os.getpid(), "boot_id": boot_id, "started_at": clock.now().isoformat()})
        try:
            return cls._open_locked(
                options, boot_id, lock, StoreClock(clock, on_clock_step), wake_ups, on_fatal
            )
        except apsw.Error as exc:
            lock.release()
            raise StoreRefused(
                f"cannot use {options.path} ({type(exc).__name__}): check the disk, or restore a backup"
            ) from exc
        except BaseException:
            lock.release()
            raise

    @classmethod
    def _open_locked(
        cls,
        options: SqliteOptions,
        boot_id: str,
        lock: DirectoryLock,
        clock: StoreClock,
        wake_ups: LocalWakeUps,
        on_fatal: Callable[[str], None],
    ) -> Self:
        connection = open_writer(options.path, wipe=options.wipe, vfs=options.vfs)
        apply_migrations(connection)
        transaction = Transaction(connection, boot_id, options.loss_budget)
        rescued = _take_over(transaction, clock)
        writer = Writer(
            connection,
            transaction,
            clock=clock,
            on_fatal=on_fatal,
            linger=options.commit_wait.total_seconds(),
        )
        readers = Readers(options.path, vfs=options.vfs, on_failure=writer.fail)
        space = Space(writer, options.path.parent, options.min_free_bytes, clock)
        jobs = SqliteJobs(writer, readers, boot_id=boot_id, clock=clock, space=space, wake_ups=wake_ups)
        store = cls(writer, readers, lock, jobs, SqliteKeys(writer, readers, wake_ups), clock, wake_ups)
        store.rescued = rescued
        store.warnings = _clock_warnings(connection, clock)
        return store

    async def close(self, *, is_orderly: bool = True) -> None:
        """Finish what waits, note the orderly stop, let go of the file."""
        if is_orderly:
            await self._writer.run(
                lambda tx: tx.execute("UPDATE boots SET is_clean = 1 WHERE id = ?", (tx.boot_id,)).close()
            )
        await self._writer.finish()
        self._readers.close()
        self._writer.close()
        self._lock.release()


def apply_migrations(connection: apsw.Connection) -> int:
    """Bring the schema up to date, one transaction per file; the number of files applied. Raises ``SchemaMismatch``."""
    todo = missing_migrations(connection)
    for migration in todo:
        with connection:
            connection.execute(_MIGRATIONS)
            connection.execute(migration.sql)
            fault_points.reached("in_migration")
            connection.execute(
                "INSERT INTO schema_migrations (number, name, checksum) VALUES (?, ?, ?)",
                (migration.number, migration.name, migration.checksum),
            )
    return len(todo)


def missing_migrations(connection: apsw.Connection) -> list[Migration]:
    """What the schema lacks; changes nothing. Raises ``SchemaMismatch``."""
    tables = {
        name for (name,) in fetch(connection, "SELECT name FROM sqlite_schema WHERE type = 'table'", ())
    }
    applied = _applied(connection) if "schema_migrations" in tables else {}
    return pending(applied, migrations("sqlite"), tables)


def _applied(connection: apsw.Connection) -> dict[int, str]:
    try:
        return dict(fetch(connection, "SELECT number, checksum FROM schema_migrations", ()))
    except apsw.SQLError as exc:
        raise not_ours() from exc


def _take_over(transaction: Transaction, clock: StoreClock) -> int:
    """Record this boot and free the leases of earlier ones, before anybody can ask for anything."""
    transaction.now = clock.now_ms()
    transaction.execute("BEGIN IMMEDIATE")
    transaction.execute(
        "INSERT INTO boots (id, started_at, pid) VALUES (?, ?, ?)",
        (transaction.boot_id, transaction.now, os.getpid()),
    )
    # Only the youngest boots tell something; a restart loop must not fill the table.
    transaction.execute(
        "DELETE FROM boots WHERE id NOT IN (SELECT id FROM boots ORDER BY started_at DESC, id DESC LIMIT 100)"
    )
    rescued, _ = rescue(transaction)
    transaction.execute("COMMIT")
    return rescued


@understood
def _clock_warnings(connection: apsw.Connection, clock: StoreClock) -> tuple[str, ...]:
    newest: list[Any] = connection.execute(
        "SELECT max(coalesce((SELECT max(started_at) FROM boots), 0),"
        " coalesce((SELECT created_at FROM jobs ORDER BY seq DESC LIMIT 1), 0))"
    ).fetchall()
    behind = moment(newest[0][0]) - moment(clock.now_ms())
    if behind <= _SUSPICIOUSLY_LATE:
        return ()
    return (
        f"the clock is {behind} behind the newest entry of the store: results will expire late; check NTP",
    )


__all__ = ["SchemaMismatch", "SqliteOptions", "SqliteStore", "apply_migrations"]
