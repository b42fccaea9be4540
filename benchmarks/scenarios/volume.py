"""Millions of rows must cost no more than thousands: neither a job nor a page of a list."""

import asyncio
import itertools
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Any, Final

import msgspec

from benchmarks.bench import Bench, Measure, Server
from benchmarks.load import requests
from benchmarks.load.loops import one_at_a_time
from benchmarks.load.session import Load
from benchmarks.machine.postgres import postgres_server
from benchmarks.machine.processes import Child
from benchmarks.report import Figure, Report, at_most
from benchmarks.samples import Sample, best_rate, latency_of

_FEW: Final = 10_000
_MANY: Final = 5_000_000
_MANY_QUICK: Final = 100_000
_JOBS: Final = 8192
_PAGES: Final = 600
_PAGE: Final = 200
"""Jobs, the longest there is."""
_LISTS: Final = ("", "&order=asc", "&status=failed", "&status=pending", "&status=processing")


async def run(bench: Bench) -> Report:
    """PostgreSQL with 10 000 and with 5 000 000 jobs, a fifth of them pending: cost of a job, pages of lists."""
    many = _MANY_QUICK if bench.pace.is_quick else _MANY
    async with AsyncExitStack() as stack:
        server = stack.enter_context(postgres_server())
        server.create("few", "many")
        measures: dict[str, Measure] = {}
        for name, count in (("few", _FEW), ("many", many)):
            child = stack.enter_context(bench.part("postgres", server.url(name)))
            bench.say(f"filling a database with {count} jobs")
            await child.ask("fill", count=count)
            measures[_cost_with(count)] = _jobs(child)
        found = await bench.rounds(measures)
        vendor = await stack.enter_async_context(bench.vendor())
        gateway = await stack.enter_async_context(
            bench.gateway(vendor, store=server.url("many"), works=False)
        )
        bench.say(f"{_PAGES} pages of lists")
        pages, slow = await _pages(gateway)
    few, lots = best_rate(found[_cost_with(_FEW)]), best_rate(found[_cost_with(many)])
    return Report(
        "volume",
        [
            *(Figure(name, rounds) for name, rounds in found.items()),
            Figure(f"page of {_PAGE} jobs of {many}", [pages]),
        ],
        [
            at_most(
                f"PostgreSQL: time of a job with {many} rows, of that with {_FEW}",
                few / lots,
                1.3,
                note=f"{1e6 / lots:.0f} and {1e6 / few:.0f} µs",
            ),
            at_most(f"PostgreSQL: page of a list at {many} jobs, p95", slow, 50, "ms"),
        ],
    )


def _cost_with(count: int) -> str:
    return f"PostgreSQL with {count} jobs, jobs that do nothing"


def _jobs(child: Child) -> Measure:
    """As many in as out: the queue is as long as before."""

    async def measure() -> Sample:
        return msgspec.convert(await child.ask("jobs", count=_JOBS), Sample)

    return measure


async def _pages(gateway: Server) -> tuple[Sample, float]:
    """From both ends, of few among many, and from one page to the next; with the 95th percentile in milliseconds."""
    cursors: list[str] = []

    def paths() -> Iterator[str]:
        for chosen in itertools.cycle((*_LISTS, None)):
            yield f"&after={cursors[-1]}" if chosen is None and cursors else chosen or ""

    def note(body: bytes) -> None:
        answer: dict[str, Any] = msgspec.json.decode(body)
        if len(answer["data"]) == _PAGE and asked[-1] not in _LISTS[1:]:
            cursors.append(answer["next_cursor"])

    asked: list[str] = []
    wanted = paths()

    def next_request() -> bytes:
        asked.append(next(wanted))
        key = {"authorization": f"Bearer {requests.KEY}"}
        return requests.get(f"/v1/async/jobs?limit={_PAGE}{asked[-1]}", key)

    load = Load(gateway.port, next_request, connections=1, expected=frozenset({200}), on_body=note)
    began = time.perf_counter()
    histogram = await asyncio.wait_for(one_at_a_time(load, _PAGES, pause=0), 300)
    sample = Sample(_PAGES, time.perf_counter() - began, latency=latency_of(histogram))
    return sample, histogram.percentile(0.95) / 1000
