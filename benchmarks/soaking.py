"""A soak: half of what the gateway can do, for minutes, and nothing may grow or get lost."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from statistics import mean
from typing import Any, Final, TypeVar

import asyncpg
from msgspec.structs import replace

from benchmarks.bench import CLIENTS, Bench, Server
from benchmarks.jobs import completed, finished, run_jobs
from benchmarks.load import requests
from benchmarks.load.loops import open_loop
from benchmarks.load.session import Load
from benchmarks.machine import sockets
from benchmarks.machine.postgres import PostgresServer, postgres_server
from benchmarks.machine.proc import resident_bytes
from benchmarks.report import Check, Figure, Report, at_most
from benchmarks.samples import Sample, best_rate

T = TypeVar("T", int, float)

_PROBE: Final = 3000
_PROBES: Final = 2
"""The first also warms up."""
_LOOK_EVERY: Final = 5.0
_MIB: Final = 2**20
_WAL_LIMIT: Final = 64
"""MiB (``journal_size_limit``)."""
_MORE_DESCRIPTORS: Final = 4
_LEFT: Final = 2
_REST: Final = 60.0
"""Seconds: twice as long as the gateway keeps idle connections."""
_TTL: Final = 30
"""Seconds a result is kept: what is soaked includes erasing."""
_ERASED_WITHIN: Final = 45
"""Seconds after that: looked for every half minute, and erased in pieces."""
_WARM_UP: Final = 0.2
"""Share of the time that does not count: until as much is erased as comes in."""


class Watched:
    """What was seen every few seconds."""

    def __init__(self, store: Callable[[], float]) -> None:
        """``store`` tells what the store takes on disk, in MiB."""
        self._store = store
        self.at: list[float] = []
        self.resident: list[float] = []
        self.descriptors: list[int] = []
        """Without connections to the vendor: that pool breathes with the load, up to its size."""
        self.calls: list[int] = []
        """Connections to the vendor."""
        self.store: list[float] = []
        """MiB: of the WAL on SQLite, of all tables and indexes on PostgreSQL."""

    def look(self, gateway: Server, vendor: Server, now: float) -> None:
        calls = _calls(gateway, vendor)
        self.at.append(now)
        self.resident.append(resident_bytes(gateway.child.pid) / _MIB)
        self.descriptors.append(len(list(Path(f"/proc/{gateway.child.pid}/fd").iterdir())) - calls)
        self.calls.append(calls)
        self.store.append(self._store())

    def more_descriptors(self) -> float:
        """In the last quarter than in the one before it, on average."""
        last, before = _last_quarters(self.descriptors)
        return mean(last) - mean(before)

    def store_growth(self) -> float:
        """The most it took in the last quarter, of the most in the one before it."""
        last, before = _last_quarters(self.store)
        return max(last) / max(before)

    def slope(self) -> float:
        """MiB a minute, least squares over all looks after the warm-up."""
        start = int(len(self.at) * _WARM_UP)
        at, resident = self.at[start:], self.resident[start:]
        middle = mean(at)
        level = mean(resident)
        spread = sum((one - middle) ** 2 for one in at)
        if spread == 0:
            return 0.0
        return 60 * sum((a - middle) * (r - level) for a, r in zip(at, resident, strict=True)) / spread


async def soak(
    bench: Bench, minutes: float, *, rate: float | None = None, on_postgres: bool = False
) -> Report:
    """Submit, run and erase; at half the highest rate unless it is given."""
    submit = requests.submit(requests.chat_body(1024), x_bf_async_job_result_ttl=str(_TTL))
    async with AsyncExitStack() as stack:
        server = stack.enter_context(postgres_server()) if on_postgres else None
        vendor = await stack.enter_async_context(bench.vendor())
        store = server.url() if server is not None else None
        gateway = await stack.enter_async_context(bench.gateway(vendor, store=store))
        if rate is None:
            rate = best_rate([await run_jobs(gateway, vendor, submit, _PROBE) for _ in range(_PROBES)]) / 2
        before, completed_before = finished(gateway), completed(gateway)
        bench.say(f"{minutes:g} minutes at {rate:.0f} jobs/s")
        load = Load(gateway.port, lambda: submit, CLIENTS)
        watched = Watched(lambda: _wal(gateway.directory) if server is None else server.data_bytes() / _MIB)
        async with watching(gateway, vendor, watched):
            sample = await open_loop(load, gateway.meter(vendor), minutes * 60, rate=rate)
        lost = await _lost(gateway, before + sample.count)
        kept = [] if server is None else await _kept(server, sample.rate)
        failed = sample.count - lost - (completed(gateway) - completed_before)
        left = await _left_at_rest(gateway, vendor, min(_REST, minutes * 60))
    of_store = on_sqlite(watched) if server is None else [*on_disk(watched), *kept]
    return Report(
        "soak",
        [Figure("submit, run, settle, erase", [_told(sample, watched)])],
        [*of_store, *checks(watched, lost=lost, failed=failed, left=left)],
    )


def on_sqlite(watched: Watched) -> list[Check]:
    return [at_most("largest WAL", max(watched.store), _WAL_LIMIT, "MiB")]


def on_disk(watched: Watched) -> list[Check]:
    """What is erased makes room for what comes: the tables do not grow."""
    return [
        at_most(
            "tables and indexes in the last quarter, of the third",
            watched.store_growth(),
            1.05,
            note=f"{watched.store[-1]:.0f} MiB at the end, {max(watched.store):.0f} at most",
        )
    ]


async def _kept(server: PostgresServer, rate: float) -> list[Check]:
    connection: Any = await asyncpg.connect(server.url())
    try:
        rows = await connection.fetchval("SELECT count(*) FROM jobs")
    finally:
        await connection.close()
    return [
        at_most(
            "jobs kept at the end, of those of the last 75 s",
            rows / (rate * (_TTL + _ERASED_WITHIN)),
            1.0,
            note=f"{rows} rows at {rate:.0f} jobs/s with a TTL of {_TTL} s",
        )
    ]


def checks(watched: Watched, *, lost: int, failed: int, left: int) -> list[Check]:
    """What has to hold at the end, whatever the store."""
    return [
        at_most(
            "growth of resident memory",
            watched.slope(),
            1.0,
            "MiB/min",
            note=f"{watched.resident[-1]:.0f} MiB at the end",
        ),
        at_most(
            "more descriptors in the last quarter than in the third",
            watched.more_descriptors(),
            _MORE_DESCRIPTORS,
            note=f"{min(watched.descriptors)} to {max(watched.descriptors)} were open beside the vendor's connections",
        ),
        at_most(
            "connections to the vendor left at rest",
            left,
            _LEFT,
            note=f"{min(watched.calls)} to {max(watched.calls)} were open under load",
        ),
        at_most("jobs lost", lost, 0),
        at_most("jobs that ended without a result", failed, 0),
    ]


def _last_quarters(values: list[T]) -> tuple[list[T], list[T]]:
    """The last quarter, and the one before it."""
    quarter = max(1, len(values) // 4)
    last, before = values[-quarter:], values[-2 * quarter : -quarter]
    return last, before or last


def _told(sample: Sample, watched: Watched) -> Sample:
    return replace(sample, facts={"most_mib": max(watched.resident)})


@asynccontextmanager
async def watching(gateway: Server, vendor: Server, watched: Watched) -> AsyncIterator[None]:
    """Looks as long as the load lasts. Raises what made looking impossible: half a look would pass for a whole one."""
    task = asyncio.create_task(_watch(gateway, vendor, watched))
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _watch(gateway: Server, vendor: Server, watched: Watched) -> None:
    began = time.monotonic()
    while True:
        watched.look(gateway, vendor, time.monotonic() - began)
        await asyncio.sleep(_LOOK_EVERY)


async def _lost(gateway: Server, expected: int) -> int:
    """Jobs that have not ended ten seconds after the last submit."""
    give_up = time.monotonic() + 10
    while (missing := expected - finished(gateway)) > 0 and time.monotonic() < give_up:
        await asyncio.sleep(0.1)
    return missing


async def _left_at_rest(gateway: Server, vendor: Server, seconds: float) -> int:
    """Connections to the vendor, once the idle ones have had time to be closed."""
    give_up = time.monotonic() + seconds
    while (left := _calls(gateway, vendor)) > _LEFT and time.monotonic() < give_up:
        await asyncio.sleep(0.1)
    return left


def _calls(gateway: Server, vendor: Server) -> int:
    return sockets.connections_to(vendor.port, gateway.child.pids)


def _wal(directory: Path) -> float:
    return sum(path.stat().st_size for path in directory.rglob("*-wal")) / _MIB
