"""Group commit: whatever waits while one transaction is being made durable shares the next one.

There is no timer by default: an idle store commits a single operation at once, a busy one as many as have gathered.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Generic, TypeVar, final

from msgspec import Struct

from tidegate.domain.errors import StorageUnavailable, StoreBusy

Op = TypeVar("Op")
Settled = Sequence[Any]
"""One result, or one exception, per operation of a batch, in order."""


class BatchLimits(Struct, frozen=True):
    """How much one transaction takes, and how much may wait for the next."""

    ops: int = 256
    size: int = 4 * 2**20
    inbox_ops: int = 10_000
    inbox_size: int = 256 * 2**20
    linger: float = 0.0
    """Seconds a batch waits for company; only ever useful where syncing is very slow."""


DEFAULT_LIMITS: Final = BatchLimits()


@final
class GroupCommit(Generic[Op]):
    """Collects operations and hands them to ``commit`` batch by batch, one batch at a time.

    ``between`` runs after the waiters of a batch have been answered and before the next one begins.
    """

    def __init__(
        self,
        commit: Callable[[Sequence[Op]], Awaitable[Settled]],
        between: Callable[[], Awaitable[None]],
        limits: BatchLimits = DEFAULT_LIMITS,
    ) -> None:
        self._commit = commit
        self._between = between
        self._limits = limits
        self._inbox: deque[tuple[Op, int, asyncio.Future[Any]]] = deque()
        self._inbox_size = 0
        self._worker: asyncio.Task[None] | None = None
        self._is_closed = False
        self._loop: asyncio.AbstractEventLoop | None = None

    def submit(self, op: Op, size: int = 0) -> asyncio.Future[Any]:
        """The future is done when the operation is durable, or failed. ``size`` is what it writes, in bytes.

        Raises ``StoreBusy`` when too much is waiting, ``StorageUnavailable`` after ``close``.
        """
        if self._is_closed:
            raise StorageUnavailable
        if len(self._inbox) >= self._limits.inbox_ops or self._inbox_size + size > self._limits.inbox_size:
            raise StoreBusy
        if self._loop is None:
            self._loop = asyncio.get_running_loop()  # asked for once: before Python 3.12 it is a system call
        future: asyncio.Future[Any] = self._loop.create_future()
        self._inbox.append((op, size, future))
        self._inbox_size += size
        if self._worker is None:
            self._worker = self._loop.create_task(self._run())
        return future

    async def close(self) -> None:
        """Refuse new operations and finish those that wait."""
        self._is_closed = True
        if self._worker is not None:
            await self._worker

    async def _run(self) -> None:
        while self._inbox:
            if self._limits.linger:
                await asyncio.sleep(self._limits.linger)  # noqa: TID251 – two milliseconds at most
            batch = self._take()
            settled = await self._settle([op for op, _, _ in batch])
            for (_, _, future), result in zip(batch, settled, strict=True):
                if future.done():  # its waiter was cancelled; the operation counts all the same
                    continue
                if isinstance(result, BaseException):
                    future.set_exception(result)
                else:
                    future.set_result(result)
            await asyncio.sleep(0)  # noqa: TID251 – no time passes: the waiters run and may add to the next batch
            await self._between()
        self._worker = None

    async def _settle(self, ops: Sequence[Op]) -> Settled:
        try:
            return await self._commit(ops)
        except Exception as exc:  # noqa: BLE001 – whatever went wrong, nobody may wait for ever
            return [exc] * len(ops)

    def _take(self) -> list[tuple[Op, int, asyncio.Future[Any]]]:
        batch: list[tuple[Op, int, asyncio.Future[Any]]] = []
        size = 0
        while self._inbox and len(batch) < self._limits.ops:
            if batch and size + self._inbox[0][1] > self._limits.size:
                break
            batch.append(self._inbox.popleft())
            size += batch[-1][1]
        self._inbox_size -= size
        return batch
