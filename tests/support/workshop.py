"""A worker on a real store, with vendors that answer by script and a clock that a test moves."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, TypeVar, final

from support.attempts import LONGEST, ScriptedVendors, SteadyRng, a_provider, tools_for
from support.fakes import FakeClock, RecordingObserver
from support.stores import ALICE, BOB, SqliteUnderTest
from tidegate.domain.access import OwnedBy, Owner
from tidegate.domain.inference import Call
from tidegate.domain.jobs import Attempt, Claimed, Ending, JobDetails, JobId, JobRef, Lane, Lease
from tidegate.domain.models import ProviderSetup
from tidegate.ports import JobStore
from tidegate.services.key_directory import KeyDirectory
from tidegate.services.poll_hints import PollHints
from tidegate.worker.leases import Leases
from tidegate.worker.maintenance import Maintenance
from tidegate.worker.worker import Worker

T = TypeVar("T")

_TICK: Final = 0.002


@final
class StoreWithDoors:
    """The real store, at whose verbs a test may stop the worker or trip it up."""

    def __init__(self, store: JobStore) -> None:
        self._store = store
        self.doors: dict[str, asyncio.Event] = {}
        """By verb, with ``-`` before it for the way in and after it for the way out."""
        self.waiting: set[str] = set()
        self.trouble: dict[str, list[Exception]] = {}
        """By verb: what it raises, one after the other, instead of doing anything."""
        self.asked: list[str] = []

    async def claim(
        self, lanes: Mapping[Lane, int], *, fleet: Mapping[Lane, int] | None = None
    ) -> Sequence[Claimed]:
        return await self._pass("claim", lambda: self._store.claim(lanes, fleet=fleet))

    async def settle(self, lease: Lease, ending: Ending, calls: Sequence[Call]) -> bool:
        return await self._pass("settle", lambda: self._store.settle(lease, ending, calls))

    async def renew(self, leases: Sequence[Lease]) -> Sequence[Lease]:
        return await self._pass("renew", lambda: self._store.renew(leases))

    async def rescue(self) -> int:
        return await self._pass("rescue", self._store.rescue)

    async def prune(self, *, limit: int) -> int:
        return await self._pass("prune", lambda: self._store.prune(limit=limit))

    def __getattr__(self, name: str) -> Any:
        self.asked.append(name)
        return getattr(self._store, name)

    async def _pass(self, verb: str, do: Callable[[], Coroutine[Any, Any, T]]) -> T:
        self.asked.append(verb)
        if self.trouble.get(verb):
            raise self.trouble[verb].pop(0)
        await self._wait_at(f"-{verb}")
        result = await do()
        await self._wait_at(f"{verb}-")
        return result

    async def _wait_at(self, door: str) -> None:
        if door in self.doors:
            self.waiting.add(door)
            await self.doors[door].wait()


@final
class Workshop:
    """One process's worth of worker; ``die`` ends it as ``kill -9`` would, and the next begins."""

    def __init__(self, store: SqliteUnderTest, providers: Sequence[ProviderSetup]) -> None:
        self.store = store
        self.clock: FakeClock = store.clock
        self.vendors = ScriptedVendors(self.clock)
        self._providers = providers
        self._loops: list[asyncio.Task[None]] = []
        self._assemble()

    def _assemble(self) -> None:
        self.observer = RecordingObserver()
        self.doors = StoreWithDoors(self.store.jobs)
        jobs: Any = self.doors
        directory = KeyDirectory(self.store.keys, self.clock)
        self.tools = tools_for(self._providers, self.vendors, directory, self.clock, SteadyRng())
        self.worker = Worker(
            jobs,
            self.tools,
            {Lane(setup.name): setup.concurrency for setup in self._providers},
            self.store.wake_ups,
            self.clock,
            self.observer,
            PollHints(self.clock),
        )
        self.leases = Leases(jobs, self.worker, self.clock, self.observer)
        self.maintenance = Maintenance(jobs, self.clock, self.observer)

    def start(self) -> None:
        self._loops.append(asyncio.create_task(self.worker.run()))

    async def stop(self) -> None:
        await self.worker.drain(timedelta(0))
        await self._end_loops()

    async def die(self) -> None:
        """The process is gone and another one opens the store."""
        self.store.pull_the_plug()
        for active in list(self.worker._active.values()):
            assert active.task is not None
            self._loops.append(active.task)
        await self._end_loops()
        self.store.fatal.clear()
        self.store.open()
        self._assemble()

    async def _end_loops(self) -> None:
        for task in self._loops:
            task.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)
        self._loops.clear()

    async def submit(self, model: str = "echo", *, lane: str = "openai", **members: Any) -> JobId:
        """A job for one model; without a script the vendor answers it at once."""
        name = f"{lane}/{model}"
        facts = {"lane": Lane(lane), "model": name, "candidates": (name,)} | members
        return await self.store.accept(**facts)

    async def until(self, is_so: Callable[[], bool]) -> None:
        async with asyncio.timeout(LONGEST):
            while not is_so():
                await asyncio.sleep(_TICK)

    async def until_status(self, status: str, *jobs: JobId) -> None:
        async with asyncio.timeout(LONGEST):
            for job in jobs:
                while await self.store.status(job) != status:
                    await asyncio.sleep(_TICK)

    async def until_calling(self, count: int) -> None:
        await self.until(lambda: self.vendors.in_flight == count)

    async def until_told(self, count: int) -> None:
        """Of so many attempts that are over."""
        await self.until(lambda: len(self.observer.ended) >= count)

    def later(self, **duration: float) -> None:
        """Time passes, and the worker looks what has become due."""
        self.store.later(**duration)
        self.store.wake_ups.work_arrived()

    async def details(self, job: JobId, owner: Owner = ALICE) -> JobDetails:
        found = await self.store.jobs.inspect(OwnedBy(owner), JobRef(job))
        assert found is not None
        return found

    async def last_attempt(self, job: JobId) -> Attempt:
        return (await self.details(job)).attempts[-1]

    async def cancel(self, job: JobId, owner: Owner = ALICE) -> JobDetails:
        found = await self.store.jobs.cancel(OwnedBy(owner), JobRef(job))
        assert found is not None
        return found.job

    @property
    def problems(self) -> list[str]:
        return [event for event, _ in self.observer.problems]


@asynccontextmanager
async def workshop(
    directory: Path, *providers: ProviderSetup, starts: bool = True, **options: Any
) -> AsyncIterator[Workshop]:
    """Jobs may be Alice's or Bob's, who may do everything."""
    store = SqliteUnderTest(directory / "tidegate.db", **options)
    store.open()
    for owner in (ALICE, BOB):
        name = owner.removeprefix("key:")
        await store.keys.create(store.key(name, id=name), name.encode().ljust(32))
    shop = Workshop(store, providers or (a_provider(),))
    if starts:
        shop.start()
    try:
        yield shop
    finally:
        await shop.stop()
        await store.store.close()
        assert store.fatal == []
