"""One gateway process without its sockets: the real store, services, worker and sweeps, on virtual time."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from datetime import timedelta
from typing import Any, TypeVar, final

from simulation.vendors import MoodyVendors
from support.attempts import a_key, a_provider, tools_for
from support.fakes import RecordingObserver
from support.stores import SqliteUnderTest
from tidegate.domain.jobs import Lane, Lease
from tidegate.domain.models import ProviderSetup
from tidegate.services.cancel_job import CancelJob
from tidegate.services.key_directory import KeyDirectory
from tidegate.services.poll_hints import PollHints
from tidegate.services.read_job import ReadJob
from tidegate.services.submit_job import OptionLimits, SubmitJob
from tidegate.worker.leases import Leases
from tidegate.worker.maintenance import Maintenance
from tidegate.worker.worker import Worker

T = TypeVar("T")


class ConnectionLost(Exception):
    """The process ended before it answered."""


def _providers() -> list[ProviderSetup]:
    limit = timedelta(seconds=8)
    return [
        a_provider("openai", a_key("one"), a_key("two"), concurrency=3, call_timeout=limit),
        a_provider("groq", concurrency=2, call_timeout=limit),
    ]


@final
class SimulatedProcess:
    """From ``start`` to ``die`` or ``stop``. ``store`` is open already."""

    def __init__(self, store: SqliteUnderTest, vendors: MoodyVendors) -> None:
        self._store = store
        self._tasks: dict[asyncio.Task[Any], None] = {}
        """In order: a set would have another one in every run."""
        self._is_over = False
        self.observer = RecordingObserver()
        jobs = store.jobs
        clock: Any = store.store.clock  # whatever is compared with times in the store goes by its clock
        vendors.clock = clock
        providers = _providers()
        tools = tools_for(providers, vendors, KeyDirectory(store.keys, clock), clock, store.rng)
        limits = {Lane(setup.name): setup.concurrency for setup in providers}
        self._worker = Worker(jobs, tools, limits, store.wake_ups, clock, self.observer, PollHints(clock))
        self._leases = Leases(jobs, self._worker, clock, self.observer)
        self._maintenance = Maintenance(jobs, clock, self.observer)
        self.submit = SubmitJob(jobs, tools.catalog, clock, store.rng, self.observer, OptionLimits())
        self.read = ReadJob(jobs, store.wake_ups)
        self.cancel = CancelJob(jobs, self.observer)

    def start(self) -> None:
        for loop in (self._worker.run(), self._leases.run(), self._maintenance.run()):
            self._adopt(loop)

    async def ask(self, request: Callable[["SimulatedProcess"], Coroutine[Any, Any, T]]) -> T:
        """What the process answers. Raises ``ConnectionLost``, and what services raise."""
        if self._is_over:
            raise ConnectionLost
        task = self._adopt(request(self))
        await asyncio.wait([task])
        if task.cancelled() or self._is_over:
            raise ConnectionLost from (None if task.cancelled() else task.exception())
        return task.result()

    def leases(self) -> list[Lease]:
        return self._worker.leases()

    async def die(self) -> None:
        """As after ``kill -9``: no write of this process reaches the file any more."""
        assert self._store.fatal == []
        running = [active.task for active in self._worker._active.values() if active.task is not None]
        self._is_over = True
        self._store.pull_the_plug()
        await _end([*self._tasks, *running])
        self._store.fatal.clear()  # those who were cut off have found the file closed

    async def stop(self) -> None:
        """Drain, then leave in order, as after SIGTERM."""
        await self._worker.drain(timedelta(seconds=2))
        self._is_over = True
        await _end([*self._tasks])
        await self._store.store.close()
        assert self._store.fatal == []

    def _adopt(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks[task] = None
        task.add_done_callback(self._tasks.pop)
        return task


async def _end(tasks: list[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    waiting: list[Awaitable[Any]] = [*tasks]
    await asyncio.gather(*waiting, return_exceptions=True)
