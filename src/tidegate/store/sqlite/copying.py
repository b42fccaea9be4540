"""A SQLite store as the source of a copy: nobody else is at it, nothing is written, every digest is checked."""

import asyncio
import os
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, Final, LiteralString, Self, TypeVar, final

import apsw
import msgspec

from tidegate.domain.jobs import Status
from tidegate.ports import Clock
from tidegate.store.copying import (
    MOST_BYTES,
    MOST_JOBS,
    NAMES,
    AttemptRow,
    Census,
    CopiedJob,
    JobColumns,
    Row,
    SourceDamaged,
    Table,
    text_of,
)
from tidegate.store.migrate import SchemaMismatch
from tidegate.store.refusal import StoreRefused
from tidegate.store.rows import sql
from tidegate.store.sqlite.connection import check_library, open_reader
from tidegate.store.sqlite.damage import fetch, intact
from tidegate.store.sqlite.lock import DirectoryLock
from tidegate.store.sqlite.store import missing_migrations

T = TypeVar("T")

_COLUMNS: Final[tuple[LiteralString, ...]] = JobColumns.__struct_fields__
_FLAGS: Final = (_COLUMNS.index("passes_extra"), _COLUMNS.index("is_suspect"))
_ERROR: Final = _COLUMNS.index("error")
_JOBS: Final = sql(
    "SELECT seq, id, request_digest, result_digest, (SELECT body FROM job_request WHERE job = seq),"
    " (SELECT body FROM job_result WHERE job = seq), (SELECT json FROM job_metadata WHERE job = seq),",
    ", ".join(_COLUMNS),
    "FROM jobs WHERE id > ? ORDER BY id",
)
_ATTEMPTS: Final = (
    'SELECT number, started_at, ended_at, "end", calls, lease FROM attempts WHERE job = ? ORDER BY number'
)
_LATEST_BOOT: Final = "SELECT id FROM boots ORDER BY started_at DESC, id DESC LIMIT 1"
_SENSELESS: Final = (
    ArithmeticError,
    AttributeError,
    LookupError,
    TypeError,
    ValueError,
    msgspec.ValidationError,
)
_ROWS_AT_ONCE: Final = 1000


@final
class SqliteSource:
    """Implements ``Source``. Holds the lock of the data directory, so no gateway can start meanwhile."""

    def __init__(self, path: Path, connection: apsw.Connection, lock: DirectoryLock) -> None:
        self.place = str(path)
        self._connection = connection
        self._lock = lock
        self._thread = ThreadPoolExecutor(1, "store-reader")
        boots = fetch(connection, _LATEST_BOOT, ())
        # Each start of a gateway leaves a boot of its own, and a copy leaves none.
        self.identity = f"sqlite:{boots[0][0] if boots else 'never started'}"

    @classmethod
    def open(cls, path: Path, clock: Clock) -> Self:
        """Raises ``StoreRefused``, ``AlreadyRunning`` or ``SchemaMismatch``."""
        check_library()
        if not path.exists():
            raise StoreRefused(f"there is no {path}: check the URL")
        lock = DirectoryLock(path.parent / "tidegate.lock")
        try:
            lock.acquire({"pid": os.getpid(), "started_at": clock.now().isoformat()})
            connection = open_reader(path)
            _require_schema(path, connection)
            return cls(path, connection, lock)
        except apsw.Error as exc:
            lock.release()
            raise StoreRefused(f"cannot read {path} ({exc}): check the disk, or restore a backup") from exc
        except OSError as exc:
            lock.release()
            raise StoreRefused(f"cannot use {exc.filename or path}: {exc.strerror}") from exc
        except BaseException:
            lock.release()
            raise

    async def census(self) -> Census:
        return await self._in_thread(self._census)

    async def jobs(self, after: bytes) -> Sequence[CopiedJob]:
        return await self._in_thread(lambda: self._jobs(after))

    async def rows(self, table: Table) -> AsyncGenerator[Row, None]:
        found = self._rows(table)
        while rows := await self._in_thread(lambda: list(islice(found, _ROWS_AT_ONCE))):
            for row in rows:
                yield row

    async def close(self) -> None:
        """After whatever is still being read for somebody who has gone."""
        await self._in_thread(self._connection.close)
        self._thread.shutdown()
        self._lock.release()

    async def _in_thread(self, read: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, read)

    def _census(self) -> Census:
        try:
            tables = {
                name: fetch(self._connection, sql("SELECT count(*) FROM", name), ())[0][0] for name in NAMES
            }
            statuses = fetch(self._connection, "SELECT status, count(*) FROM jobs GROUP BY status", ())
        except apsw.Error as exc:
            raise _damaged("a table", exc) from exc
        return Census(tables, dict(statuses))

    def _jobs(self, after: bytes) -> list[CopiedJob]:
        batch: list[CopiedJob] = []
        size = 0
        where = f"the job after {text_of(after)}"
        cursor = self._connection.cursor()
        try:
            for row in cursor.execute(_JOBS, (after,)):
                where = f"job {text_of(row[1])}"
                batch.append(self._job(row))
                where = f"the job after {text_of(row[1])}"
                size += batch[-1].size
                if len(batch) == MOST_JOBS or size >= MOST_BYTES:
                    break
        except (apsw.Error, *_SENSELESS) as exc:
            raise _damaged(where, exc) from exc
        finally:
            cursor.close()
        return batch

    def _job(self, row: Row) -> CopiedJob:
        """Raises ``DamageFound`` or one of ``_SENSELESS``."""
        seq, job_id, request_digest, result_digest, body, result, metadata, *values = row
        for place in _FLAGS:
            values[place] = {0: False, 1: True}[values[place]]
        values[_ERROR] = _encoded(values[_ERROR])
        columns = msgspec.convert(values, JobColumns)
        if columns.status == Status.COMPLETED or result is not None:
            intact(job_id, result, result_digest)
        return CopiedJob(
            id=job_id,
            columns=columns,
            body=intact(job_id, body, request_digest),
            result=result,
            metadata=metadata,
            attempts=tuple(map(_attempt, fetch(self._connection, _ATTEMPTS, (seq,)))),
        )

    def _rows(self, table: Table) -> Iterator[Row]:
        query = sql("SELECT", ", ".join(table.columns), "FROM", table.name, "ORDER BY", ", ".join(table.key))
        try:
            for row in self._connection.execute(query):
                yield tuple(row)
        except (apsw.Error, UnicodeDecodeError) as exc:
            raise _damaged(table.name, exc) from exc


def _require_schema(path: Path, connection: apsw.Connection) -> None:
    missing = missing_migrations(connection)
    if missing:
        names = ", ".join(migration.name for migration in missing)
        raise SchemaMismatch(f"{path} lacks {names}: run `tidegate migrate` on it first")


def _attempt(row: Row) -> AttemptRow:
    """A lease stands with an attempt that the store ended."""
    number, started, ended, end, calls, lease = row
    is_settled = lease is None and end != "worker_lost"
    values = (number, started, ended, end, _encoded(calls), lease, is_settled)
    return msgspec.convert(values, AttemptRow)


def _encoded(text: Any) -> bytes | None:
    return None if text is None else text.encode()


def _damaged(where: str, reason: Exception) -> SourceDamaged:
    return SourceDamaged(
        f"{where} is not what was written ({reason}): "
        "nothing after it was copied; restore the source from a backup, then copy again"
    )
