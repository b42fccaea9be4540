"""Polls of finished jobs, and answers that are held until the job has ended."""

import itertools
import json
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from benchmarks.bench import CLIENTS, Bench, Measure, Server
from benchmarks.jobs import run_jobs
from benchmarks.load import requests
from benchmarks.load.histogram import Histogram
from benchmarks.load.loops import closed_loop, send_all
from benchmarks.load.session import Load
from benchmarks.machine.http import fetch
from benchmarks.report import Figure, Report, at_least
from benchmarks.samples import Sample, best_rate, latency_of

CONSTANT: Final = "(a) uvicorn, a constant"
HOLLOW: Final = "(b) our handlers, no store"
POLL: Final = "poll of finished jobs"
LONG_POLL: Final = "long-poll, from the end to the answer"
_JOBS: Final = 500
_SLOW: Final = {"rules": [{"model": "slow-100", "latency": 0.1}]}
_BODY: Final = 1024


class Finished(Struct, frozen=True):
    """A gateway with finished jobs."""

    gateway: Server
    ids: list[str]
    answer: bytes
    """What a poll of one of them is answered with."""

    @property
    def result(self) -> bytes:
        return json.dumps(json.loads(self.answer)["result"], separators=(",", ":")).encode()


async def run(bench: Bench) -> Report:
    """Polls of finished jobs against both yardsticks; latency of an answer that was held."""
    async with AsyncExitStack() as stack:
        vendor = await stack.enter_async_context(bench.vendor(_SLOW))
        finished = await finished_jobs(bench, stack, vendor)
        hollow = await stack.enter_async_context(bench.hollow(finished.result))
        constant = await stack.enter_async_context(bench.constant(receipt=0, result=len(finished.answer)))
        found = await bench.rounds(
            {
                CONSTANT: polls(bench, constant, finished.ids),
                HOLLOW: polls(bench, hollow, finished.ids),
                POLL: polls(bench, finished.gateway, finished.ids),
                LONG_POLL: lambda: _held(bench, finished.gateway),
            }
        )
    a, b, poll = (best_rate(found[name]) for name in (CONSTANT, HOLLOW, POLL))
    return Report(
        "poll",
        [Figure(name, rounds) for name, rounds in found.items()],
        [
            at_least("poll of finished jobs, of (b)", poll / b, 0.65, note=f"{poll:.0f} and {b:.0f}/s"),
            at_least("poll of finished jobs, of (a)", poll / a, 0.35, note=f"{poll:.0f} and {a:.0f}/s"),
            at_least("(b) for poll, of (a)", b / a, 0.55, note=f"{b:.0f} and {a:.0f}/s"),
        ],
    )


async def finished_jobs(
    bench: Bench, stack: AsyncExitStack, vendor: Server, source: Path | None = None
) -> Finished:
    gateway = await stack.enter_async_context(bench.gateway(vendor, source=source))
    submit = requests.submit(requests.chat_body(_BODY), prefer="wait=30")
    ids: list[str] = []
    load = Load(
        gateway.port, lambda: submit, CLIENTS, on_body=lambda body: ids.append(json.loads(body)["id"])
    )
    await send_all(load, _JOBS)
    headers = {"authorization": f"Bearer {requests.KEY}"}
    _, answer = fetch(gateway.port, "GET", f"{requests.CHAT}/{ids[0]}", headers=headers)
    return Finished(gateway, ids, answer)


def polls(bench: Bench, server: Server, ids: list[str]) -> Measure:
    """64 clients ask for one finished job after the other."""
    wheel = itertools.cycle([requests.poll(job_id) for job_id in ids])
    load = Load(server.port, lambda: next(wheel), CLIENTS, expected=frozenset({200}))
    return lambda: closed_loop(load, server.meter(), bench.pace.seconds)


async def _held(bench: Bench, gateway: Server) -> Sample:
    """Submits with ``Prefer: wait`` to a vendor that takes 100 ms.

    The end is the time that stands in the answer, in whole milliseconds, so the figure is up to one too long. It
    is taken when the settle begins: its sync is part of the figure.
    """
    submit = requests.submit(requests.chat_body(_BODY, "openai/slow-100"), prefer="wait=30")
    histogram = Histogram()

    def note(body: bytes) -> None:
        ended = datetime.fromisoformat(json.loads(body)["completed_at"])
        histogram.record(round((datetime.now(UTC) - ended).total_seconds() * 1e6))

    load = Load(gateway.port, lambda: submit, CLIENTS, frozenset({200}), note)
    sample = await closed_loop(load, gateway.meter(), bench.pace.seconds)
    return replace(sample, latency=latency_of(histogram))


__all__ = ["finished_jobs", "polls", "run", "run_jobs"]
