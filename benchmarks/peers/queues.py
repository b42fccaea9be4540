"""Job queues beside ours, round by round in turns on one PostgreSQL: the process on the server's core, the database on the other."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from msgspec import Struct

from benchmarks.bench import Bench, Measure
from benchmarks.jobs import run_jobs
from benchmarks.load import requests
from benchmarks.machine.postgres import PostgresServer, postgres_server
from benchmarks.peers.installing import LEFT_OUT, environment, why
from benchmarks.report import Check, Figure, Report, at_least
from benchmarks.samples import Sample, best_rate
from benchmarks.scenarios.postgres import NO_OP, ON_POSTGRES, asked

_BODY: Final = 1024
_QUICK: Final = 4
"""A quick look takes one job in so many."""


class Queue(Struct, frozen=True):
    """One of the others. Its name is that of its program in ``children``, and of its database."""

    name: str
    packages: Sequence[str]
    settings: Mapping[str, Mapping[str, int]]
    """What its program is asked for, by the name of the measurement."""
    count: int
    """Jobs a round: some seconds of them."""
    ours: str
    """The measurement of ours that stands beside it."""
    target: float
    """How many times its rate ours is meant to be."""


QUEUES: Final = (
    Queue(
        "pgqueuer",
        ("pgqueuer[asyncpg]==1.6.*", "uvloop"),
        {
            # As ours: each job is durable by itself, for whoever brought it.
            "pgqueuer, jobs one by one from 64 callers": {
                "workers": 1, "fetched": 500, "callers": 64, "enqueued": 1,
            },
            # What the benchmark in its repository does when it is told nothing.
            "pgqueuer, as its own benchmark: 5 workers, batches of 10": {
                "workers": 5, "fetched": 10, "callers": 1, "enqueued": 10,
            },
            "pgqueuer, 1 worker, batches of 50": {
                "workers": 1, "fetched": 50, "callers": 1, "enqueued": 50,
            },
            # Its guide says to fetch more at once where jobs are short; still more brought nothing.
            "pgqueuer, at its fastest: 1 worker, one caller with 1 000 jobs a statement": {
                "workers": 1, "fetched": 500, "callers": 1, "enqueued": 1000,
            },
        },
        count=8000,
        ours=NO_OP,
        target=1.5,
    ),
    Queue(
        "procrastinate",
        ("procrastinate==3.10.*", "psycopg[binary]", "uvloop"),
        {
            # As a first program does it that follows its guide.
            "procrastinate, jobs one by one from 1 caller, 1 worker": {
                "workers": 1, "at_once": 1, "callers": 1, "deferred": 1,
            },
            # As ours on the way in, and a worker as it starts when it is told nothing.
            "procrastinate, jobs one by one from 64 callers, 1 worker": {
                "workers": 1, "at_once": 1, "callers": 64, "deferred": 1,
            },
            # The example of its guide.
            "procrastinate, 1 worker with 30 jobs at once": {
                "workers": 1, "at_once": 30, "callers": 1, "deferred": 500,
            },
            # Its guide says to start more workers, as each fetches one job after the other; still more brought nothing.
            "procrastinate, at its fastest: 8 workers with 8 jobs at once": {
                "workers": 8, "at_once": 8, "callers": 1, "deferred": 500,
            },
        },
        count=2000,
        ours=ON_POSTGRES,
        target=10,
    ),
)  # fmt: skip


async def measure(bench: Bench, place: Path) -> list[Report]:
    """A report for each of the others; ``place`` keeps what was installed."""
    async with AsyncExitStack() as stack:
        server = stack.enter_context(postgres_server())
        measures = await _ours(bench, stack, server)
        missing = {}
        for queue in QUEUES:
            try:
                measures |= await _theirs(queue, bench, stack, server, place)
            except LEFT_OUT as error:
                missing[queue.name] = why(error)
        found = await bench.rounds(side_by_side(measures))
    return [report_of(queue, found, missing.get(queue.name)) for queue in QUEUES]


async def _ours(bench: Bench, stack: AsyncExitStack, server: PostgresServer) -> dict[str, Measure]:
    server.create("ours_store", "ours_gateway")
    child = stack.enter_context(bench.part("postgres", server.url("ours_store")))
    vendor = await stack.enter_async_context(bench.vendor())
    gateway = await stack.enter_async_context(bench.gateway(vendor, store=server.url("ours_gateway")))
    submit, count = requests.submit(requests.chat_body(_BODY)), _jobs(bench, 8000)
    return {
        NO_OP: asked(child, "jobs", count=count),
        ON_POSTGRES: lambda: run_jobs(gateway, vendor, submit, count),
    }


async def _theirs(
    queue: Queue, bench: Bench, stack: AsyncExitStack, server: PostgresServer, place: Path
) -> dict[str, Measure]:
    """Raises one of ``LEFT_OUT`` when it cannot be installed or does not run."""
    bench.say(f"installing {queue.name}")
    programs = await asyncio.to_thread(environment, place, queue.name, *queue.packages)
    server.create(queue.name)
    part = bench.part(queue.name, server.url(queue.name), interpreter=str(programs / "python"))
    child = stack.enter_context(part)
    await child.ask("empty")
    return {
        name: asked(child, "jobs", count=_jobs(bench, queue.count), **setting)
        for name, setting in queue.settings.items()
    }


def side_by_side(measures: Mapping[str, Measure]) -> dict[str, Measure]:
    """Ours right before those that it is compared with."""
    names = [name for queue in QUEUES for name in (queue.ours, *queue.settings)]
    return {name: measures[name] for name in names if name in measures}


def _jobs(bench: Bench, count: int) -> int:
    return count // _QUICK if bench.pace.is_quick else count


def report_of(queue: Queue, found: Mapping[str, list[Sample]], missing: str | None) -> Report:
    """``missing`` says why it was left out, where it was."""
    figures = [Figure(name, found[name]) for name in (queue.ours, *queue.settings) if name in found]
    if missing is not None:
        return Report(queue.name, figures, failure=f"left out: {missing}")
    ours = found[queue.ours]
    return Report(queue.name, figures, [_check(queue, ours, name, found[name]) for name in queue.settings])


def _check(queue: Queue, ours: Sequence[Sample], name: str, theirs: Sequence[Sample]) -> Check:
    ratios = [mine.rate / other.rate for mine, other in zip(ours, theirs, strict=True)]
    here, there = best_rate(ours), best_rate(theirs)
    return at_least(
        f"{queue.ours}, of {name}",
        here / there,
        queue.target,
        note=f"{here:.0f} and {there:.0f} jobs/s; round by round {min(ratios):.2f}–{max(ratios):.2f}",
    )
