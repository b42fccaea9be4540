"""Many machines: what sharing a commit brings on PostgreSQL, and what a job costs there."""

from contextlib import AsyncExitStack
from typing import Any, Final

import msgspec

from benchmarks.bench import CLIENTS, Bench, Measure
from benchmarks.jobs import run_jobs
from benchmarks.load import requests
from benchmarks.machine.postgres import postgres_server
from benchmarks.machine.processes import Child
from benchmarks.report import Figure, Report, at_least, at_most
from benchmarks.samples import Sample, best_rate, least_cpu

SHARED: Final = f"PostgreSQL, accept, {CLIENTS} waiting"
ALONE: Final = f"PostgreSQL, accept, one commit a row on {CLIENTS} connections"
NO_OP: Final = "PostgreSQL, jobs that do nothing, without HTTP"
ON_POSTGRES: Final = "PostgreSQL, end to end, vendor at once"
ON_SQLITE: Final = "SQLite, end to end, vendor at once"
_BODY: Final = 1024


async def run(bench: Bench) -> Report:
    """Group commit on PostgreSQL, jobs that do nothing, and the gateway's CPU per job next to SQLite."""
    async with AsyncExitStack() as stack:
        server = stack.enter_context(postgres_server())
        server.create("bench_store", "bench_gateway")
        child = stack.enter_context(bench.part("postgres", server.url("bench_store")))
        vendor = await stack.enter_async_context(bench.vendor())
        on_sqlite = await stack.enter_async_context(bench.gateway(vendor))
        on_postgres = await stack.enter_async_context(
            bench.gateway(vendor, store=server.url("bench_gateway"))
        )
        submit = requests.submit(requests.chat_body(_BODY))
        count = 2000 if bench.pace.is_quick else 8000
        found = await bench.rounds(
            {
                SHARED: asked(child, "accept", seconds=bench.pace.seconds, waiting=CLIENTS),
                ALONE: asked(child, "accept_alone", seconds=bench.pace.seconds, waiting=CLIENTS),
                NO_OP: asked(child, "jobs", count=count),
                ON_POSTGRES: lambda: run_jobs(on_postgres, vendor, submit, count),
                ON_SQLITE: lambda: run_jobs(on_sqlite, vendor, submit, count),
            }
        )
    shared, alone = best_rate(found[SHARED]), best_rate(found[ALONE])
    there, here = least_cpu(found[ON_POSTGRES]), least_cpu(found[ON_SQLITE])
    return Report(
        "postgres",
        [Figure(name, rounds) for name, rounds in found.items()],
        [
            at_least(
                "PostgreSQL: accept with 64 waiting, of one commit a row on 64 connections",
                shared / alone,
                5,
                note=f"{shared:.0f} and {alone:.0f} rows/s",
            ),
            at_most(
                "PostgreSQL: gateway CPU per job, of that on SQLite",
                there / here,
                1.3,
                note=f"{there:.0f} and {here:.0f} µs",
            ),
        ],
    )


def asked(child: Child, what: str, **facts: Any) -> Measure:
    """On empty tables: what the rounds before left must not be work for this one."""

    async def measure() -> Sample:
        await child.ask("empty")
        return msgspec.convert(await child.ask(what, **facts), Sample)

    return measure
