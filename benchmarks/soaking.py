"""A soak: half of what the gateway can do, for minutes, and nothing may grow or get lost."""

import asyncio
import time
from pathlib import Path
from statistics import mean
from typing import Final

from msgspec.structs import replace

from benchmarks.bench import CLIENTS, Bench, Server
from benchmarks.jobs import finished, run_jobs
from benchmarks.load import requests
from benchmarks.load.loops import open_loop
from benchmarks.load.session import Load
from benchmarks.machine.proc import resident_bytes
from benchmarks.report import Check, Figure, Report, at_most
from benchmarks.samples import Sample

_PROBE: Final = 3000
_LOOK_EVERY: Final = 5.0
_MIB: Final = 2**20
_WAL_LIMIT: Final = 64
"""MiB (``journal_size_limit``)."""
_TTL: Final = "30"
"""Seconds a result is kept: what is soaked includes erasing."""
_WARM_UP: Final = 0.2
"""Share of the time that does not count: until as much is erased as comes in."""


class Watched:
    """What was seen every few seconds."""

    def __init__(self) -> None:
        self.at: list[float] = []
        self.resident: list[float] = []
        self.descriptors: list[int] = []
        self.wal: list[float] = []

    def look(self, gateway: Server, now: float) -> None:
        self.at.append(now)
        self.resident.append(resident_bytes(gateway.child.pid) / _MIB)
        self.descriptors.append(len(list(Path(f"/proc/{gateway.child.pid}/fd").iterdir())))
        self.wal.append(_wal(gateway.directory))

    def more_descriptors(self) -> float:
        """In the last quarter than in the one before it, on average: connections to vendors come and go."""
        quarter = max(1, len(self.descriptors) // 4)
        last, before = self.descriptors[-quarter:], self.descriptors[-2 * quarter : -quarter]
        return mean(last) - mean(before or last)

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


async def soak(bench: Bench, minutes: float) -> Report:
    """Submit, run and erase at half the highest rate."""
    submit = requests.submit(requests.chat_body(1024), x_bf_async_job_result_ttl=_TTL)
    async with bench.vendor() as vendor, bench.gateway(vendor) as gateway:
        probe = await run_jobs(gateway, vendor, submit, _PROBE)
        before = finished(gateway)
        rate = probe.rate / 2
        bench.say(f"{minutes:g} minutes at {rate:.0f} jobs/s")
        watched = Watched()
        watching = asyncio.create_task(_watch(gateway, watched))
        load = Load(gateway.port, lambda: submit, CLIENTS)
        sample = await open_loop(load, gateway.meter(vendor), minutes * 60, rate=rate)
        watching.cancel()
        lost = await _lost(gateway, before + sample.count)
    return Report(
        "soak", [Figure("submit, run, settle, erase", [_told(sample, watched)])], _checks(watched, lost)
    )


def _checks(watched: Watched, lost: int) -> list[Check]:
    return [
        at_most(
            "growth of resident memory",
            watched.slope(),
            1.0,
            "MiB/min",
            note=f"{watched.resident[-1]:.0f} MiB at the end",
        ),
        at_most("largest WAL", max(watched.wal), _WAL_LIMIT, "MiB"),
        at_most("growth of descriptors in the second half", watched.more_descriptors(), 16),
        at_most("jobs lost", lost, 0),
    ]


def _told(sample: Sample, watched: Watched) -> Sample:
    return replace(sample, facts={"most_mib": max(watched.resident)})


async def _watch(gateway: Server, watched: Watched) -> None:
    began = time.monotonic()
    while True:
        watched.look(gateway, time.monotonic() - began)
        await asyncio.sleep(_LOOK_EVERY)


async def _lost(gateway: Server, expected: int) -> int:
    """Jobs that have not ended ten seconds after the last submit."""
    give_up = time.monotonic() + 10
    while (missing := expected - finished(gateway)) > 0 and time.monotonic() < give_up:
        await asyncio.sleep(0.1)
    return missing


def _wal(directory: Path) -> float:
    return sum(path.stat().st_size for path in directory.rglob("*-wal")) / _MIB
