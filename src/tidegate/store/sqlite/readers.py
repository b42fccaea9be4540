"""Reading connections: one on the event loop for look-ups by key, a few on threads for scans."""

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final, TypeVar, final

import apsw

from tidegate.domain.errors import StorageUnavailable, StoreBusy
from tidegate.store.sqlite.connection import open_reader
from tidegate.store.sqlite.damage import fetch
from tidegate.store.sqlite.reading import Query

T = TypeVar("T")

_SCANNERS: Final = 3
_LONGEST_SCAN: Final = 5.0
_STEPS_BETWEEN_LOOKS: Final = 10_000


@final
class Readers:
    """A look-up by key takes microseconds, so it runs where it is asked for, without a thread hop.

    All look-ups of one turn of the event loop share a snapshot: locking one costs as much as reading from it.
    Nobody misses a write he was told of, since he is told in a later turn.
    """

    def __init__(self, path: Path, *, vfs: str | None, on_failure: Callable[[Exception], None]) -> None:
        self._on_failure = on_failure
        self._looker = open_reader(path, vfs=vfs)
        self._looker.set_busy_timeout(0)
        self._dropping: asyncio.Handle | None = None
        self._scanners: SimpleQueue[apsw.Connection] = SimpleQueue()
        for _ in range(_SCANNERS):
            self._scanners.put(open_reader(path, vfs=vfs))
        self._threads = ThreadPoolExecutor(_SCANNERS, "store-reader")

    def look_up(self, sql: str, bindings: Sequence[Any]) -> list[Any]:
        """Rows of a query that an index answers at once. Raises ``StoreError``."""
        try:
            if not self._looker.in_transaction:
                self._take_snapshot()
            return fetch(self._looker, sql, bindings)
        except apsw.Error as exc:
            raise self._explain(exc) from exc

    def look(self, read: Callable[[Query], T]) -> T:
        """What ``read`` makes of such rows. Raises ``StoreError``."""
        try:
            return read(self.look_up)
        except apsw.Error as exc:
            raise self._explain(exc) from exc

    async def scan(self, read: Callable[[Query], T]) -> T:
        """What ``read`` finds with queries that may take long; they are interrupted after 5 s."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, self._scan, read)
        except apsw.Error as exc:
            raise self._explain(exc) from exc

    def close(self) -> None:
        self._threads.shutdown()
        if self._dropping is not None:
            self._dropping.cancel()
        self._looker.close()
        while not self._scanners.empty():
            self._scanners.get().close()

    def _take_snapshot(self) -> None:
        self._looker.execute("BEGIN")  # it comes to be with the first query
        self._dropping = asyncio.get_running_loop().call_soon(self._drop_snapshot)

    def _drop_snapshot(self) -> None:
        if self._looker.in_transaction:  # after some errors SQLite has ended it by itself
            self._looker.execute("ROLLBACK")

    def _scan(self, read: Callable[[Query], T]) -> T:
        connection = self._scanners.get()
        # Real time: the limit protects the WAL from a reader that holds it, not the outcome of the query.
        give_up = time.monotonic() + _LONGEST_SCAN  # noqa: TID251 – see above
        connection.set_progress_handler(lambda: time.monotonic() > give_up, _STEPS_BETWEEN_LOOKS)  # noqa: TID251 – see above
        try:
            return read(lambda sql, bindings: fetch(connection, sql, bindings))
        finally:
            connection.set_progress_handler(None)
            self._scanners.put(connection)

    def _explain(self, exc: apsw.Error) -> StoreBusy | StorageUnavailable:
        if isinstance(exc, apsw.BusyError | apsw.LockedError | apsw.InterruptError):
            return StoreBusy()
        self._on_failure(exc)
        return StorageUnavailable()
