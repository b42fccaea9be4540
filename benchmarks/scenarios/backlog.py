"""A long queue must cost no more than a short one."""

from typing import Final

import msgspec

from benchmarks.bench import Bench
from benchmarks.machine.proc import resident_bytes
from benchmarks.machine.processes import Child
from benchmarks.report import Check, Figure, Report, at_most
from benchmarks.samples import Sample, least_cpu

_SHORT: Final = 1000
_LONG: Final = 1_000_000
_LONG_QUICK: Final = 100_000
_JOBS: Final = 4096
_MIB: Final = 2**20
_STEPS: Final = ("accept", "claim", "settle")


async def run(bench: Bench) -> Report:
    """Accept, claim and settle in front of 1 000 and of 1 000 000 pending jobs, and the memory it takes."""
    long = _LONG_QUICK if bench.pace.is_quick else _LONG
    with bench.part("backlog") as child:
        await child.ask("open", name="short", pending=_SHORT)
        await child.ask("cost", name="short", count=_JOBS)
        before = resident_bytes(child.pid)
        bench.say(f"filling a queue with {long} jobs")
        filled = msgspec.convert(await child.ask("open", name="long", pending=long), Sample)
        await child.ask("cost", name="long", count=_JOBS)
        growth = (resident_bytes(child.pid) - before) / _MIB
        found = await _rounds(bench, child)
    costs = [_check(step, found[step, "short"], found[step, "long"], long) for step in _STEPS]
    return Report(
        "backlog",
        [
            *(
                Figure(f"{step}, {_SHORT if name == 'short' else long} pending", rounds)
                for (step, name), rounds in found.items()
            ),
            Figure(f"filling the queue with {long} jobs", [filled]),
        ],
        [*costs, at_most(f"memory gained with {long} pending jobs", growth, 30, "MiB")],
    )


async def _rounds(bench: Bench, child: Child) -> dict[tuple[str, str], list[Sample]]:
    found: dict[tuple[str, str], list[Sample]] = {
        (step, name): [] for step in _STEPS for name in ("short", "long")
    }
    for number in range(1, bench.pace.rounds + 1):
        bench.say(f"round {number} of {bench.pace.rounds}")
        for name in ("short", "long"):
            for step, sample in (await child.ask("cost", name=name, count=_JOBS)).items():
                found[step, name].append(msgspec.convert(sample, Sample))
    return found


def _check(step: str, short: list[Sample], long: list[Sample], pending: int) -> Check:
    before, after = least_cpu(short), least_cpu(long)
    return at_most(
        f"CPU of {step} with {pending} pending, of that with {_SHORT}",
        after / before,
        1.3,
        note=f"{after:.1f} and {before:.1f} µs a job",
    )
