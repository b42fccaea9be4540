"""Submit, run and settle: what one job costs in the one gateway process."""

from contextlib import AsyncExitStack
from typing import Final

import msgspec

from benchmarks.bench import CLIENTS, Bench, Measure, Server, vendor_url
from benchmarks.jobs import run_jobs
from benchmarks.load import requests
from benchmarks.load.loops import closed_loop
from benchmarks.load.session import Load
from benchmarks.machine.processes import Child
from benchmarks.report import Figure, Report, at_least, at_most
from benchmarks.samples import Sample, best_rate, least_cpu

_SCRIPT: Final = {
    "rules": [{"model": "hang", "hang": "before_headers"}, {"model": "slow-200", "latency": 0.2}]
}
_IN_FLIGHT: Final = 2000
_BODY: Final = 1024

AT_ONCE: Final = "end to end, vendor at once"
SLOW: Final = "end to end, vendor 200 ms, 2 000 in flight"
SUBMIT: Final = "submit alone"
CALL: Final = "upstream call alone"


async def run(bench: Bench) -> Report:
    """CPU of one job from submit to settle in the one gateway process, and the rate with a slow vendor."""
    async with AsyncExitStack() as stack:
        found = await bench.rounds(await measures(bench, stack))
    once, slow = found[AT_ONCE], found[SLOW]
    submit, call = least_cpu(found[SUBMIT]), least_cpu(found[CALL])
    return Report(
        "end-to-end",
        [Figure(name, rounds) for name, rounds in found.items()],
        [
            at_most("CPU per job", least_cpu(once), 260, "µs"),
            at_most(
                "CPU per job, by its parts",
                least_cpu(once),
                submit + 2.5 * call,
                "µs",
                note=f"{submit:.0f} µs a submit + 2.5 × {call:.0f} µs a bare upstream call",
            ),
            at_least(
                "rate with a 200 ms vendor, of the rate with one that answers at once",
                best_rate(slow) / best_rate(once),
                0.70,
                note=f"{best_rate(slow):.0f} and {best_rate(once):.0f} jobs/s, "
                f"{max(sample.facts['in_flight'] for sample in slow):.0f} calls in flight",
            ),
        ],
    )


async def measures(bench: Bench, stack: AsyncExitStack) -> dict[str, Measure]:
    """A gateway for each row: they share a core, and rest while another is measured."""
    vendor = await stack.enter_async_context(bench.vendor(_SCRIPT))
    quick = await stack.enter_async_context(bench.gateway(vendor))
    patient = await stack.enter_async_context(bench.gateway(vendor, concurrency=_IN_FLIGHT))
    blocked = await stack.enter_async_context(bench.gateway(vendor, concurrency=1))
    upstream = stack.enter_context(bench.part("upstream", vendor_url(vendor)))
    count = _jobs(bench)
    return {
        AT_ONCE: lambda: run_jobs(quick, vendor, _submit("openai/echo"), count),
        SLOW: lambda: run_jobs(patient, vendor, _submit("openai/slow-200"), count),
        SUBMIT: lambda: _submits(bench, blocked),
        CALL: lambda: _calls(upstream, count),
    }


def _jobs(bench: Bench) -> int:
    return 3000 if bench.pace.is_quick else 15_000


def _submit(model: str) -> bytes:
    return requests.submit(requests.chat_body(_BODY, model))


async def _submits(bench: Bench, blocked: Server) -> Sample:
    """Jobs that never run: their lane has one place, taken by a call that is never answered."""
    request = _submit("openai/hang")
    return await closed_loop(
        Load(blocked.port, lambda: request, CLIENTS), blocked.meter(), bench.pace.seconds
    )


async def _calls(upstream: Child, count: int) -> Sample:
    return msgspec.convert(await upstream.ask("calls", count=count), Sample)
