"""One seed: a gateway, its clients and vendors, and everything that goes wrong, in one process on virtual time."""

import asyncio
import contextlib
import hashlib
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any, Final, final

from simulation.clients import Client
from simulation.process import SimulatedProcess
from simulation.vendors import MoodyVendors
from support.fakes import SeededRng
from support.stores import ALICE, BOB, SqliteUnderTest
from support.virtual_time import VirtualClock, VirtualLoop
from tidegate.domain.access import KeyCaller, KeyId

_CLIENTS: Final = 10
_TROUBLE_ENDS: Final = 35.0
_AUDIT_EVERY: Final = 3.0
_LONGEST: Final = 20_000.0
"""Virtual seconds after which a simulation hangs: an hour set back five times is waited for, and then some."""
_STEPS: Final = (1.5, 30, 600, 3600)
_UNHELD: Final = "SELECT id, lease FROM jobs WHERE status = 'processing'"
_OVERDUE: Final = (
    "SELECT id, deadline_at FROM jobs WHERE status IN ('pending', 'processing') AND deadline_at < ?"
)
_STRANDED: Final = "SELECT id FROM jobs WHERE status = 'pending' AND rank IS NULL AND run_at IS NULL"
_UNFINISHED: Final = "SELECT 1 FROM jobs WHERE status IN ('pending', 'processing') LIMIT 1"


@final
class Simulation:
    """``run`` once; what happened is in ``trace``, what is left in ``store``."""

    def __init__(self, seed: int, directory: Path) -> None:
        self._loop = VirtualLoop(Random(f"{seed} loop"))
        self._random = Random(f"{seed} world")
        self.clock = VirtualClock(self._loop)
        clock: Any = self.clock
        self.store = SqliteUnderTest(directory / "tidegate.db", clock=clock, rng=SeededRng(seed))
        self.vendors = MoodyVendors(Random(f"{seed} vendors"))
        self.trace: list[str] = []
        self.announced: list[str] = []
        self.problems: list[str] = []
        self.passed = timedelta(0)
        """Store time that has gone by; a clock that was set back counts for nothing."""
        self._latest = self.clock.now()
        callers = [KeyCaller(self.store.key(owner[4:], id=owner[4:])) for owner in (ALICE, BOB)]
        self.clients = [Client(f"j{n}", seed, callers[n % 2], self) for n in range(_CLIENTS)]
        self._process: SimulatedProcess | None = None
        self._is_up = asyncio.Event()

    def run(self, judge: Callable[["Simulation"], Awaitable[None]]) -> None:
        """Live through it, then have ``judge`` look at what is left while the store is still open."""
        with contextlib.closing(self._loop):
            self._loop.run_until_complete(self._live(judge))

    @property
    def digest(self) -> str:
        return hashlib.sha256("\n".join(self.trace).encode()).hexdigest()

    def note(self, event: str) -> None:
        self.trace.append(f"{self._loop.time():.6f} {event}")

    def now(self) -> datetime:
        """Store time."""
        now = self.store.store.clock.now()
        self.passed += max(timedelta(0), now - self._latest)
        self._latest = now
        return now

    async def process(self) -> SimulatedProcess:
        while self._process is None:
            await self._is_up.wait()
        return self._process

    async def _live(self, judge: Callable[["Simulation"], Awaitable[None]]) -> None:
        await self._start()
        for name in ("alice", "bob"):
            await self.store.keys.create(self.store.key(name, id=KeyId(name)), name.encode().ljust(32))
        audits = asyncio.create_task(self._audit_for_ever())
        async with asyncio.timeout(_LONGEST), asyncio.TaskGroup() as everybody:
            for client in self.clients:
                everybody.create_task(client.run())
            await self._trouble()
            self.vendors.is_calm = True
            self.note("calm")
        async with asyncio.timeout(_LONGEST):
            while self._rows(_UNFINISHED):
                await asyncio.sleep(1)
        if audits.done():
            audits.result()
        audits.cancel()
        await judge(self)
        process = await self.process()
        self._note_problems(process)
        await process.stop()

    async def _start(self) -> None:
        self.store.open()
        self.store.wake_ups.on_ended(self._note_end)
        self._process = SimulatedProcess(self.store, self.vendors)
        self._process.start()
        self.now()
        self._is_up.set()
        self.note(f"up, {self.store.store.rescued} rescued")

    def _note_end(self, job: str) -> None:
        self.announced.append(job)
        self.note(f"ended {job}")

    async def _trouble(self) -> None:
        """Crashes, restarts and steps of the wall clock, at times nobody knows beforehand."""
        kinds = [self._crash, self._crash, self._restart, self._step_clock]
        times = sorted(self._random.uniform(0, _TROUBLE_ENDS) for _ in range(self._random.randint(0, 5)))
        for pause in [at - before for before, at in pairwise([0.0, *times])]:
            await asyncio.sleep(pause)
            await self._random.choice(kinds)()

    async def _crash(self) -> None:
        process = await self._take_down()
        self.note("crash")
        await process.die()
        await self._come_back()

    async def _restart(self) -> None:
        process = await self._take_down()
        self.note("restart")
        await process.stop()
        await self._come_back()

    async def _take_down(self) -> SimulatedProcess:
        process = await self.process()
        self.now()
        self._note_problems(process)
        self._process = None
        self._is_up.clear()
        return process

    async def _come_back(self) -> None:
        await asyncio.sleep(self._random.choice([0, 0, 0.3, 4]))
        await self._start()

    async def _step_clock(self) -> None:
        step = timedelta(seconds=self._random.choice([-1, 1]) * self._random.choice(_STEPS))
        self.clock.step_wall_clock(step)
        self.now()
        self.note(f"clock steps by {step.total_seconds()}")

    async def _audit_for_ever(self) -> None:
        """What is wrong at a moment may be in order at the next; what is wrong twice in a row is wrong."""
        known: tuple[object, set[tuple[object, ...]]] = (None, set())
        while True:
            await asyncio.sleep(_AUDIT_EVERY)
            process = self._process
            wrong = self._wrong(process) if process is not None else set()
            if known[0] is process:
                assert not wrong & known[1], wrong & known[1]
            known = (process, wrong)

    def _wrong(self, process: SimulatedProcess) -> set[tuple[object, ...]]:
        """Leases that nobody holds, jobs past their deadline, jobs that no claim would ever find."""
        held = {lease.token for lease in process.leases()}
        now = int(self.now().timestamp() * 1000)
        return {
            *[("unheld", *row) for row in self._rows(_UNHELD) if row[1] not in held],
            *[("overdue", *row) for row in self._rows(_OVERDUE, now)],
            *[("stranded", *row) for row in self._rows(_STRANDED)],
        }

    def _rows(self, sql: str, *bindings: Any) -> list[Any]:
        return self.store.store._readers.look_up(sql, bindings)

    def _note_problems(self, process: SimulatedProcess) -> None:
        self.problems += [event for event, _ in process.observer.problems]
