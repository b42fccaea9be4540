"""The store on its own: what sharing a sync brings."""

from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

import msgspec

from benchmarks.bench import CLIENTS, Bench, Measure
from benchmarks.report import Figure, Report, at_least
from benchmarks.samples import Sample, best_rate

SHARED: Final = f"accept, {CLIENTS} waiting"
ALONE: Final = "(c) accept, one commit a row"


async def run(bench: Bench) -> Report:
    """Accept with 64 waiting against one commit a row."""
    async with AsyncExitStack() as stack:
        found = await bench.rounds(
            {SHARED: accepts(bench, stack, CLIENTS), ALONE: accepts(bench, stack, waiting=1)}
        )
    shared, alone = best_rate(found[SHARED]), best_rate(found[ALONE])
    return Report(
        "store",
        [Figure(name, rounds) for name, rounds in found.items()],
        [
            at_least(
                "accept with 64 waiting, of (c)",
                shared / alone,
                10,
                note=f"{shared:.0f} and {alone:.0f} rows/s",
            )
        ],
    )


def accepts(bench: Bench, stack: AsyncExitStack, waiting: int, source: Path | None = None) -> Measure:
    """Accepts at the store's port, by so many clients at a time."""
    child = stack.enter_context(bench.part("store", source=source))

    async def measure() -> Sample:
        return msgspec.convert(await child.ask("accept", seconds=bench.pace.seconds, waiting=waiting), Sample)

    return measure
