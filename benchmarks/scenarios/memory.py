"""Memory at rest and under many running jobs; how soon a start is ready."""

import asyncio
import subprocess
import time
from pathlib import Path
from typing import Final

from benchmarks.bench import CLIENTS, Bench, Server
from benchmarks.load import requests
from benchmarks.load.connection import LoadFailed
from benchmarks.load.loops import send_all
from benchmarks.load.session import Load
from benchmarks.machine import cores
from benchmarks.machine.http import fetch_json
from benchmarks.machine.proc import resident_bytes
from benchmarks.machine.processes import environment_for, python
from benchmarks.report import Figure, Report, at_most
from benchmarks.samples import Sample
from benchmarks.scenarios.submit import HANGS, MODEL

_STARTS: Final = 5
_RUNNING: Final = 2000
_TO_REST: Final = 3.0
_START_WITHIN: Final = 60.0
_MIB: Final = 2**20


async def run(bench: Bench) -> Report:
    """Resident memory idle and with 2 000 running jobs; time until ready, and of --help."""
    ready = [await start(bench) for _ in range(_STARTS)]
    said = [await help_text(bench) for _ in range(_STARTS)]
    idle = await idle_memory(bench)
    busy = await _busy_memory(bench)
    return Report(
        "memory",
        [Figure("start until ready", ready), Figure("tidegate --help", said)],
        [
            at_most("resident memory, idle", idle, 80, "MiB"),
            at_most("resident memory, 2 000 running jobs", busy, 200, "MiB"),
            at_most("ready after", min(sample.seconds for sample in ready), 1.0, "s", note="best of five"),
            at_most("tidegate --help", min(sample.seconds for sample in said), 0.5, "s", note="best of five"),
        ],
    )


async def start(bench: Bench, source: Path | None = None) -> Sample:
    """From the start of the process to the first 200 of ``/readyz``, with an empty store."""
    bench.say("start until ready")
    async with bench.vendor() as vendor:
        began = time.perf_counter()
        async with bench.gateway(vendor, source=source):
            return Sample(1, time.perf_counter() - began)


async def help_text(bench: Bench, source: Path | None = None) -> Sample:
    bench.say("--help")
    began = time.perf_counter()
    with cores.on(bench.cores.server):
        subprocess.run(
            python("tidegate", "--help"),
            env=environment_for(source or bench.source),
            stdout=subprocess.DEVNULL,
            check=True,
        )
    return Sample(1, time.perf_counter() - began)


async def idle_memory(bench: Bench, source: Path | None = None) -> float:
    """MiB."""
    bench.say("memory at rest")
    async with bench.vendor() as vendor, bench.gateway(vendor, source=source) as gateway:
        await asyncio.sleep(_TO_REST)
        return resident_bytes(gateway.child.pid) / _MIB


async def _busy_memory(bench: Bench) -> float:
    """MiB with every job in a call that the vendor does not answer."""
    bench.say(f"memory with {_RUNNING} running jobs")
    submit = requests.submit(requests.chat_body(1024, MODEL))
    async with (
        bench.vendor(HANGS) as vendor,
        bench.gateway(vendor, concurrency=_RUNNING) as gateway,
    ):
        await send_all(Load(gateway.port, lambda: submit, CLIENTS), _RUNNING)
        await _until_calling(vendor, _RUNNING)
        await asyncio.sleep(_TO_REST)
        return resident_bytes(gateway.child.pid) / _MIB


async def _until_calling(vendor: Server, count: int) -> None:
    give_up = time.monotonic() + _START_WITHIN
    while (calls := fetch_json(vendor.port, "/mock/calls")["in_flight"]) < count:
        if time.monotonic() > give_up:
            raise LoadFailed(f"only {calls} of {count} jobs are running")
        await asyncio.sleep(0.05)
