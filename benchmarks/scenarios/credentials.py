"""Who calls? Asked for every request, so it has to be cheap."""

from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final, Literal

import msgspec

from benchmarks.bench import Bench, Measure
from benchmarks.report import Figure, Report, at_most
from benchmarks.samples import Sample, least_cpu

KEY: Final = "virtual key"
TOKEN: Final = "verified JWT"
_COUNT: Final = 50_000


async def run(bench: Bench) -> Report:
    """Cost of a virtual key and of a token that was verified before."""
    async with AsyncExitStack() as stack:
        found = await bench.rounds({KEY: checks(bench, stack, "key"), TOKEN: checks(bench, stack, "token")})
    return Report(
        "credentials",
        [Figure(name, rounds) for name, rounds in found.items()],
        [
            at_most("virtual-key check", least_cpu(found[KEY]), 5, "µs"),
            at_most("verified JWT, remembered", least_cpu(found[TOKEN]), 10, "µs"),
        ],
    )


def checks(
    bench: Bench, stack: AsyncExitStack, credential: Literal["key", "token"], source: Path | None = None
) -> Measure:
    """The router's own authentication of a request's headers, again and again."""
    child = stack.enter_context(bench.part("checks", source=source))

    async def measure() -> Sample:
        return msgspec.convert(await child.ask("check", credential=credential, count=_COUNT), Sample)

    return measure
