"""Several processes on one database: a second worker brings something, an idle gateway takes nothing."""

import asyncio
import time
from contextlib import AsyncExitStack
from typing import Final

from benchmarks.bench import CLIENTS, Bench, Measure, Server
from benchmarks.load import requests
from benchmarks.load.loops import send_all
from benchmarks.load.session import Load
from benchmarks.machine.http import fetch, fetch_json
from benchmarks.machine.postgres import PostgresServer, postgres_server
from benchmarks.report import Figure, Report, at_least
from benchmarks.samples import Sample, best_rate

_ONE: Final = "one worker, vendor 200 ms"
_TWO: Final = "two workers, vendor 200 ms"
_IDLE: Final = "one worker, vendor 200 ms, three gateways that rest"
_FLEETS: Final = ((_ONE, 1, 0), (_TWO, 2, 0), (_IDLE, 1, 3))
"""Workers, and gateways that rest."""
_CONNECTIONS: Final = "200"
"""Twelve for each of ten processes, and some."""
_SCRIPT: Final = {"rules": [{"model": "echo", "latency": 0.2}]}
_AT_ONCE: Final = 50
"""Jobs of one worker: it is the limit, not the machine."""
_LOOK_EVERY: Final = 0.02
_MOST: Final = 120.0


async def run(bench: Bench) -> Report:
    """Jobs a second of one worker, of two, and of one beside gateways that have nothing to do."""
    async with AsyncExitStack() as stack:
        server = stack.enter_context(postgres_server(max_connections=_CONNECTIONS))
        found = await bench.rounds(
            {
                name: await _fleet(bench, stack, server, f"fleet_{number}", workers=workers, idle=idle)
                for number, (name, workers, idle) in enumerate(_FLEETS)
            }
        )
    one = best_rate(found[_ONE])
    return Report(
        "fleet",
        [Figure(name, rounds) for name, rounds in found.items()],
        [
            at_least("rate of two workers, of one", best_rate(found[_TWO]) / one, 1.6),
            at_least(
                "rate beside three gateways that rest, of that without", best_rate(found[_IDLE]) / one, 0.95
            ),
        ],
    )


async def _fleet(
    bench: Bench, stack: AsyncExitStack, server: PostgresServer, database: str, *, workers: int, idle: int
) -> Measure:
    """On a database of its own; while another is measured it rests."""
    server.create(database)
    store = server.url(database)
    vendor = await stack.enter_async_context(bench.vendor(_SCRIPT))
    gateways = [
        await stack.enter_async_context(bench.gateway(vendor, store=store, works=False))
        for _ in range(1 + idle)
    ]
    for _ in range(workers):
        await stack.enter_async_context(bench.worker(vendor, store=store, concurrency=_AT_ONCE))
    return _jobs(bench, gateways[0], vendor, workers)


def _jobs(bench: Bench, gateway: Server, vendor: Server, workers: int) -> Measure:
    """From the first submit to the vendor's last answer; the queue is long all the while."""
    count = workers * (500 if bench.pace.is_quick else 1000)

    async def measure() -> Sample:
        submit = requests.submit(requests.chat_body(1024))
        fetch(vendor.port, "DELETE", "/mock/calls")
        began = time.perf_counter()
        async with asyncio.timeout(_MOST):
            await send_all(Load(gateway.port, lambda: submit, CLIENTS), count)
            while fetch_json(vendor.port, "/mock/calls")["by_status"].get("200", 0) < count:
                await asyncio.sleep(_LOOK_EVERY)
        return Sample(count, time.perf_counter() - began)

    return measure
