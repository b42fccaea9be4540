"""Submits over HTTP that are durable when they are answered.

The jobs never run: their lane has one place (concurrency 1), taken by a call that the vendor never answers. The
worker then has no room and does nothing, and what is measured is the submit alone, in the shipped process.
"""

import asyncio
import json
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from benchmarks.bench import CLIENTS, Bench, Measure, Server
from benchmarks.load import requests
from benchmarks.load.loops import closed_loop, one_at_a_time, open_loop
from benchmarks.load.session import Load
from benchmarks.machine.disk import measure_fsync
from benchmarks.machine.http import fetch
from benchmarks.report import Check, Figure, Report, at_least, at_most
from benchmarks.samples import Sample, best_rate, latency_of, typical

HANGS: Final = {"rules": [{"model": "hang", "hang": "before_headers"}]}
MODEL: Final = "openai/hang"
KIB: Final = 1024

CONSTANT: Final = "(a) uvicorn, a constant"
HOLLOW: Final = "(b) our handlers, no store"
DURABLE: Final = "durable submit, 1 KB"
LARGE: Final = "durable submit, 20 KB"
HUGE: Final = "durable submit, 200 KB"
HALF: Final = "durable submit, half load, open loop"
IDLE: Final = "durable submit, one client, idle"
FSYNC: Final = "(d) one fsync"
_IDLE_SUBMITS: Final = 100
_IDLE_PAUSE: Final = 0.02


async def run(bench: Bench) -> Report:
    """Durable submits over HTTP: rates, body sizes, latency under full load, half load and alone."""
    async with AsyncExitStack() as stack:
        gateway = await blocked_gateway(bench, stack)
        found = await bench.rounds(
            {
                CONSTANT: await constant(bench, stack, gateway),
                HOLLOW: await hollow(bench, stack),
                DURABLE: submits(bench, gateway, KIB),
                LARGE: submits(bench, gateway, 20 * KIB),
                HUGE: submits(bench, gateway, 200 * KIB),
            }
        )
        rate = best_rate(found[DURABLE]) / 2
        found |= await bench.rounds(
            {
                FSYNC: lambda: fsyncs(bench),
                HALF: lambda: open_loop(_load(gateway, KIB), gateway.meter(), bench.pace.seconds, rate=rate),
                IDLE: lambda: _alone(gateway),
            }
        )
    return Report("submit", [Figure(name, rounds) for name, rounds in found.items()], _checks(found))


def _checks(found: dict[str, list[Sample]]) -> list[Check]:
    a, b, durable = (best_rate(found[name]) for name in (CONSTANT, HOLLOW, DURABLE))
    large = best_rate(found[LARGE])
    sync_p50 = typical(found[FSYNC], lambda latency: latency.p50)
    sync_p99 = typical(found[FSYNC], lambda latency: latency.p99)
    alone = typical(found[IDLE], lambda latency: latency.p50)
    return [
        at_least("durable submit, of (b)", durable / b, 0.60, note=f"{durable:.0f} and {b:.0f}/s"),
        at_least("durable submit, of (a)", durable / a, 0.35, note=f"{durable:.0f} and {a:.0f}/s"),
        at_least("(b) for submit, of (a)", b / a, 0.55, note=f"{b:.0f} and {a:.0f}/s"),
        at_least("20 KB bodies, of the 1 KB rate", large / durable, 0.50, note=f"{large:.0f}/s"),
        at_most("p99 at full load", typical(found[DURABLE], lambda latency: latency.p99), 50, "ms"),
        at_most(
            "p99 at half load",
            typical(found[HALF], lambda latency: latency.p99),
            10 + sync_p99,
            "ms",
            note=f"10 ms + {sync_p99:.2f} ms, p99 of (d); {durable / 2:.0f}/s",
        ),
        at_most(
            "one submit alone, beyond (d)",
            alone - sync_p50,
            2,
            "ms",
            note=f"medians: {alone:.2f} ms less {sync_p50:.2f} ms",
        ),
    ]


async def blocked_gateway(bench: Bench, stack: AsyncExitStack, source: Path | None = None) -> Server:
    """A gateway whose jobs wait for ever."""
    vendor = await stack.enter_async_context(bench.vendor(HANGS))
    return await stack.enter_async_context(bench.gateway(vendor, source=source, concurrency=1))


def submits(bench: Bench, server: Server, size: int) -> Measure:
    """Submits of this size by 64 clients."""
    load = _load(server, size)
    return lambda: closed_loop(load, server.meter(), bench.pace.seconds)


async def hollow(bench: Bench, stack: AsyncExitStack) -> Measure:
    server = await stack.enter_async_context(bench.hollow(b"{}"))
    return submits(bench, server, KIB)


async def constant(bench: Bench, stack: AsyncExitStack, gateway: Server) -> Measure:
    """With an answer as long as the gateway's."""
    headers = {"authorization": f"Bearer {requests.KEY}"}
    _, receipt = fetch(
        gateway.port, "POST", requests.CHAT, headers=headers, body=requests.chat_body(KIB, MODEL)
    )
    json.loads(receipt)["id"]
    server = await stack.enter_async_context(bench.constant(receipt=len(receipt), result=0))
    return submits(bench, server, KIB)


async def fsyncs(bench: Bench) -> Sample:
    histogram = await asyncio.to_thread(measure_fsync, bench.directory, bench.pace.seconds / 3)
    return Sample(histogram.count, bench.pace.seconds / 3, latency=latency_of(histogram))


async def _alone(gateway: Server) -> Sample:
    histogram = await one_at_a_time(_load(gateway, KIB), _IDLE_SUBMITS, _IDLE_PAUSE)
    return Sample(histogram.count, _IDLE_SUBMITS * _IDLE_PAUSE, latency=latency_of(histogram))


def _load(server: Server, size: int) -> Load:
    request = requests.submit(requests.chat_body(size, MODEL))
    return Load(server.port, lambda: request, CLIENTS)
